//! The handle of the log file.

use std::io;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use seawall_host::probe::mutant;
use seawall_host::process;
use seawall_host::task::{self, OwnedTask};
use tokio::sync::oneshot;

use super::entry::{EntryHead, LogEntry, LogId};
use super::error::{OpenLogError, ReadLogError};
use super::inspection::LogInspection;
use super::marks::MAX_VOTE;
use super::memory::{Done, Found, Memory, Op};
use super::pins::{LogFilePin, PinView};
use super::recovery::recover;
use super::shared::Shared;
use super::state::LogState;
use super::writer::Writer;

/// Sizes of the log file.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A piece that has reached this many bytes is sealed.
    pub piece_bytes: u64,
    /// Written payloads of at most this many bytes stay in memory.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { piece_bytes: 64 << 20, cache_bytes: 32 << 20 }
    }
}

/// The log file. Clones share it; dropping the last one stops its writer.
#[derive(Clone)]
pub struct LogFile {
    shared: Arc<Shared>,
    was_clean: bool,
    was_created: bool,
    _tasks: Arc<[OwnedTask; 2]>,
}

impl LogFile {
    /// Opens the log file in `dir`, or creates it; the caller holds the lock of the data directory. No piece is
    /// deleted before [`LogFile::start_deleting`].
    ///
    /// # Errors
    /// [`OpenLogError`].
    pub async fn open(dir: &Path, options: LogOptions) -> Result<Self, OpenLogError> {
        let recovered = recover(dir).await?;
        let (was_clean, was_created) = (recovered.was_clean, recovered.was_created);
        let (memory, piece) = Memory::new(recovered, options);
        let shared = Arc::new(Shared::new(dir.to_owned(), memory));
        let writer = Writer::new(Arc::clone(&shared), piece, options.piece_bytes).run();
        let writer = task::spawn_owned(AssertUnwindSafe(writer).catch_unwind().map(|outcome| {
            if outcome.is_err() {
                process::halt("the writer of the log file panicked");
            }
        }));
        let deleter = Arc::clone(&shared);
        let deleter = task::spawn_owned(async move { deleter.delete_pieces().await });
        Ok(Self { shared, was_clean, was_created, _tasks: Arc::new([writer, deleter]) })
    }

    /// What the log file knows beside its entries.
    pub fn state(&self) -> LogState {
        let memory = self.shared.memory();
        LogState {
            identity: memory.durable.identity,
            vote: memory.durable.vote.clone(),
            committed: memory.committed(),
            purged: memory.purged(),
            last: memory.last(),
            was_clean: self.was_clean,
            was_created: self.was_created,
        }
    }

