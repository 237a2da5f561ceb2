//! Files that SQLite owns, read beside it.
//!
//! SQLite itself always works on the real file system, in the simulator too (each simulated machine has a
//! temporary directory), so what is read beside it is read there as well. These calls block: make them inside
//! [`crate::task::blocking`].

#![allow(clippy::disallowed_methods, reason = "this is what the firewall points to beside SQLite")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// What identifies a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The device it lies on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which file it is.
    pub identity: Identity,
    /// Its length in bytes.
    pub len: u64,
}

impl From<&fs::Metadata> for Stat {
    fn from(metadata: &fs::Metadata) -> Self {
        Self { identity: Identity { device: metadata.dev(), inode: metadata.ino() }, len: metadata.len() }
    }
}

/// The state of `path`, or `None` if nothing is there. Opens nothing, so it disturbs no POSIX lock.
///
/// # Errors
/// Whatever `stat` gives other than "not found".
pub fn stat(path: &Path) -> io::Result<Option<Stat>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stat::from(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file open for reading.
#[derive(Debug)]
pub struct ReadFile(fs::File);

impl ReadFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// Whatever `open` gives.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::File::open(path).map(Self)
    }

    /// Which file this is, and its length now.
    ///
    /// # Errors
    /// Whatever `fstat` gives.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&self.0.metadata()?))
    }

    /// Reads into `buffer` from `offset` until it is full or the file ends; answers how much was read.
    ///
    /// # Errors
    /// Whatever `pread` gives.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Holds POSIX write locks on all of a file, so that no SQLite connection of another process can use it.
///
/// Not for databases that this process itself has open: POSIX locks belong to the process, and dropping this drops
/// SQLite's own with it.
#[derive(Debug)]
pub struct WholeFileLock(#[expect(dead_code, reason = "held for its drop")] fs::File);

/// Locks all of the file at `path`; `None` if nothing is there.
///
/// # Errors
/// `WouldBlock` if another process holds any lock on it, or whatever the operating system gives.
pub fn lock_whole_file(path: &Path) -> io::Result<Option<WholeFileLock>> {
    let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(WholeFileLock(file))),
        // POSIX lets systems answer either.
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}
