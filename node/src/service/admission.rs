//! Refusing appends before the disk is full.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use seawall_host::disk::{self, Space};
use seawall_host::probe::mutant;
use seawall_host::task::{self, OwnedTask};
use seawall_host::time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often the disk is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// It is looked at earlier after this many bytes were let in.
const LOOK_AFTER_BYTES: u64 = 16 << 20;
/// Once refusing, go on doing so until this much more than the reserve is free (a 16th of it).
const MARGIN_SHIFT: u32 = 4;

/// When to refuse.
#[derive(Clone, Debug)]
pub struct AdmissionOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// Free bytes kept for the node's own log and for deletion, the bytes in flight among them; `None`: a twentieth
    /// of the file system, at least 256 MiB, at most 4 GiB.
    pub reserve: Option<u64>,
    /// Bytes that may be proposed and not yet applied, over all streams of the node.
    pub in_flight: usize,
}

impl AdmissionOptions {
    /// The defaults for a data directory: 64 MiB in flight.
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, reserve: None, in_flight: 64 << 20 }
    }
}

/// How admission stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionState {
    /// Free bytes where the data directory lies, when last looked.
    pub available: u64,
    /// Below this much free, appends are refused.
    pub reserve: u64,
    /// Whether appends are refused now.
    pub refusing: bool,
}

/// There is no room for an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MiB are free on the node's disk, but {} MiB are kept in reserve: make room or add disk",
    state.available >> 20, state.reserve >> 20
)]
pub struct NoSpace {
    /// How admission stands.
    pub state: AdmissionState,
}

/// Lets bytes in; what is let in counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Decides whether appends are let in. Looks at the disk every second while it exists.
pub struct Admission {
    options: AdmissionOptions,
    in_flight: Arc<Semaphore>,
    looked: Mutex<Looked>,
    watcher: Mutex<Option<OwnedTask>>,
}

#[derive(Clone, Copy, Debug)]
struct Looked {
    state: AdmissionState,
    /// Let in since.
    admitted: u64,
}

/// What follows from a look at the disk. Pure.
pub fn decide(space: Space, reserve: Option<u64>, was_refusing: bool) -> AdmissionState {
    let reserve = reserve.unwrap_or_else(|| (space.total / 20).clamp(256 << 20, 4 << 30));
    let needed = if was_refusing { reserve.saturating_add(reserve >> MARGIN_SHIFT) } else { reserve };
    let refusing = space.available < needed && !mutant("admission-ignores-space");
    AdmissionState { available: space.available, reserve, refusing }
}

impl Admission {
    /// Looks at the disk once, then starts looking every second.
    ///
    /// # Errors
    /// If the space of the data directory cannot be read.
    pub async fn start(options: AdmissionOptions) -> io::Result<Arc<Self>> {
        let space = disk::space(&options.data_dir).await?;
        let state = decide(space, options.reserve, false);
        let admission = Arc::new(Self {
            in_flight: Arc::new(Semaphore::new(options.in_flight)),
            looked: Mutex::new(Looked { state, admitted: 0 }),
            watcher: Mutex::new(None),
            options,
        });
        let weak = Arc::downgrade(&admission);
        *lock(&admission.watcher) = Some(task::spawn_owned(watch(weak)));
        Ok(admission)
    }

    /// How it stands.
    pub fn state(&self) -> AdmissionState {
        lock(&self.looked).state
    }

    /// Lets in `bytes` of payload, once so many others are through that they are within the limit.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub async fn admit(&self, bytes: usize) -> Result<Admitted, NoSpace> {
        let count = bytes.clamp(1, self.options.in_flight.max(1));
        let permits = u32::try_from(count).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(permits).await.ok();
        let is_due = {
            let mut looked = lock(&self.looked);
            looked.admitted += bytes as u64;
            looked.admitted >= LOOK_AFTER_BYTES
        };
        if is_due {
            self.look().await;
        }
        let state = self.state();
        if state.refusing { Err(NoSpace { state }) } else { Ok(Admitted { _permit: permit }) }
    }

    async fn look(&self) {
        lock(&self.looked).admitted = 0;
        match disk::space(&self.options.data_dir).await {
            Ok(space) => {
                let mut looked = lock(&self.looked);
                let before = looked.state;
                looked.state = decide(space, self.options.reserve, before.refusing);
                let state = looked.state;
                drop(looked);
                metrics::gauge!("seawall_disk_available_bytes").set(state.available as f64);
                metrics::gauge!("seawall_appends_refused_for_space").set(f64::from(u8::from(state.refusing)));
                if state.refusing && !before.refusing {
                    tracing::error!("appends are refused: {}", NoSpace { state });
                } else if before.refusing && !state.refusing {
                    tracing::info!(available = state.available, "there is room again: appends are let in");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot see how much of the disk is free"),
        }
    }
}

async fn watch(admission: Weak<Admission>) {
    loop {
        time::sleep(INTERVAL).await;
        let Some(admission) = admission.upgrade() else { return };
        admission.look().await;
    }
}

/// What a mutex guards is whole between any two of our statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_below_the_reserve_and_until_there_is_a_margin_above_it() {
        let space = |available| Space { available, total: 100 << 30 };
        let reserve = Some(1600);
        assert!(!decide(space(1600), reserve, false).refusing);
        assert!(decide(space(1599), reserve, false).refusing);
        assert!(decide(space(1699), reserve, true).refusing);
        assert!(!decide(space(1700), reserve, true).refusing);
    }

    #[test]
    fn the_reserve_follows_the_size_of_the_disk_within_bounds() {
        let reserve = |total| decide(Space { available: 0, total }, None, false).reserve;
        assert_eq!(reserve(1 << 30), 256 << 20);
        assert_eq!(reserve(20 << 30), 1 << 30);
        assert_eq!(reserve(10 << 40), 4 << 30);
    }

    #[tokio::test]
    async fn lets_in_no_more_than_the_limit_at_once() {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let options =
            AdmissionOptions { reserve: Some(0), in_flight: 100, ..AdmissionOptions::new(directory.path().into()) };
        let admission = Admission::start(options).await.unwrap();
        let first = admission.admit(60).await.unwrap();
        let second = {
            let admission = Arc::clone(&admission);
            task::spawn(async move { admission.admit(60).await.is_ok() })
        };
        let second = time::timeout(Duration::from_millis(50), second).await;
        assert!(second.is_err(), "60 of 100 bytes are in flight");
        drop(first);
        // The one that waited may be through already; there is room for both now.
        assert!(time::timeout(Duration::from_secs(5), admission.admit(40)).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn refuses_when_the_reserve_is_not_free() {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let options = AdmissionOptions { reserve: Some(u64::MAX), ..AdmissionOptions::new(directory.path().into()) };
        let admission = Admission::start(options).await.unwrap();
        let refused = admission.admit(1).await.unwrap_err();
        assert!(refused.to_string().contains("kept in reserve"));
    }
}
