//! Refusing appends before a disk is full.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use seawall_host::probe::sometimes;
use seawall_host::task::{self, OwnedTask};
use seawall_host::time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::consensus::ClusterSpace;
use crate::replica::Replica;
use crate::space::{Lack, Room, who_lacks_room};

/// How often it is decided anew where nobody asks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that may be proposed and not yet applied, over all streams of a node.
pub const IN_FLIGHT: usize = 64 << 20;

/// Knows how much room there is.
pub trait SpaceSource: Send + Sync + 'static {
    /// As far as this node knows now.
    fn space(&self) -> ClusterSpace;
}

impl SpaceSource for Replica {
    fn space(&self) -> ClusterSpace {
        Replica::space(self)
    }
}

/// There is no room for an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace {
    /// Whose room is too little.
    pub lack: Lack,
    /// Bytes that the transaction has at least, where there is room for less.
    pub transaction: Option<u64>,
}

impl std::error::Error for NoSpace {}

impl std::fmt::Display for NoSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lack { is_leader, room } = self.lack;
        if let Some(bytes) = self.transaction {
            write!(f, "a transaction of at least {} MiB is too large at present: ", bytes >> 20)?;
        }
        let whose = if is_leader {
            "the leader's data may take"
        } else {
            "so many nodes lack room that no majority is left; the data of the fullest may take"
        };
        write!(
            f,
            "{whose} {} MiB more, and {} MiB are kept in reserve: make room, add disk or raise `disk.budget`",
            room.free >> 20,
            room.reserve >> 20
        )
    }
}

/// Bytes that were let in; they count as in flight until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    _permit: Option<OwnedSemaphorePermit>,
    bytes: u64,
    settled: Arc<AtomicU64>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.settled.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Decides whether appends are let in, by the room that the leader and a majority of the voters have. What was let in
/// and may not have been on the disk of one of them when it told of its room is taken for used there.
pub struct Admission {
    source: Arc<dyn SpaceSource>,
    most_in_flight: usize,
    in_flight: Arc<Semaphore>,
    /// Bytes that were let in and are not in flight any more.
    settled: Arc<AtomicU64>,
    state: Mutex<State>,
    watcher: Mutex<Option<OwnedTask>>,
}

#[derive(Default)]
struct State {
    /// Bytes let in so far.
    admitted: u64,
    /// By this node (`None`) and by each other voter.
    reported: BTreeMap<Option<u64>, Reported>,
    lack: Option<Lack>,
}

/// What a report can be trusted to have seen.
#[derive(Clone, Copy)]
struct Reported {
    number: u64,
    /// Bytes that had settled before its author looked at the disk, which it did after the report before came.
    counted: u64,
    /// Bytes that had settled when it came.
    settled: u64,
}

impl State {
    /// What was let in and may not be in report `number` of somebody.
    fn since(&mut self, who: Option<u64>, number: u64, settled: u64) -> u64 {
        let known = self.reported.entry(who).or_insert(Reported { number, counted: settled, settled });
        if known.number != number {
            *known = Reported { number, counted: known.settled, settled };
        }
        self.admitted - known.counted
    }

    /// Whose room is too little for `wanted` bytes more.
    fn judge(&mut self, space: &ClusterSpace, settled: u64, wanted: u64) -> Option<Lack> {
        self.reported.retain(|who, _| who.is_none_or(|id| space.others.contains_key(&id)));
        let mut rest = |who, room: Room, number| {
            let since = self.since(who, number, settled);
            Room { free: room.free.saturating_sub(since).saturating_sub(wanted), ..room }
        };
        let own = rest(None, space.own.said.room(), space.own.number);
        let others = space.others.iter().map(|(id, report)| report.map(|it| rest(Some(*id), it.said, it.number)));
        let others: Vec<Option<Room>> = others.collect();
        who_lacks_room(own, &others, self.lack.is_some())
    }
}

