//! The append streams that live on this node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use seawall_host::time::Instant;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Epoch;
use tokio::sync::Notify;

use super::claim::Holder;
use super::lock;

/// One lane a database that was ever streamed to this node.
#[derive(Default)]
pub(super) struct Streams {
    lanes: Mutex<BTreeMap<DatabaseName, Lane>>,
}

#[derive(Default)]
struct Lane {
    live: Option<Live>,
    /// Whose turn it is to propose: a new stream waits for the proposals of the one before.
    turn: Arc<tokio::sync::Mutex<()>>,
    granted: Option<Instant>,
}

struct Live {
    holder: Holder,
    /// The number of the stream.
    id: u64,
    signal: Arc<Signal>,
}

/// Tells a stream that something changed.
#[derive(Default)]
pub(super) struct Signal {
    displaced: AtomicBool,
    notify: Notify,
}

/// A live stream; dropping it says that it ended.
pub(super) struct Registration {
    streams: Arc<Streams>,
    database: DatabaseName,
    signal: Arc<Signal>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Streams {
    /// Whose stream lives, and when a claim was granted whose stream has not been seen.
    pub(super) fn holder(&self, database: &DatabaseName) -> (Option<Holder>, Option<Instant>) {
        let lanes = lock(&self.lanes);
        let lane = lanes.get(database);
        (lane.and_then(|lane| lane.live.as_ref()).map(|live| live.holder.clone()), lane.and_then(|lane| lane.granted))
    }

    /// The number of the stream that lives.
    pub(super) fn live(&self, database: &DatabaseName) -> Option<u64> {
        Some(lock(&self.lanes).get(database)?.live.as_ref()?.id)
    }

    /// A claim was granted: streams of older epochs end.
    pub(super) fn granted(&self, database: &DatabaseName, epoch: Epoch) {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry(database.clone()).or_default();
        lane.granted = Some(Instant::now());
        if lane.live.as_ref().is_some_and(|live| live.holder.epoch < epoch)
            && let Some(live) = lane.live.take()
        {
            live.signal.displace();
        }
    }

    /// Stream number `id` opened; one of the same or an older epoch ends. `None` if one of a newer epoch lives.
    pub(super) fn register(self: &Arc<Self>, database: &DatabaseName, holder: Holder, id: u64) -> Option<Registration> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry(database.clone()).or_default();
        if lane.live.as_ref().is_some_and(|live| live.holder.epoch > holder.epoch) {
            return None;
        }
        let signal = Arc::new(Signal::default());
        if let Some(before) = lane.live.replace(Live { holder, id, signal: Arc::clone(&signal) }) {
            before.signal.displace();
        }
        lane.granted = None;
        let turn = Arc::clone(&lane.turn);
        Some(Registration { streams: Arc::clone(self), database: database.clone(), signal, turn })
    }

    /// Every stream looks again whether it may go on.
    pub(super) fn wake_all(&self) {
        for lane in lock(&self.lanes).values() {
            if let Some(live) = &lane.live {
                live.signal.notify.notify_one();
            }
        }
    }
}

impl Signal {
    fn displace(&self) {
        self.displaced.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }
}

impl Registration {
    /// Whether another stream or claim came in place of this one.
    pub(super) fn is_displaced(&self) -> bool {
        self.signal.displaced.load(Ordering::SeqCst)
    }

    /// Completes when something changed since the last time.
    pub(super) async fn changed(&self) {
        self.signal.notify.notified().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut lanes = lock(&self.streams.lanes);
        if let Some(lane) = lanes.get_mut(&self.database)
            && lane.live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.signal, &self.signal))
        {
            lane.live = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(agent_id: u64, epoch: u64) -> Holder {
        Holder { agent_id, label: String::new(), epoch: Epoch(epoch) }
    }

    #[test]
    fn a_newer_stream_displaces_the_one_before_and_an_older_one_is_refused() {
        seawall_host::real::install();
        let streams = Arc::new(Streams::default());
        let database: DatabaseName = "app".parse().unwrap();
        let first = streams.register(&database, holder(1, 1), 1).unwrap();
        let second = streams.register(&database, holder(2, 2), 2).unwrap();
        assert!(first.is_displaced() && !second.is_displaced());
        drop(first);
        assert_eq!(streams.holder(&database).0, Some(holder(2, 2)));
        assert!(streams.register(&database, holder(1, 1), 1).is_none());
        drop(second);
        assert_eq!(streams.holder(&database).0, None);
    }

    #[test]
    fn a_granted_claim_ends_the_stream_of_an_older_epoch() {
        seawall_host::real::install();
        let streams = Arc::new(Streams::default());
        let database: DatabaseName = "app".parse().unwrap();
        let stream = streams.register(&database, holder(1, 1), 1).unwrap();
        streams.granted(&database, Epoch(2));
        assert!(stream.is_displaced());
        let (live, granted) = streams.holder(&database);
        assert!(live.is_none() && granted.is_some());
        let _stream = streams.register(&database, holder(2, 2), 2).unwrap();
        assert!(streams.holder(&database).1.is_none());
    }
}
