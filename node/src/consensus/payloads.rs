//! Payloads of entries, wherever they are: in the log file, beside it, or, where the disk damaged them, on other nodes.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use seawall_host::probe::sometimes;
use seawall_host::{disk, time};
use seawall_proto::{MAX_PART_BYTES, v1};

use super::blobs::{self, ENTRY_PREFIX, Giver};
use super::identity::Identity;
use super::live_state::LiveState;
use super::network::Network;
use crate::store::log::{DamagedPayload, LogEntry, LogFile, LogId, ReadLogError};

const DIRECTORY: &str = "payloads";
/// How long the other nodes may take to give a payload.
const GIVE_LIMIT: Duration = Duration::from_secs(10);
/// How often they are asked for one that consensus cannot do without, and how long after each other.
const TRIES: u32 = 20;
const RETRY: Duration = Duration::from_secs(1);

/// The other members of the cluster.
pub(super) struct Others {
    pub(super) identity: Arc<Identity>,
    pub(super) network: Network,
    pub(super) live: Arc<LiveState>,
}

impl Others {
    fn givers(&self) -> Vec<Giver> {
        let inner = self.live.lock();
        let members = inner.membership.membership();
        Giver::all(members.nodes(), &self.identity, &self.network, inner.standing.leader)
    }
}

/// Payloads of entries: those in the log file, and those in files of their own. These came with a snapshot instead of
/// through the log (named by their index), or from another node in place of one that the disk damaged (named by their
/// log id: it need not be committed, so another entry may take its index).
#[derive(Clone)]
pub(super) struct Payloads {
    directory: Arc<Path>,
    log: LogFile,
    others: Option<Arc<Others>>,
}

impl Payloads {
    /// Those of a data directory; what is damaged is had from `others`.
    pub(super) fn new(data_dir: &Path, log: LogFile, others: Option<Others>) -> Self {
        Self { directory: data_dir.join(DIRECTORY).into(), log, others: others.map(Arc::new) }
    }

    /// The payload of the log's entry `index`, wherever it is; `None` if no node has it any more.
    ///
    /// # Errors
    /// The disk's; or it is damaged here, and a node that may have it does not answer.
    pub(super) async fn get(&self, index: u64) -> io::Result<Option<Bytes>> {
        let found = match self.log.payload(index).await {
            Ok(found) => found,
            Err(ReadLogError::Io(error)) => return Err(error),
            Err(ReadLogError::Damaged(damaged)) => self.mend(&damaged).await?,
        };
        match found {
            Some(payload) => Ok(Some(payload)),
            None => read(&self.path(index)).await,
        }
    }

    /// The payload of an entry as far as it is on this node, for another one whose own is damaged.
    pub(super) async fn held(&self, id: LogId) -> io::Result<Option<Bytes>> {
        match self.log.payload_of(id).await {
            Ok(Some(payload)) => Ok(Some(payload)),
            Ok(None) => read(&self.path(id.index)).await,
            Err(ReadLogError::Io(error)) => Err(error),
            Err(ReadLogError::Damaged(damaged)) => self.mended(&damaged).await,
        }
    }

