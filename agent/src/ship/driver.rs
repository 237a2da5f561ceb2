//! One database's task: open, claim, ship, and begin again where that ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seawall_host::probe::sometimes;
use seawall_host::watch::ChangeSignal;
use seawall_host::{random, task, time, watch};
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Lineage, PageSize, Position, Txid};
use seawall_proto::v1::claim_response::{Granted, Outcome};
use seawall_proto::v1::{ClaimRequest, Head};

use super::cluster::{Cluster, ClusterError};
use super::session::{End, QUARANTINED, Session};
use super::shared::Shared;
use super::source::{Source, StartFailed};
use super::waiting::Waiting;
use crate::capture::{Capture, CaptureError, OpenError, PageVector, Surprise};
use crate::sqlite::SqliteError;
use crate::status::DatabaseState;
use crate::{AgentSizes, SyncError};

/// A database that can't be used is tried again after this.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts to claim.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);
/// Between two claims in a row that came to nothing; doubled up to the limit.
const RECLAIM_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_RECLAIM_PAUSE: Duration = Duration::from_secs(5);
/// A lock that is missing for an instant.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// A database that stays locked for this long is locked on purpose.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// What a driver drives.
pub(crate) struct DriverConfig {
    pub(crate) path: PathBuf,
    pub(crate) name: DatabaseName,
    pub(crate) take_over: bool,
    pub(crate) agent_id: u64,
    pub(crate) label: String,
    pub(crate) sizes: AgentSizes,
}

/// One database's task.
pub(crate) struct Driver {
    config: DriverConfig,
    cluster: Cluster,
    shared: Arc<Shared>,
    waiting: Waiting,
}

impl Driver {
    /// Not running yet.
    pub(crate) fn new(config: DriverConfig, cluster: Cluster, shared: Arc<Shared>) -> Self {
        Self { config, cluster, shared, waiting: Waiting::default() }
    }

    /// Ships the database until another agent takes over.
    pub(crate) async fn run(mut self) {
        let mut wal = self.config.path.as_os_str().to_owned();
        wal.push("-wal");
        let changes = watch::watch(&PathBuf::from(wal));
        let mut hold = false;
        let mut reason = None;
        let mut pause = RECLAIM_PAUSE;
        loop {
            let before = self.shared.status().head.txid;
            let (end, settled) = self.session(&changes, hold, reason).await;
            if settled {
                (hold, reason) = (false, None);
            }
            match end {
                End::Unusable(error) => {
                    // A comparison that is due stays due.
                    self.set(DatabaseState::Unusable, Some(error));
                    time::sleep(UNUSABLE_PAUSE).await;
                }
                End::Reclaim { reason: why, error, untrusted } => {
                    tracing::warn!(database = %self.config.name, reason = why, error, "comparing the database afresh");
                    self.shared.update(|status| status.last_error = Some(error));
                    hold = untrusted;
                    reason = Some(why);
                    let progressed = self.shared.status().head.txid > before;
                    pause = if progressed { RECLAIM_PAUSE } else { (pause * 2).min(LONGEST_RECLAIM_PAUSE) };
                    time::sleep(random::jitter(pause)).await;
                }
                End::Fenced(error) => {
                    sometimes("agent fenced off");
                    tracing::error!(database = %self.config.name, error, "another agent has taken over: no longer shipping");
                    self.set(DatabaseState::Fenced, Some(error));
                    self.waiting.refuse(&SyncError::Fenced);
                    self.shared.close(&SyncError::Fenced);
                    return;
                }
            }
        }
    }

    fn set(&self, state: DatabaseState, error: Option<String>) {
        self.shared.update(|status| {
            if let Some(error) = &error
                && (status.last_error.as_ref() != Some(error) || status.state != state)
            {
                tracing::warn!(database = %self.config.name, error, "trouble");
            }
            status.state = state;
            status.last_error = error;
        });
    }

    /// From opening the database to whatever ends that.
    async fn session(&mut self, changes: &ChangeSignal, hold: bool, reason: Option<&'static str>) -> (End, bool) {
        match self.begin(hold, reason).await {
            Ok((source, granted, head)) => {
                let epoch = Epoch(granted.epoch);
                let position = position_of(&head);
                self.shared.update(|status| {
                    status.epoch = epoch;
                    status.head = position;
                    status.shipped = position.txid;
                    status.state = if source.resyncing() { DatabaseState::Resyncing } else { DatabaseState::Live };
                    status.last_error = None;
                });
                let session = Session::new(
                    &self.config,
                    &mut self.cluster,
                    &self.shared,
                    &mut self.waiting,
                    changes,
                    source,
                    epoch,
                    position,
                );
                session.run().await
            }
            Err(end) => (end, false),
        }
    }

