//! A disk that loses what was not synced when its power is cut.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{BackgroundSession, Config, MountOption, Session};
use rand::Rng;

use super::contents::PAGE;
use super::filesystem::Server;
use super::lost::Lost;
use super::pending::{Ownership, State};
use super::survival::Survival;
use super::syncs::Syncs;
use super::unmount::unmount;
use super::volume::Volume;

/// Threads that answer the kernel.
const THREADS: usize = 2;

/// A disk in memory, mounted by FUSE. What is written to it is pending until it is synced: contents and length of a file by
/// `fsync` or `fdatasync` of that file, its name by `fsync` of the directory. As long as nothing is done to it, it is a disk
/// like any other.
///
/// It is unmounted when this is dropped, lazily if something still has a file open. If the program that owns it is killed, the
/// mount point stays behind and every use of it is an error: whoever may be killed mounts in a mount namespace of its own.
pub struct FaultyDisk {
    path: PathBuf,
    volume: Arc<Mutex<Volume>>,
    syncs: Arc<Syncs>,
    session: Option<BackgroundSession>,
}

impl FaultyDisk {
    /// Why there can be none here, if there cannot.
    pub fn missing() -> Option<String> {
        let device = Path::new("/dev/fuse");
        (!device.exists())
            .then(|| format!("{} is not there: the kernel or the container has no FUSE", device.display()))
    }

    /// Mounts an empty disk of `capacity_bytes` on the directory `path`.
    ///
    /// # Errors
    /// There is no such directory, or FUSE cannot be used here (no `/dev/fuse`, neither root nor `fusermount3`).
    pub fn mount(path: &Path, capacity_bytes: u64) -> io::Result<Self> {
        let said = |error: io::Error| {
            let text = format!("cannot mount a FUSE disk on {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        };
        let path = path.canonicalize().map_err(said)?;
        let owner = std::fs::metadata("/proc/self").map_err(said)?;
        let (user, group) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
        let ownership = Ownership { permissions: 0o755, user, group, modified: SystemTime::now() };
        let volume = Arc::new(Mutex::new(Volume::new(State::new(capacity_bytes, ownership))));
        let syncs = Arc::new(Syncs::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("chaos-disk".to_owned()), MountOption::DefaultPermissions];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let server = Server::new(Arc::clone(&volume), Arc::clone(&syncs));
        let session = Session::new(server, &path, &config).and_then(Session::spawn).map_err(said)?;
        Ok(Self { path, volume, syncs, session: Some(session) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The power of the disk's machine is cut, after everything that used the disk was killed (what is still open becomes
    /// stale). Each pending page is kept, dropped or torn between sectors of 512 bytes; lengths and changes of names get to the
    /// disk or do not. What the disk shows from then on is what survived, and all of that is durable.
    pub fn cut_power(&self, rng: &mut impl Rng) -> Lost {
        let survival = Survival::draw(rng);
        let mut volume = self.volume();
        volume.begin_life();
        volume.state.lose_power(survival, rng)
    }

    /// Every sync, of files and directories, takes this much longer until this is called again; syncs that are waiting follow
    /// the new setting. A process that is killed in such a sync ends when the sync does, as on a real disk that hangs; meanwhile
    /// the kernel holds up writes to the file that is synced, and changes of names in a directory that is. This program itself
    /// must not wait for one: if it were killed then, it could not end.
    pub fn stall_syncs(&self, stall: Option<Duration>) {
        self.syncs.set_stall(stall);
    }

    /// Whether every sync fails with an input/output error. As in Linux, pages that a failed sync was to write can still be
    /// read, but no later sync writes them: they are gone with the power unless they are written again.
    pub fn fail_syncs(&self, fail: bool) {
        self.syncs.set_fail(fail);
    }

    /// How many syncs have failed because of [`FaultyDisk::fail_syncs`].
    pub fn failed_syncs(&self) -> u64 {
        self.syncs.failed()
    }

    /// Changes the size. A disk that has more on it than that keeps it, and is full.
    pub fn set_capacity(&self, bytes: u64) {
        self.volume().state.set_capacity(bytes);
    }

    /// Bytes that files take, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.volume().state.used_pages() * PAGE as u64
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.syncs.set_stall(None);
        if let Err(error) = unmount(&self.path)
            && !thread::panicking()
        {
            eprintln!("chaos: {error}");
        }
        // Its threads end with the last file that is open, which may be later than now.
        drop(self.session.take());
    }
}