impl Admission {
    /// Decides by what `source` knows from now on, and lets `most_in_flight` bytes be in flight.
    pub fn start(source: Arc<dyn SpaceSource>, most_in_flight: usize) -> Arc<Self> {
        let admission = Arc::new(Self {
            source,
            most_in_flight: most_in_flight.max(1),
            in_flight: Arc::new(Semaphore::new(most_in_flight.max(1))),
            settled: Arc::default(),
            state: Mutex::default(),
            watcher: Mutex::new(None),
        });
        admission.decide();
        let weak = Arc::downgrade(&admission);
        *lock(&admission.watcher) = Some(task::spawn_owned(watch(weak)));
        admission
    }

    /// Why appends are refused, if they are.
    pub fn refuses(&self) -> Option<NoSpace> {
        lock(&self.state).lack.map(|lack| NoSpace { lack, transaction: None })
    }

    /// Lets in `bytes` of payload, once so many others are through that they are within the limit; `transaction` says how
    /// many more are known to follow them.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub async fn admit(&self, bytes: usize, transaction: Option<u64>) -> Result<Admitted, NoSpace> {
        let count = bytes.clamp(1, self.most_in_flight);
        let permits = u32::try_from(count).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(permits).await.ok();
        self.decide();
        let space = transaction.map(|_| self.source.space());
        let mut state = lock(&self.state);
        if let Some(lack) = state.lack {
            if !lack.is_leader {
                sometimes("append refused because no majority has room");
            }
            return Err(NoSpace { lack, transaction: None });
        }
        let whole = transaction.zip(space);
        if let Some((bytes, space)) = whole
            && let Some(lack) = state.judge(&space, self.settled.load(Ordering::Relaxed), bytes)
        {
            // As it is without that transaction.
            let others = space.others.values().flatten().map(|report| report.said);
            let fullest = others.min_by_key(|room| room.free.saturating_sub(room.reserve));
            let room = if lack.is_leader { space.own.said.room() } else { fullest.unwrap_or(lack.room) };
            return Err(NoSpace { lack: Lack { room, ..lack }, transaction });
        }
        let bytes = bytes as u64;
        state.admitted = state.admitted.saturating_add(bytes);
        Ok(Admitted { _permit: permit, bytes, settled: Arc::clone(&self.settled) })
    }

    fn decide(&self) {
        let space = self.source.space();
        let mut state = lock(&self.state);
        let lack = state.judge(&space, self.settled.load(Ordering::Relaxed), 0);
        let before = std::mem::replace(&mut state.lack, lack);
        drop(state);
        if before.is_some() != lack.is_some() {
            metrics::gauge!("seawall_appends_refused_for_space").set(f64::from(u8::from(lack.is_some())));
        }
        match (before, lack) {
            (None, Some(lack)) => tracing::error!("appends are refused: {}", NoSpace { lack, transaction: None }),
            (Some(_), None) => tracing::info!("there is room again: appends are let in"),
            _ => {}
        }
    }
}

async fn watch(admission: Weak<Admission>) {
    loop {
        time::sleep(INTERVAL).await;
        let Some(admission) = admission.upgrade() else { return };
        admission.decide();
    }
}