    /// Appends entries that continue the last. They are readable when this returns; `done` is called once they are
    /// durable, in the order of the calls, or with the reason why they were refused.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let mut memory = self.shared.memory();
        let outcome = memory.append(entries);
        let refused = match outcome {
            Ok(()) => {
                memory.queue.push_back(Op::Done(done));
                None
            }
            Err(error) => Some((error, done)),
        };
        drop(memory);
        match refused {
            None => self.shared.work.notify_one(),
            Some((error, done)) => done(Err(error)),
        }
    }

    /// Saves the vote; durable when this returns.
    ///
    /// # Errors
    /// If the vote is too large or the log file is closed.
    pub async fn save_vote(&self, vote: Bytes) -> io::Result<()> {
        if vote.len() > MAX_VOTE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a vote is too large for the log file"));
        }
        if mutant("unsynced-vote") {
            return self.shared.memory().push(Op::Vote(vote));
        }
        self.write(|memory| memory.push(Op::Vote(vote))).await
    }

    /// Saves the cluster this node belongs to; durable when this returns.
    ///
    /// # Errors
    /// If the log file is closed.
    pub async fn save_cluster(&self, cluster: [u8; 16]) -> io::Result<()> {
        self.write(|memory| memory.push(Op::Cluster(cluster))).await
    }

    /// Remembers what is committed; it goes to the disk with the next batch.
    pub fn save_committed(&self, id: Option<LogId>) {
        self.shared.memory().save_committed(id);
    }

    /// Makes it durable that the entries up to `index` are committed, as far as that is known.
    ///
    /// # Errors
    /// If the log file is closed.
    pub async fn sync_committed(&self, index: u64) -> io::Result<()> {
        let reached = |id: Option<LogId>| id.is_some_and(|id| id.index >= index);
        if reached(self.shared.memory().durable.committed) {
            return Ok(());
        }
        self.write(|memory| memory.push(Op::Committed)).await
    }

    /// Removes the entries after `id` (all of them if `None`); durable when this returns.
    ///
    /// # Errors
    /// If some of them are purged, or the log file is closed.
    pub async fn truncate_after(&self, id: Option<LogId>) -> io::Result<()> {
        self.write(|memory| memory.truncate_after(id)).await
    }

    /// Raft no longer needs entries up to `id`; durable when this returns. Their payloads stay while a pin wants them.
    /// If `id` is beyond the last entry, the log goes on behind it, and what is after the committed mark is cut off.
    ///
    /// # Errors
    /// If the log file is closed.
    pub async fn purge(&self, id: LogId) -> io::Result<()> {
        self.write(|memory| memory.purge(id)).await
    }

    /// The unpurged entries of `range`, without payloads.
    pub fn heads(&self, range: Range<u64>) -> Vec<EntryHead> {
        self.shared.memory().heads(range)
    }

    /// The first unpurged entries of `range`, at most `max_bytes` of them but at least one; they end before one whose
    /// payload is damaged.
    ///
    /// # Errors
    /// The machine's, or that the disk does not give back the first payload.
    pub async fn entries(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, ReadLogError> {
        let found = self.shared.memory().find_entries(range, max_bytes);
        let mut entries = Vec::with_capacity(found.len());
        let mut found = found.into_iter().peekable();
        while let Some((head, place)) = found.next() {
            let (mut heads, mut run) = (vec![head], Vec::new());
            let read = match place {
                Found::Written { id, piece, place } => {
                    // Neighbours are read in one turn.
                    run.push((id, place));
                    let mut end = place.end();
                    while let Some((head, Found::Written { id, place, .. })) = found.next_if(|(_, next)| {
                        matches!(next, Found::Written { piece: other, place, .. }
                            if *other == piece && place.offset >= end && place.offset - end <= READ_GAP)
                    }) {
                        end = place.end();
                        heads.push(head);
                        run.push((id, place));
                    }
                    self.shared.read_run(piece, &run).await
                }
                place => {
                    self.shared.fetch(heads[0].id.index, place).await.map(|it| it.map(|it| it.1).into_iter().collect())
                }
            };
            let wanted = heads.len();
            let payloads = match read {
                Err(ReadLogError::Damaged(_)) if !entries.is_empty() => break,
                read => read?,
            };
            let is_whole = payloads.len() == wanted;
            let entry = |(head, payload): (EntryHead, Bytes)| LogEntry { id: head.id, meta: head.meta, payload };
            entries.extend(heads.into_iter().zip(payloads).map(entry));
            if !is_whole {
                break;
            }
        }
        Ok(entries)
    }

    /// The payload of an entry, even one that Raft purged; `None` if it is gone.
    ///
    /// # Errors
    /// The machine's, or that the disk does not give it back.
    pub async fn payload(&self, index: u64) -> Result<Option<Bytes>, ReadLogError> {
        Ok(self.find(index).await?.map(|(_, payload)| payload))
    }

    /// The same, unless the entry under this index is another one.
    ///
    /// # Errors
    /// As [`LogFile::payload`].
    pub async fn payload_of(&self, id: LogId) -> Result<Option<Bytes>, ReadLogError> {
        let found = self.find(id.index).await?;
        Ok(found.filter(|(known, _)| known.is_none_or(|known| known == id)).map(|(_, payload)| payload))
    }

    async fn find(&self, index: u64) -> Result<Option<(Option<LogId>, Bytes)>, ReadLogError> {
        let Some(found) = self.shared.memory().find(index) else {
            return Ok(None);
        };
        match self.shared.fetch(index, found).await {
            // Its piece was deleted meanwhile.
            Err(ReadLogError::Io(error))
                if error.kind() == io::ErrorKind::NotFound && self.shared.memory().find(index).is_none() =>
            {
                Ok(None)
            }
            found => found,
        }
    }

    /// Keeps payloads from `from_index` on.
    pub fn pin(&self, from_index: u64, reason: &'static str) -> LogFilePin {
        LogFilePin::new(Arc::clone(&self.shared), from_index, reason)
    }

    /// Every pin, the lowest first.
    pub fn pins(&self) -> Vec<PinView> {
        let memory = self.shared.memory();
        let view = |(from_index, reason): &(u64, &'static str)| PinView { reason, from_index: *from_index };
        let mut pins: Vec<PinView> = memory.pins.values().map(view).collect();
        pins.sort_by_key(|pin| pin.from_index);
        pins
    }

    /// Lets pieces go from now on: call it once everyone who needs old entries has pinned them again.
    pub fn start_deleting(&self) {
        self.shared.memory().deleting = true;
        self.shared.deletion.notify_one();
    }

    /// Keeps all pieces from now on: call it before pins go only because the node ends.
    pub fn stop_deleting(&self) {
        self.shared.memory().deleting = false;
    }

    /// The last entry that is durable.
    pub fn synced(&self) -> Option<LogId> {
        self.shared.memory().durable.last
    }

    /// Bytes of all pieces.
    pub fn bytes_on_disk(&self) -> u64 {
        self.shared.memory().bytes_on_disk()
    }

    /// The first entry whose payload is here, if any is.
    pub fn first_held(&self) -> Option<u64> {
        self.shared.memory().first_held()
    }

    /// Bytes of the pieces that a pin at `index` keeps.
    pub fn bytes_from(&self, index: u64) -> u64 {
        self.shared.memory().bytes_from(index)
    }

    /// Bytes that are queued and not yet written.
    pub fn bytes_queued(&self) -> u64 {
        self.shared.memory().queued_bytes
    }

    /// A look from outside, for oracles; of the entries those from `from` on that are not purged.
    pub fn inspect(&self, from: u64) -> LogInspection {
        self.shared.memory().inspect(from)
    }

    /// Writes what is queued and a mark that says that nothing is missing, and stops. Later writes fail.
    ///
    /// # Errors
    /// If the log file is closed already.
    pub async fn close(&self) -> io::Result<()> {
        let (sender, durable) = oneshot::channel();
        self.shared.memory().close(notify(sender))?;
        self.shared.work.notify_one();
        durable.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Queues something and waits until it is durable.
    async fn write(&self, queue: impl FnOnce(&mut Memory) -> io::Result<()>) -> io::Result<()> {
        let (sender, durable) = oneshot::channel();
        {
            let mut memory = self.shared.memory();
            queue(&mut memory)?;
            memory.push(Op::Done(notify(sender)))?;
        }
        self.shared.work.notify_one();
        durable.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Payloads with at most this many bytes between them are read in one turn.
const READ_GAP: u64 = 4096;

fn notify(sender: oneshot::Sender<io::Result<()>>) -> Done {
    Box::new(move |outcome| {
        // Nobody waits any more if the receiver is gone.
        let _ = sender.send(outcome);
    })
}

fn stopped() -> io::Error {
    io::Error::other("the log file has stopped")
}
