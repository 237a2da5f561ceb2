//! A disk that is soon full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use super::unmount::unmount;

/// The file that takes the room away.
const BALLAST: &str = ".ballast";
/// Bytes that the ballast grows by at once.
const CHUNK: usize = 256 << 10;

/// A file system in memory of a given size, unmounted when this is dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk of `capacity_bytes` on the directory `path`.
    ///
    /// # Errors
    /// There is no such directory, or this program may not mount.
    pub fn mount(path: &Path, capacity_bytes: u64) -> io::Result<Self> {
        let path = path.canonicalize().map_err(|error| said("mount a small disk on", path, &error))?;
        let options = format!("size={capacity_bytes},mode=755");
        mount(Some("chaos-small"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|error| said("mount a small disk on", &path, &error.into()))?;
        Ok(Self { path })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes room away until `leave_free_bytes` are free, or as many as there were if that is less.
    ///
    /// # Errors
    /// The file system's.
    pub fn fill(&self, leave_free_bytes: u64) -> io::Result<()> {
        let fill = || -> io::Result<()> {
            let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
            let chunk = vec![0xB5; CHUNK];
            loop {
                let more = self.free_bytes()?.saturating_sub(leave_free_bytes).min(CHUNK as u64);
                if more == 0 {
                    return Ok(());
                }
                match ballast.write(&chunk[..more as usize]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        fill().map_err(|error| said("fill", &self.path, &error))
    }

    /// Gives the room back that [`SmallDisk::fill`] took.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_room(&self) -> io::Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(said("make room on", &self.path, &error)),
            _ => Ok(()),
        }
    }

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// The file system's.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let space = statvfs(&self.path).map_err(|error| said("ask for the room of", &self.path, &error.into()))?;
        Ok(space.blocks_available() * space.fragment_size())
    }

    fn ballast(&self) -> PathBuf {
        self.path.join(BALLAST)
    }
}

fn said(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path)
            && !thread::panicking()
        {
            eprintln!("chaos: {error}");
        }
    }
}