/// What a mutex guards is whole between any two of our statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Report;
    use crate::space::NodeSpace;

    struct TestSpace(Mutex<ClusterSpace>);

    impl SpaceSource for TestSpace {
        fn space(&self) -> ClusterSpace {
            lock(&self.0).clone()
        }
    }

    fn space(free: u64, reserve: u64, others: &[Option<u64>]) -> ClusterSpace {
        let own = NodeSpace { used: 0, budget: u64::MAX, free, reserve, destination_limit: 0 };
        let room = |free| Report { said: Room { free, reserve, destination_limit: 0 }, number: 0 };
        let others = (1..).zip(others).map(|(id, free)| (id, free.map(room))).collect();
        ClusterSpace { own: Report { said: own, number: 0 }, others }
    }

    fn start(space: ClusterSpace, in_flight: usize) -> (Arc<TestSpace>, Arc<Admission>) {
        seawall_host::real::install();
        let source = Arc::new(TestSpace(Mutex::new(space)));
        (Arc::clone(&source), Admission::start(source, in_flight))
    }

    #[tokio::test]
    async fn lets_in_no_more_than_the_limit_at_once() {
        let (_, admission) = start(space(1000, 0, &[]), 100);
        let first = admission.admit(60, None).await.unwrap();
        let second = {
            let admission = Arc::clone(&admission);
            task::spawn(async move { admission.admit(60, None).await.is_ok() })
        };
        let second = time::timeout(Duration::from_millis(50), second).await;
        assert!(second.is_err(), "60 of 100 bytes are in flight");
        drop(first);
        // The one that waited may be through already; there is room for both now.
        assert!(time::timeout(Duration::from_secs(5), admission.admit(40, None)).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn refuses_when_the_leader_or_a_majority_lacks_room_and_says_whose() {
        let (_, admission) = start(space(5 << 20, 8 << 20, &[]), 100);
        let refused = admission.admit(1, None).await.unwrap_err();
        assert!(refused.to_string().starts_with("the leader's data may take 5 MiB more, and 8 MiB"), "{refused}");
        let (_, admission) = start(space(90 << 20, 8 << 20, &[Some(1 << 20), Some(2 << 20)]), 100);
        let refused = admission.admit(1, None).await.unwrap_err();
        assert!(
            refused.to_string().contains("no majority is left; the data of the fullest may take 1 MiB"),
            "{refused}"
        );
        let (_, admission) = start(space(90 << 20, 8 << 20, &[Some(1 << 20), Some(20 << 20)]), 100);
        assert!(admission.admit(1, None).await.is_ok());
    }

    #[tokio::test]
    async fn a_transaction_that_found_no_room_is_refused_at_its_first_part() {
        for others in [&[][..], &[Some(20 << 20), Some(18 << 20)][..]] {
            let own = if others.is_empty() { 20 << 20 } else { 900 << 20 };
            let (_, admission) = start(space(own, 8 << 20, others), IN_FLIGHT);
            let refused = admission.admit(1, Some(13 << 20)).await.unwrap_err().to_string();
            assert!(refused.starts_with("a transaction of at least 13 MiB is too large at present: "), "{refused}");
            let free = if others.is_empty() { "20 MiB more, and 8 MiB" } else { "18 MiB more, and 8 MiB" };
            assert!(refused.contains(free), "{refused}");
            assert!(admission.admit(1, Some(11 << 20)).await.is_ok());
            assert!(admission.admit(1, None).await.is_ok());
            assert!(admission.refuses().is_none(), "everybody else is let in");
        }
    }

    #[tokio::test]
    async fn what_was_let_in_is_not_free_until_a_report_must_have_seen_it() {
        let part = 512 << 10;
        for others in [&[][..], &[Some(12 << 20)][..]] {
            let own = if others.is_empty() { 12 << 20 } else { 900 << 20 };
            let (source, admission) = start(space(own, 8 << 20, others), IN_FLIGHT);
            let mut admitted = Vec::new();
            while let Ok(one) = admission.admit(part, None).await {
                admitted.push(one);
            }
            assert_eq!(admitted.len() * part, (4 << 20) + part, "the last one goes into the reserve");
            let report = || {
                lock(&source.0).own.number += 1;
                lock(&source.0).others.values_mut().flatten().for_each(|report| report.number += 1);
                admission.decide();
            };
            for _ in 0..5 {
                report();
                assert!(admission.admit(part, None).await.is_err(), "all of it is still on its way");
            }
            admitted.clear();
            report();
            assert!(admission.admit(part, None).await.is_err(), "whoever says this may have looked before");
            report();
            assert!(admission.admit(part, None).await.is_ok());
        }
    }
}
