//! Looks through a destination for what has expired: has floors decreed, and deletes what lies below them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task;
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::ObjectName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use seawall_proto::v1::command::Command;

use super::CommittedLog;
use super::retention::{Holdings, Verdict, after, judge_all, wanted};
use crate::destination::{Deletion, DestinationError, NamedDestination};
use crate::replica::ProposeError;
use crate::restore::{DestinationSource, SourceObject, lineages, list_segments, time_of_state};
use crate::state::is_below;

/// Deletions under way at a time.
const DELETIONS_AT_ONCE: usize = 8;
/// Of the interval between sweeps, how often it is asked what is due: that asks nobody outside.
const LOOKS: u32 = 60;

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("the cluster did not take the decree in: {0}")]
    Decree(#[from] ProposeError),
    #[error(transparent)]
    Stopped(#[from] task::JoinError),
}

/// The times of states: what was found once is not looked for again.
type Times = BTreeMap<(Lineage, Txid), UnixMillis>;

/// One destination's sweeper; it runs on the leader.
pub(super) struct Sweeper {
    log: Arc<dyn CommittedLog>,
    place: NamedDestination,
    interval: Duration,
    looked: BTreeMap<DatabaseName, Instant>,
    times: BTreeMap<DatabaseName, Times>,
}

impl Sweeper {
    pub(super) fn new(log: Arc<dyn CommittedLog>, place: NamedDestination, interval: Duration) -> Self {
        Self { log, place, interval, looked: BTreeMap::new(), times: BTreeMap::new() }
    }

    /// Sweeps what is due, for as long as it is polled.
    pub(super) async fn run(mut self) {
        if self.place.retention.deletion == Deletion::Never {
            return;
        }
        loop {
            for database in self.log.databases() {
                let Some(now) = self.log.cluster_time() else { break };
                if self.is_due(&database, now) {
                    self.looked.insert(database.clone(), Instant::now());
                    if let Err(error) = self.sweep(&database, now).await {
                        self.failed(&database, &error);
                    }
                }
            }
            time::sleep(self.interval / LOOKS).await;
        }
    }

    fn is_due(&self, database: &DatabaseName, now: UnixMillis) -> bool {
        let view = self.log.database(database);
        let known = view.as_ref().and_then(|view| view.destinations.get(&self.place.name));
        let due = known.map_or(0, |known| known.retention_due_ms);
        let lately = self.looked.get(database).is_some_and(|looked| looked.elapsed() < self.interval);
        due != 0 && due <= now.0 && !lately
    }

    fn failed(&self, database: &DatabaseName, error: &SweepError) {
        let destination = &self.place.name;
        metrics::counter!("seawall_destination_retention_errors_total", &self.labels(database)).increment(1);
        tracing::warn!(
            %database, destination, %error,
            "what has expired at a destination stays for now; where nobody may delete, say `delete: never`"
        );
    }

    fn labels(&self, database: &DatabaseName) -> [(&'static str, String); 2] {
        [("database", database.to_string()), ("destination", self.place.name.clone())]
    }

    /// Deletes what was decreed to be deletable long enough ago, and has decreed what has expired since.
    async fn sweep(&mut self, database: &DatabaseName, now: UnixMillis) -> Result<(), SweepError> {
        let Some(view) = self.log.database(database) else { return Ok(()) };
        let Some(known) = view.destinations.get(&self.place.name).cloned() else { return Ok(()) };
        let listed = list_segments(&*self.place.destination, database).await?;
        let grace = self.place.retention.grace;
        let over = |floors: &&v1::Floors| after(UnixMillis(floors.decreed_ms), grace) <= now;
        let deletable: Vec<v1::Floors> = known.floors.iter().filter(over).copied().collect();
        let (gone, left): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|(name, _)| deletable.iter().any(|floors| is_below(floors, name)));
        let paths = gone.into_iter().map(|(name, _)| format!("{database}/{name}")).collect();
        let deleted = self.delete(database, paths).await;

        // What may be deleted carries nothing any more, whether it still waits or only a stale listing shows it.
        let (waiting, staying): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(name, _)| known.floors.iter().any(|floors| is_below(floors, name)));
        let origin: Arc<str> = Arc::from(self.place.destination.url());
        let objects: Arc<[SourceObject]> =
            staying.into_iter().map(|(name, size)| SourceObject::listed(&origin, name, size)).collect();
        let (times, complete) = self.times(database, &objects, now).await;
        let judged = Arc::clone(&objects);
        let retention = self.place.retention.clone();
        let (newest, floors) = (Lineage(known.lineage), known.floors.clone());
        let verdicts = task::blocking(move || {
            judge_all(&Holdings { objects: &judged, times: &times, newest, now }, &retention, &floors)
        })
        .await?;
        if mutant("deleted-before-decreed") {
            let below = |object: &&SourceObject| verdicts.iter().any(|(_, it)| is_below(&it.floors, &object.name));
            let paths = objects.iter().filter(below).map(|object| format!("{database}/{}", object.name)).collect();
            self.delete(database, paths).await?;
        }
        let done = complete && deleted.is_ok();
        self.decree(database, &known, verdicts, &waiting, done, now).await?;
        Ok(deleted?)
    }

    /// Has floors raised where they may rise, and says when to look again. Where something below them waits for its
    /// grace period to end (`waiting`), they do not: each rise begins that period anew. Unless all times
    /// are known and all deletions were done (`done`), it is looked again soon.
    async fn decree(
        &self,
        database: &DatabaseName,
        known: &v1::DestinationProgress,
        verdicts: Vec<(v1::Floors, Verdict)>,
        waiting: &[(ObjectName, u64)],
        done: bool,
        now: UnixMillis,
    ) -> Result<(), SweepError> {
        let grace = self.place.retention.grace;
        let soonest = after(now, self.interval);
        let mut due: Vec<UnixMillis> = if done { Vec::new() } else { vec![soonest] };
        let mut raised = Vec::new();
        for (present, verdict) in verdicts {
            due.extend(verdict.next);
            if waiting.iter().any(|(name, _)| name.lineage.0 == present.lineage) {
                due.push(after(UnixMillis(present.decreed_ms), grace));
            } else if verdict.floors != present {
                due.push(after(now, grace));
                raised.push(v1::Floors { decreed_ms: now.0, ..verdict.floors });
                sometimes("floors of a destination raised");
            }
        }
        let mark = |mark: Option<v1::LevelMark>| mark.unwrap_or_default().txid;
        let decree = v1::RetentionDecree {
            database: database.to_string(),
            destination: self.place.name.clone(),
            lineage: known.lineage,
            watermark: known.watermark,
            snapshot: known.snapshot,
            level_one: mark(known.level_one),
            level_two: mark(known.level_two),
            floors: raised,
            retention_due_ms: due.into_iter().min().map_or(0, |due| due.max(soonest).0),
        };
        let command = v1::ProgressCommand { retention: vec![decree], ..v1::ProgressCommand::default() };
        self.log.propose(v1::Command { command: Some(Command::Progress(command)) }).await?;
        Ok(())
    }

    async fn delete(&self, database: &DatabaseName, paths: Vec<String>) -> Result<(), DestinationError> {
        let deleted = metrics::counter!("seawall_destination_deleted_objects_total", &self.labels(database));
        let place = &self.place.destination;
        let mut deletions = stream::iter(paths)
            .map(|path| async move { place.delete(&path).await })
            .buffer_unordered(DELETIONS_AT_ONCE);
        let mut failure = None;
        while let Some(outcome) = deletions.next().await {
            match outcome {
                Ok(()) => {
                    deleted.increment(1);
                    sometimes("expired object deleted");
                }
                // One that is locked is no reason to keep the others.
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The commit times of states that merged objects lead to, and of the newest state of each lineage; and whether all
    /// of them are known. They are those of the position log; where that does not reach back so far, the ends of some
    /// objects are read, and a state between two of them is taken to be as young as the later one.
    async fn times(&mut self, database: &DatabaseName, objects: &[SourceObject], now: UnixMillis) -> (Times, bool) {
        let wanted = wanted(objects);
        let cached = self.times.remove(database).unwrap_or_default();
        let mut times = Times::new();
        for (lineage, txid) in wanted.keys().copied() {
            let logged = || {
                let records = self.log.segments(database, lineage, Txid(txid.0.saturating_sub(1)), 1);
                let record = records.into_iter().find(|record| record.last == txid);
                record.map(|record| UnixMillis(record.commit_time_ms))
            };
            // What was found once is asked of nobody again.
            if let Some(time) = cached.get(&(lineage, txid)).copied().or_else(logged) {
                times.insert((lineage, txid), time);
            }
        }
        let source = DestinationSource::new(Arc::clone(&self.place.destination), database.clone());
        let retention = &self.place.retention;
        let mut complete = true;
        for lineage in lineages(objects) {
            let states: Vec<_> = wanted.range((lineage, Txid(0))..=(lineage, Txid(u64::MAX))).collect();
            for age in [retention.transactions, retention.level_one, retention.age] {
                let cutoff = now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                // Commit times never fall: the newest state that is old enough is found by halving.
                let (mut low, mut high) = (0, states.len());
                while low < high {
                    let middle = low + (high - low) / 2;
                    let (state, object) = states[middle];
                    let time = match times.get(state) {
                        Some(time) => *time,
                        None => match time_of_state(&source, object, state.1).await {
                            Ok(time) => time,
                            Err(error) => {
                                tracing::debug!(%error, "the time of an object is not known");
                                complete = false;
                                break;
                            }
                        },
                    };
                    times.insert(*state, time);
                    if time.0 <= cutoff { low = middle + 1 } else { high = middle }
                }
            }
        }
        self.times.insert(database.clone(), times.clone());
        (bounded(&wanted, times), complete)
    }
}

/// Every state with its time, or with that of the next one whose time is known: it is no younger.
fn bounded(wanted: &BTreeMap<(Lineage, Txid), &SourceObject>, times: Times) -> Times {
    let of = |state: &(Lineage, Txid)| {
        let next = times.range(*state..=(state.0, Txid(u64::MAX))).next();
        next.map(|(_, time)| (*state, *time))
    };
    wanted.keys().filter_map(of).collect()
}
