//! Open files and held locks of a simulated machine.

use std::io;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::disk::RawFile;
use seawall_host::time;

use super::faults::{Action, input_output_error};
use super::sim_disk::Shared;
use super::state::{InodeNumber, State};

/// An open file, of use in one life of its machine.
pub(super) struct SimFile(Arc<Opened>);

struct Opened {
    shared: Arc<Shared>,
    number: InodeNumber,
    life: u64,
    is_writable: bool,
}

impl SimFile {
    pub(super) fn new(shared: Arc<Shared>, number: InodeNumber, life: u64, is_writable: bool) -> Self {
        Self(Arc::new(Opened { shared, number, life, is_writable }))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.state().close(self.number, self.life);
    }
}

impl Opened {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        self.shared.live_state(self.life)
    }

    fn writable_state(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.is_writable { self.state() } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// Writes, or does not, or both writes and fails.
    fn write(&self, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        let mut state = self.writable_state()?;
        if !self.shared.fails(Action::Write, &state) {
            // Without room it is no failure of the disk: whoever writes may do so again.
            return state.write(self.number, offset, parts);
        }
        state.note_failure(self.number);
        if self.shared.dice.draw(|random| random.chance(0.5)) {
            // What has no room is not told: the disk fails, and says so.
            let _ = state.write(self.number, offset, parts);
        }
        Err(input_output_error())
    }

    async fn sync(&self) -> io::Result<()> {
        let begun = self.state()?.contents_mut(self.number)?.begin_sync();
        self.shared.wait(Action::Sync).await;
        let mut state = self.state()?;
        if self.shared.fails(Action::Sync, &state) {
            state.note_failure(self.number);
            let contents = state.contents_mut(self.number)?;
            self.shared.dice.draw(|random| contents.fail_sync(begun, random));
            return Err(input_output_error());
        }
        let is_durable = state.contents_mut(self.number)?.finish_sync(begun);
        if is_durable { Ok(()) } else { Err(input_output_error()) }
    }
}

impl RawFile for SimFile {
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let file = Arc::clone(&self.0);
        async move {
            file.shared.wait(Action::Read).await;
            let state = file.state()?;
            if file.shared.fails(Action::Read, &state) {
                return Err(input_output_error());
            }
            state.read(file.number, offset, len)
        }
        .boxed()
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        async move {
            let Some(delay) = file.shared.delay(Action::Write) else { return file.write(offset, &parts) };
            // Whoever gives up on it while it lasts may find it written all the same.
            if file.shared.dice.draw(|random| random.chance(0.5)) {
                file.write(offset, &parts)?;
                time::sleep(delay).await;
                file.state().map(|_| ())
            } else {
                time::sleep(delay).await;
                file.write(offset, &parts)
            }
        }
        .boxed()
    }

    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        async move {
            file.write(offset, &parts)?;
            file.sync().await
        }
        .boxed()
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        async move { file.sync().await }.boxed()
    }

    fn set_len(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        async move {
            file.shared.wait(Action::Write).await;
            let mut state = file.writable_state()?;
            if file.shared.fails(Action::Write, &state) {
                return Err(input_output_error());
            }
            state.set_len(file.number, len)
        }
        .boxed()
    }

    fn len(&self) -> BoxFuture<'static, io::Result<u64>> {
        let file = Arc::clone(&self.0);
        async move { file.state()?.len(file.number) }.boxed()
    }
}

/// Holds a lock until it is dropped, or its machine dies.
pub(super) struct HeldLock {
    pub(super) shared: Arc<Shared>,
    pub(super) number: InodeNumber,
    pub(super) life: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.shared.state().unlock(self.number, self.life);
    }
}
