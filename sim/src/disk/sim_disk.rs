//! The disk of a simulated machine.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::disk::{DirectoryEntry, Disk, LockGuard, OpenMode, RawFile, Space};
use seawall_host::time;

use super::dice::Dice;
use super::faults::{Action, DiskFaults, input_output_error};
use super::handle::{HeldLock, SimFile};
use super::state::{Crash, State};
use crate::random::Random;

/// The disk of one machine. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) dice: Dice,
    /// Whether calls take time.
    takes_time: bool,
}

/// A bit that rotted on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    /// The file.
    pub path: PathBuf,
    /// Of the byte, in bytes.
    pub offset: u64,
    /// Of the byte's eight, 0 the lowest.
    pub bit: u8,
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bit {} of byte {} of {} rotted", self.bit, self.offset, self.path.display())
    }
}

impl SimDisk {
    /// An empty disk without faults, of a tebibyte.
    pub fn new(dice: Dice) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(State::new()), dice, takes_time: true }))
    }

    /// As [`SimDisk::new`], but every call ends when it is first polled: it wants no world.
    pub fn instantaneous(dice: Dice) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(State::new()), dice, takes_time: false }))
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.0.state().faults = faults;
    }

    /// What goes wrong now.
    pub fn faults(&self) -> DiskFaults {
        self.0.state().faults
    }

    /// The size of the disk in bytes from now on, even if more than that is used; `None` for a tebibyte.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.state().set_capacity(bytes);
    }

    /// Bytes that files take.
    pub fn used_bytes(&self) -> u64 {
        self.0.state().used_bytes()
    }

    /// The machine dies; what its life had open is of no use to the next one.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.0.state();
        self.0.dice.draw(|random| state.crash(crash, random));
    }

    /// The machine gets an empty disk. What was open on the old one is of no use.
    pub fn wipe(&self) {
        self.0.state().wipe();
    }

    /// Creates a directory and its parents, durably, as whoever installs a machine does.
    ///
    /// # Errors
    /// As [`Disk::create_directories`].
    pub fn prepare_directories(&self, path: &Path) -> io::Result<()> {
        self.0.state().prepare_directories(path)
    }

    /// Flips one bit of synced bytes in one of the files. Of a path and its length `within` says how many bytes from
    /// its beginning may be struck, 0 for none. `None` if there is nothing to strike. Whoever calls it sees to it that
    /// something is left to repair it from.
    pub fn rot_one(&self, within: impl Fn(&Path, u64) -> u64) -> Option<Rot> {
        let mut state = self.0.state();
        let reach = |(path, number): (PathBuf, _)| {
            let len = state.len(number).unwrap_or(0);
            let bytes = within(&path, len).min(len);
            (bytes > 0).then_some((path, number, bytes))
        };
        let files: Vec<_> = state.files().into_iter().filter_map(reach).collect();
        self.0.dice.draw(|random| {
            let (path, number, bytes) = random.pick(&files)?.clone();
            let (offset, bit) = state.contents_mut(number).ok()?.rot(bytes, random)?;
            Some(Rot { path, offset, bit })
        })
    }

    /// What a program would read at `path`, without delays and faults. `None` if no file is there.
    pub fn peek(&self, path: &Path) -> Option<Bytes> {
        let state = self.0.state();
        let number = state.find(path).ok()?;
        state.read(number, 0, state.len(number).ok()? as usize).ok()
    }

    /// All files and their lengths in bytes, in the order of their paths, without delays and faults.
    pub fn list_all(&self) -> Vec<(PathBuf, u64)> {
        let state = self.0.state();
        let files = state.files().into_iter();
        files.map(|(path, number)| (path, state.len(number).unwrap_or(0))).collect()
    }

    /// Files of which a write or sync failed in this life of the machine, in order.
    pub fn failed_files(&self) -> Vec<PathBuf> {
        self.0.state().failed().iter().cloned().collect()
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        self.0.state().space().available
    }

    /// Draws from the disk's stream.
    pub(super) fn draw<T>(&self, take: impl FnOnce(&mut Random) -> T) -> T {
        self.0.dice.draw(take)
    }

    /// Fails as a read would now.
    pub(super) fn check_read(&self) -> io::Result<()> {
        if self.0.fails(Action::Read, &self.0.state()) { Err(input_output_error()) } else { Ok(()) }
    }

    fn call<T: Send + 'static>(
        &self,
        action: Action,
        work: impl FnOnce(&Arc<Shared>, &mut State) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let shared = Arc::clone(&self.0);
        async move {
            let life = shared.state().life;
            shared.wait(action).await;
            let mut state = shared.live_state(life)?;
            if shared.fails(action, &state) {
                return Err(input_output_error());
            }
            work(&shared, &mut state)
        }
        .boxed()
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for those who live in `life`.
    pub(super) fn live_state(&self, life: u64) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.life == life { Ok(state) } else { Err(io::Error::other("the machine died since")) }
    }

    /// How long a call takes; `None` if it ends at once.
    pub(super) fn delay(&self, action: Action) -> Option<Duration> {
        let faults = self.state().faults;
        if self.takes_time { self.dice.draw(|random| faults.delay(action, random)) } else { None }
    }

    pub(super) async fn wait(&self, action: Action) {
        if let Some(delay) = self.delay(action) {
            time::sleep(delay).await;
        }
    }

    pub(super) fn fails(&self, action: Action, state: &State) -> bool {
        state.faults.strikes_at(action) && self.dice.draw(|random| state.faults.fails(action, random))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: PathBuf, mode: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn RawFile>>> {
        self.call(Action::Name, move |shared, state| {
            let number = state.open(&path, mode)?;
            let file = SimFile::new(Arc::clone(shared), number, state.life, mode != OpenMode::Read);
            Ok(Arc::new(file) as Arc<dyn RawFile>)
        })
    }

    fn rename(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Name, move |_, state| state.rename(&from, &to))
    }

    fn hard_link(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Name, move |_, state| state.hard_link(&from, &to))
    }

    fn remove_file(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Name, move |_, state| state.remove_file(&path))
    }

    fn remove_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Name, move |_, state| state.remove_directory(&path))
    }

    fn create_directories(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Name, move |_, state| state.create_directories(&path))
    }

    fn sync_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.call(Action::Sync, move |_, state| state.sync_directory(&path))
    }

    fn list(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Vec<DirectoryEntry>>> {
        self.call(Action::Name, move |_, state| state.list(&path))
    }

    fn exists(&self, path: PathBuf) -> BoxFuture<'static, io::Result<bool>> {
        self.call(Action::Name, move |_, state| state.exists(&path))
    }

    fn space(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        self.call(Action::Name, move |_, state| state.find(&path).map(|_| state.space()))
    }

    fn lock(&self, path: PathBuf) -> BoxFuture<'static, io::Result<LockGuard>> {
        self.call(Action::Name, move |shared, state| {
            let number = state.lock(&path)?;
            let held = HeldLock { shared: Arc::clone(shared), number, life: state.life };
            Ok(LockGuard::new(Box::new(held)))
        })
    }
}