    /// The first unpurged entries of the log in `range`, at least one, at most `max_bytes`.
    ///
    /// # Errors
    /// The disk's; or the first is damaged here, and no other node gave it.
    pub(super) async fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let mut tries = 0;
        loop {
            let damaged = match self.log.entries(range.clone(), max_bytes).await {
                Ok(entries) => return Ok(entries),
                Err(ReadLogError::Io(error)) => return Err(error),
                Err(ReadLogError::Damaged(damaged)) => damaged,
            };
            tries += 1;
            match self.mend(&damaged).await {
                Ok(Some(payload)) => {
                    let index = damaged.id.index;
                    let head = self.log.heads(index..index + 1).pop().filter(|head| head.id == damaged.id);
                    // Else it was cut off or purged meanwhile.
                    if let Some(head) = head {
                        return Ok(vec![LogEntry { id: head.id, meta: head.meta, payload }]);
                    }
                }
                Ok(None) => return Err(lost(&damaged, "no other node has it")),
                Err(error) if tries >= TRIES => return Err(lost(&damaged, &error.to_string())),
                Err(error) => {
                    tracing::warn!(%error, "cannot send an entry to another node, trying again");
                    time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Removes the files that belong to entries below `index`.
    pub(super) async fn remove_below(&self, index: u64) -> io::Result<()> {
        if !disk::exists(&self.directory).await? {
            return Ok(());
        }
        for entry in disk::list(&self.directory).await? {
            let number = match entry.name.parse::<LogId>() {
                Ok(id) => Some(id.index),
                Err(_) => entry.name.parse().ok(),
            };
            if number.is_some_and(|number| number < index) {
                disk::remove_file(&self.directory.join(entry.name)).await?;
            }
        }
        Ok(())
    }

    /// Whether the payload of entry `index` came with a snapshot.
    pub(super) async fn holds(&self, index: u64) -> io::Result<bool> {
        disk::exists(&self.path(index)).await
    }

    /// Keeps the payload of entry `index`, which came with a snapshot.
    pub(super) async fn put(&self, index: u64, payload: Bytes) -> io::Result<()> {
        self.keep(&self.path(index), payload).await
    }

    async fn keep(&self, path: &Path, payload: Bytes) -> io::Result<()> {
        disk::create_directories(&self.directory).await?;
        disk::replace_file(path, payload).await
    }

    fn path(&self, index: u64) -> PathBuf {
        self.directory.join(index.to_string())
    }

    fn mended_path(&self, id: LogId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// What another node gave for a damaged payload before.
    async fn mended(&self, damaged: &DamagedPayload) -> io::Result<Option<Bytes>> {
        let found = read(&self.mended_path(damaged.id)).await?;
        Ok(found.filter(|payload| damaged.is_mended_by(payload)))
    }

    /// Gets a payload that is damaged here from another node, and keeps it beside the log, so that nobody is asked for
    /// it again. `None` if no node has it.
    async fn mend(&self, damaged: &DamagedPayload) -> io::Result<Option<Bytes>> {
        if let Ok(Some(payload)) = self.mended(damaged).await {
            return Ok(Some(payload));
        }
        let givers = self.others.as_ref().map_or_else(Vec::new, |others| others.givers());
        let mut answers: FuturesUnordered<_> = givers.into_iter().map(|giver| ask(giver, damaged.id)).collect();
        let mut failures = Vec::new();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(Some(payload)) if damaged.is_mended_by(&payload) => {
                    sometimes("damaged payload of the log had from another node");
                    metrics::counter!("seawall_log_payloads_mended_total").increment(1);
                    tracing::warn!("{damaged}. Node {node} gave it; check the disk");
                    if let Err(error) = self.keep(&self.mended_path(damaged.id), payload.clone()).await {
                        tracing::warn!(%error, "it cannot be kept, and is asked for again");
                    }
                    return Ok(Some(payload));
                }
                Ok(Some(_)) => failures.push(format!("node {node} gave other bytes")),
                Ok(None) => {}
                Err(error) => failures.push(format!("node {node}: {error}")),
            }
        }
        if let Some(error) = &damaged.cause {
            // The disk may give it the next time.
            failures.push(error.to_string());
        }
        if failures.is_empty() {
            metrics::counter!("seawall_log_payloads_lost_total").increment(1);
            tracing::error!("{damaged}. No other node has it; check the disk");
            return Ok(None);
        }
        Err(io::Error::other(format!("{damaged}; no other node gives it now: {}", failures.join("; "))))
    }
}

/// Asks a node for a payload; `None` if it has none.
async fn ask(giver: Giver, entry: LogId) -> (u64, io::Result<Option<Bytes>>) {
    let Giver { id, mut peer, envelope } = giver;
    let request = v1::ReadBlobRequest { envelope: Some(envelope), id: format!("{ENTRY_PREFIX}{entry}"), offset: 0 };
    let answer = async {
        let mut bytes = BytesMut::new();
        let mut chunks = match blobs::fetch(&mut peer, request).await {
            Ok(chunks) => chunks,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        while let Some(chunk) = chunks.try_next().await? {
            if bytes.len() + chunk.len() > MAX_PART_BYTES {
                return Err(io::Error::other("it gave more than an entry can have"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.freeze()))
    };
    (id, time::timeout(GIVE_LIMIT, answer).await.unwrap_or_else(|elapsed| Err(io::Error::other(elapsed))))
}

async fn read(path: &Path) -> io::Result<Option<Bytes>> {
    match disk::read_file(path, MAX_PART_BYTES).await {
        Ok(payload) => Ok(Some(payload)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last word of a node that others wait for in vain.
fn lost(damaged: &DamagedPayload, why: &str) -> io::Error {
    let text = format!(
        "{damaged}; {why}. Other nodes need it from this one while it leads, so it ends, and another one may lead. Check \
         the disk; if this comes again, move the node's whole data directory away and start the node with an empty one"
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}
