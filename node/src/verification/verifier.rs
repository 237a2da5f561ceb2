//! The tasks that verify, which begin and end with leadership.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use seawall_host::random;
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;
use seawall_proto::v1::command::Command;

use super::context::{Context, Place, RequestSnapshot};
use super::integrity;
use super::pace::Pace;
use super::schedule::{self, Known};
use super::visit::{Memory, Unverified, verify};
use crate::destination::NamedDestination;
use crate::replica::Replica;
use crate::store::image::ImageStore;

/// Changes of leadership are looked at no more often than this.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// New databases are noticed within this, or a tenth of the interval if that is shorter.
const LONGEST_POLL: Duration = Duration::from_secs(10);
const SHORTEST_POLL: Duration = Duration::from_millis(100);
/// A result that is not taken in is proposed again so often: the next verification brings another.
const PROPOSALS: u32 = 3;
const PROPOSAL_PAUSE: Duration = Duration::from_secs(1);

/// The running verification of a node. It ends when this is dropped.
pub struct Verifier {
    _task: OwnedTask,
}

impl Verifier {
    /// Verifies `destinations` while the node of `replica` leads. Databases are restored into `scratch` where SQLite is
    /// to check them; what an earlier life left there is removed.
    pub async fn start(
        destinations: Vec<NamedDestination>,
        replica: Replica,
        images: ImageStore,
        request_snapshot: RequestSnapshot,
        scratch: PathBuf,
    ) -> Self {
        if let Err(error) = integrity::clear(&scratch, "").await {
            tracing::warn!(%error, "what integrity checks left is not removed");
        }
        let places = destinations.into_iter().map(|named| {
            let pace = Arc::new(Pace::new(named.verification.bandwidth));
            Place { named, pace }
        });
        let context = Context { replica, images, places: places.collect(), request_snapshot, scratch };
        Self { _task: spawn_owned(supervise(Arc::new(context))) }
    }
}

/// Has a task for each destination while this node leads.
async fn supervise(context: Arc<Context>) {
    let mut tasks: Vec<OwnedTask> = Vec::new();
    let mut seen = 0;
    loop {
        let leads = context.replica.leadership().is_leader;
        if leads && tasks.is_empty() {
            let places = context.places.iter().enumerate();
            let verified = places.filter_map(|(place, it)| Some((place, it.named.verification.interval?)));
            tasks = verified
                .map(|(place, interval)| spawn_owned(Rounds::new(Arc::clone(&context), place, interval).run()))
                .collect();
        } else if !leads {
            tasks.clear();
        }
        seen = context.replica.changed(seen).await;
        time::sleep(LOOK_INTERVAL).await;
    }
}

/// One database in its turn.
struct Turn {
    due: Instant,
    failures: u32,
    memory: Memory,
}

/// The verification of one destination.
struct Rounds {
    context: Arc<Context>,
    place: usize,
    interval: Duration,
    turns: BTreeMap<DatabaseName, Turn>,
}

impl Rounds {
    fn new(context: Arc<Context>, place: usize, interval: Duration) -> Self {
        Self { context, place, interval, turns: BTreeMap::new() }
    }

    async fn run(mut self) {
        let poll = (self.interval / 10).clamp(SHORTEST_POLL, LONGEST_POLL);
        loop {
            self.notice();
            let now = Instant::now();
            let next = self.turns.iter().min_by_key(|(_, turn)| turn.due).map(|(name, turn)| (name.clone(), turn.due));
            match next {
                Some((database, due)) if due <= now => self.take_turn(&database).await,
                _ => time::sleep_until(next.map_or(now + poll, |(_, due)| due.min(now + poll))).await,
            }
        }
    }

    /// Takes note of databases that have something to upload.
    fn notice(&mut self) {
        let name = &self.context.places[self.place].named.name;
        for database in self.context.replica.databases() {
            if self.turns.contains_key(&database) {
                continue;
            }
            let Some(view) = self.context.replica.database(&database) else { continue };
            if view.head.txid == 0 {
                continue;
            }
            let last = view.verifications.get(name).map(|last| UnixMillis(last.time_ms));
            let known = Known { last, wall_clock: UnixMillis::now() };
            let due = schedule::first(Instant::now(), self.interval, known, share());
            self.turns.insert(database, Turn { due, failures: 0, memory: Memory::default() });
        }
    }

    async fn take_turn(&mut self, database: &DatabaseName) {
        let Some(turn) = self.turns.get_mut(database) else { return };
        let destination = &self.context.places[self.place].named.name;
        let verified = verify(&self.context, database, self.place, &mut turn.memory).await;
        turn.failures = match &verified {
            Ok(_) => 0,
            Err(_) => turn.failures.saturating_add(1),
        };
        turn.due = schedule::next(Instant::now(), self.interval, turn.failures, share());
        let labels = [("database", database.to_string()), ("destination", destination.clone())];
        let failures = counter!("seawall_destination_verification_failures_total", &labels);
        match verified {
            Ok(None) => {}
            Ok(Some(result)) => {
                failures.increment(u64::from(result.problems > 0));
                report(&self.context.replica, result).await;
            }
            Err(Unverified::NotLeader) => {}
            Err(error @ Unverified::Place(_)) => {
                failures.increment(1);
                tracing::warn!(%database, destination, %error, "a destination could not be verified, trying again later");
            }
        }
    }
}

/// A draw from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn share() -> f64 {
    random::below(1 << 20) as f64 / f64::from(1_u32 << 20)
}

/// Has the cluster agree on a result.
async fn report(replica: &Replica, result: v1::VerificationResult) {
    let command = v1::ProgressCommand { verifications: vec![result], ..v1::ProgressCommand::default() };
    let command = v1::Command { command: Some(Command::Progress(command)) };
    for attempt in 1..=PROPOSALS {
        match replica.propose(command.clone(), bytes::Bytes::new()).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, attempt, "what a verification found was not taken in yet"),
        }
        time::sleep(PROPOSAL_PAUSE).await;
    }
}
