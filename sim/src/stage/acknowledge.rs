//! Asking for receipts, as an application does that wants to know that its data is safe.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seawall_agent::{DatabaseHandle, SyncError};
use seawall_host::time::sleep;

use crate::application::source::Source;
use crate::oracles::acknowledged_is_kept::{Acknowledgement, check_receipt};
use crate::random::Stream;
use crate::world;

/// Pause between two questions.
const PAUSE: Range<Duration> = Duration::from_millis(50)..Duration::from_secs(3);

/// Every receipt that anybody got. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Acknowledgements(Arc<Mutex<Vec<Acknowledgement>>>);

impl Acknowledgements {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them, in the order of time.
    pub fn all(&self) -> Vec<Acknowledgement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All but the first `seen`.
    pub fn since(&self, seen: usize) -> Vec<Acknowledgement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(seen..).unwrap_or_default().to_vec()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Notes one.
    pub fn record(&self, acknowledged: Acknowledgement) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(acknowledged);
    }
}

/// Asks once for everything that is committed now, checks the answer against the source, and notes it.
///
/// # Errors
/// [`SyncError`].
pub async fn sync_once(
    source: &Source,
    handle: &DatabaseHandle,
    acknowledgements: &Acknowledgements,
) -> Result<Acknowledgement, SyncError> {
    let state = source.with_history(|history| history.newest().map_or(0, |(number, _)| number));
    let world = world::current();
    let asked = world.time();
    let receipt = handle.sync().await?;
    let (position, time) = (receipt.position, world.time());
    let acknowledged = Acknowledgement { database: source.name().clone(), state, position, asked, time };
    let text = || format!("`{}` is acknowledged to {}", source.name(), receipt.position);
    world.event("acknowledged", receipt.position.txid.0, text);
    if let Err(error) = source.with_history(|history| check_receipt(&acknowledged, history)) {
        world.violate("a receipt covers what was committed before it was asked for", error);
    }
    acknowledgements.record(acknowledged.clone());
    Ok(acknowledged)
}

/// Asks now and then, until the agent no longer ships the database. To be run on the agent's machine.
pub async fn acknowledge(source: Arc<Source>, handle: DatabaseHandle, acknowledgements: Acknowledgements) {
    loop {
        let pause = world::current().draw(Stream::Application, |random| random.duration(PAUSE));
        sleep(pause).await;
        match sync_once(&source, &handle, &acknowledgements).await {
            Err(SyncError::Fenced | SyncError::Stopped) => return,
            Ok(_) | Err(SyncError::Cluster(_) | SyncError::NotReached(_)) => {}
        }
    }
}