    async fn begin(&mut self, hold: bool, reason: Option<&'static str>) -> Result<(Source, Granted, Head), End> {
        // What can't be read need not be claimed.
        let mut capture = self.open().await?;
        let granted = self.claim().await?;
        let mut head = granted.head.clone().unwrap_or_default();
        let (database, epoch) = (&self.config.name, granted.epoch);
        tracing::info!(%database, epoch, lineage = head.lineage, txid = head.txid, "claimed");
        if reason.is_some() {
            // Going on from the WAL would only lead to the same end again.
            head.wal = None;
        }
        if head.lineage == 0 {
            return Err(End::Unusable("the cluster granted the claim without a lineage".to_owned()));
        }
        let page_size = PageSize::new(head.page_size).ok().filter(|size| *size == capture.page_size());
        // Copies that were found to be wrong are no base: everything is shipped.
        let comparable = head.txid > 0 && reason != Some(QUARANTINED);
        let base = match page_size.filter(|_| comparable) {
            Some(_) => self.page_hashes(&head, granted.epoch).await?,
            None => None,
        };
        let busy_since = time::Instant::now();
        loop {
            let (head_now, base_now, step_bytes) = (head.clone(), base.clone(), self.config.sizes.step_bytes);
            let started = task::blocking(move || Source::start(capture, &head_now, base_now, hold, step_bytes)).await;
            match started.map_err(|error| End::Unusable(error.to_string()))? {
                Ok((source, compare_because)) => {
                    match compare_because {
                        None => sometimes("agent gone on without a resync"),
                        Some("wal-restarted") => sometimes("resync after the WAL restarted"),
                        Some("source-lost-its-tail") => sometimes("resync after the source lost its tail"),
                        Some("first-time") => {}
                        Some(_) => sometimes("resync for another reason"),
                    }
                    if let Some(because) = compare_because {
                        let because = reason.unwrap_or(because);
                        tracing::info!(database = %self.config.name, reason = because, "comparing with the cluster's copy");
                        self.shared.update(|status| *status.resyncs.entry(because.to_owned()).or_default() += 1);
                        metrics::counter!("seawall_agent_resyncs_total", "database" => self.config.name.to_string(), "reason" => because)
                            .increment(1);
                    }
                    return Ok((source, granted, head));
                }
                Err(StartFailed { again: Some(again), .. }) if busy_since.elapsed() < BUSY_LIMIT => {
                    capture = *again;
                    time::sleep(random::jitter(BUSY_PAUSE)).await;
                }
                Err(StartFailed { error, .. }) => return Err(end_of(error)),
            }
        }
    }

    async fn open(&self) -> Result<Capture, End> {
        let busy_since = time::Instant::now();
        loop {
            let (path, clock) = (self.config.path.clone(), Arc::clone(self.cluster.clock()));
            let opened = task::blocking(move || Capture::open(&path, clock)).await;
            match opened.map_err(|error| End::Unusable(error.to_string()))? {
                Ok(capture) => return Ok(capture),
                Err(OpenError::Sqlite(SqliteError::Busy)) if busy_since.elapsed() < BUSY_LIMIT => {
                    time::sleep(random::jitter(BUSY_PAUSE)).await;
                }
                Err(error) => return Err(end_of(CaptureError::Unusable(error))),
            }
        }
    }

    /// Claims the database, however long that takes.
    async fn claim(&mut self) -> Result<Granted, End> {
        let before = self.shared.status().epoch;
        let request = ClaimRequest {
            database: self.config.name.to_string(),
            agent_id: self.config.agent_id,
            agent_label: self.config.label.clone(),
            // Once is enough: afterwards whoever took over from us keeps it.
            take_over: self.config.take_over,
        };
        loop {
            let problem = match self.cluster.claim(&request).await {
                Ok(Outcome::Granted(granted)) => {
                    self.config.take_over = false;
                    self.shared.update(|status| status.epoch = Epoch(granted.epoch));
                    return Ok(granted);
                }
                Ok(Outcome::Held(held)) if before.0 > 0 && held.epoch > before.0 => {
                    return Err(End::Fenced(format!(
                        "another agent, {}, claimed `{}` with epoch {}",
                        held.agent_label, self.config.name, held.epoch
                    )));
                }
                Ok(Outcome::Held(held)) => format!(
                    "`{}` is shipped by another agent, {} (epoch {}): stop that one, or take over with --take-over",
                    self.config.name, held.agent_label, held.epoch
                ),
                Ok(Outcome::NotLeader(_)) => "no leader".to_owned(),
                Err(error) => error.to_string(),
            };
            self.set(DatabaseState::Claiming, Some(problem));
            time::sleep(random::jitter(CLAIM_PAUSE)).await;
        }
    }

    /// The page hashes of the head, however long that takes; `None` if no node has a copy to compare with.
    async fn page_hashes(&mut self, head: &Head, epoch: u64) -> Result<Option<PageVector>, End> {
        loop {
            match self.cluster.page_hashes(&self.config.name, head).await {
                Ok(vector) => return Ok(Some(vector)),
                Err(ClusterError::CopiesLost(_)) => return Ok(None),
                Err(error) => {
                    self.set(DatabaseState::Claiming, Some(error.to_string()));
                    if let Ok(Some((_, newer))) = self.cluster.head(&self.config.name).await
                        && newer > epoch
                    {
                        // The head may be another one by now, whose predecessors no node keeps hashes of.
                        let error = format!("`{}` was claimed again with epoch {newer}", self.config.name);
                        return Err(End::Reclaim { reason: "claimed-again", error, untrusted: false });
                    }
                    time::sleep(random::jitter(CLAIM_PAUSE)).await;
                }
            }
        }
    }
}

/// The state that a head names.
pub(super) fn position_of(head: &Head) -> Position {
    Position { lineage: Lineage(head.lineage), txid: Txid(head.txid), checksum: Checksum(head.checksum) }
}

/// How a session ends by an error of capture.
pub(super) fn end_of(error: CaptureError) -> End {
    match error {
        CaptureError::Surprise(surprise) => End::Reclaim {
            reason: surprise.reason(),
            untrusted: matches!(surprise, Surprise::ShortChain { .. } | Surprise::GrowthGap(_)),
            error: surprise.to_string(),
        },
        CaptureError::Busy | CaptureError::Unusable(OpenError::Sqlite(SqliteError::Busy)) => End::Unusable(
            "the database is locked all the time: does an application use `PRAGMA locking_mode=EXCLUSIVE`?".to_owned(),
        ),
        CaptureError::Unusable(error) => End::Unusable(error.to_string()),
        CaptureError::Encode(error) => End::Reclaim {
            reason: "encode",
            untrusted: false,
            error: format!("what was captured can't be encoded: {error}"),
        },
    }
}
