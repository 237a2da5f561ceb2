//! The one task that writes the log file: whatever waits goes out as one batch with one sync.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use seawall_host::probe::{mutant, sometimes};
use seawall_host::process;
use seawall_host::time::Instant;

use super::index::{PieceIndex, Row};
use super::marks::Marks;
use super::memory::{Current, Done, Effect, Op, Written};
use super::piece::{OpenPiece, SealedPiece};
use super::record::{BatchBuilder, Kind, Record};
use super::room_wait::{RoomWait, is_full};
use super::shared::Shared;

/// A batch that has reached this many bytes is written; what is left goes into the next one.
const BATCH_BYTES: u64 = 8 << 20;

pub(super) struct Writer {
    shared: Arc<Shared>,
    piece_bytes: u64,
    /// Its index is the shared one.
    piece: OpenPiece,
    /// Length of the piece when nothing but marks was in it.
    begins_at: u64,
    marks: Marks,
    waiting: VecDeque<Op>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, piece: OpenPiece, piece_bytes: u64) -> Self {
        let marks = shared.memory().durable.clone();
        Self { shared, piece_bytes, piece, begins_at: 0, marks, waiting: VecDeque::new() }
    }

    /// Writes until the log file is closed. An error ends the program: nothing is known then of what is durable.
    pub(super) async fn run(mut self) {
        loop {
            self.waiting.append(&mut self.shared.memory().queue);
            if self.waiting.is_empty() {
                self.shared.work.notified().await;
                continue;
            }
            match self.write_batch().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => process::halt(&failure(&error)),
            }
        }
    }

    /// Writes one batch of what waits; false once the log file is closed.
    async fn write_batch(&mut self) -> io::Result<bool> {
        let (expected, index_bytes) = {
            let memory = self.shared.memory();
            let index = &memory.current.index;
            (index.last().map(|last| last.index + 1), index.encoded_len())
        };
        let jumps = match (self.waiting.front(), expected) {
            (Some(Op::Entry { entry, .. }), Some(expected)) => entry.id.index != expected,
            _ => false,
        };
        let is_full = self.piece.bytes > self.begins_at && self.piece.bytes + index_bytes >= self.piece_bytes;
        if jumps || is_full {
            self.roll().await?;
            return Ok(true);
        }
        let started = Instant::now();
        let (batch, gathered) = self.gather(expected);
        let Gathered { effects, mut done, closed } = gathered;
        if mutant("ack-before-fsync") {
            done.drain(..).for_each(|done| done(Ok(())));
        }
        if !batch.is_empty() {
            let bytes = self.piece.bytes + batch.len();
            metrics::counter!("seawall_log_written_bytes_total").increment(batch.len());
            let has_payload =
                || effects.iter().any(|it| matches!(it, Effect::Entry { payload, .. } if !payload.is_empty()));
            let written = if mutant("payload-not-synced") && has_payload() {
                self.piece.file.write_at(self.piece.bytes, batch.finish()).await
            } else {
                let parts = batch.finish();
                let mut wait = RoomWait::new(&self.shared);
                loop {
                    let written = self.piece.file.write_and_sync(self.piece.bytes, parts.clone()).await;
                    if let Some(written) = wait.after(written).await {
                        break written;
                    }
                }
            };
            if !mutant("failed-fsync-ignored") {
                written?;
            }
            self.piece.bytes = bytes;
            self.shared.memory().written(Written { effects, marks: self.marks.clone(), bytes });
            metrics::histogram!("seawall_log_batch_seconds").record(started.elapsed().as_secs_f64());
            self.shared.deletion.notify_one();
        }
        for done in done {
            done(Ok(()));
        }
        Ok(!closed)
    }

    /// Takes from what waits as much as fits into one batch.
    fn gather(&mut self, mut expected: Option<u64>) -> (BatchBuilder, Gathered) {
        let mut batch = BatchBuilder::new(self.piece.salt, self.piece.number, self.piece.bytes);
        let mut gathered = Gathered { effects: Vec::new(), done: Vec::new(), closed: false };
        let mut marks_committed = false;
        let mut first = self.shared.memory().current.index.first();
        while let Some(op) = self.waiting.pop_front() {
            let jumps = matches!((&op, expected), (Op::Entry { entry, .. }, Some(at)) if entry.id.index != at);
            let is_full = batch.len() >= BATCH_BYTES && !matches!(op, Op::Done(_));
            if jumps || is_full {
                self.waiting.push_front(op);
                break;
            }
            match op {
                Op::Entry { ticket, entry } => {
                    let (id, payload) = (entry.id, entry.payload);
                    first = first.or(Some(id.index));
                    expected = Some(id.index + 1);
                    let record = Record { kind: Kind::Entry, id: Some(id), meta: entry.meta, payload };
                    let (_, place) = batch.push(&record);
                    self.marks.last = Some(id);
                    let row = Row { id, meta: record.meta, payload: place };
                    gathered.effects.push(Effect::Entry { ticket, row, payload: record.payload });
                }
                Op::Vote(vote) => {
                    batch.push(&Record::new(Kind::Vote, None, vote.clone()));
                    self.marks.vote = Some(vote);
                }
                Op::Cluster(cluster) => {
                    batch.push(&Record::new(Kind::Cluster, None, Bytes::copy_from_slice(&cluster)));
                    self.marks.identity.cluster = cluster;
                }
                Op::Truncate(id) => {
                    batch.push(&Record::new(Kind::Truncate, id, Bytes::new()));
                    self.marks.last = id;
                    expected =
                        expected.and(id).map(|id| id.index + 1).filter(|at| first.is_some_and(|first| *at > first));
                    first = first.filter(|_| expected.is_some());
                    gathered.effects.push(Effect::Truncate(id));
                }
                Op::Purge(id) => {
                    batch.push(&Record::new(Kind::Purge, Some(id), Bytes::new()));
                    self.marks.purge(id);
                }
                Op::Done(done) => gathered.done.push(done),
                Op::Committed => marks_committed = true,
                Op::Close => {
                    gathered.closed = true;
                    break;
                }
            }
        }
        if !batch.is_empty() || gathered.closed || marks_committed {
            self.add_committed(&mut batch);
        }
        if gathered.closed {
            batch.push(&Record::new(Kind::Closed, None, Bytes::new()));
            // What came behind the close was refused, except for the caller that waits for it.
            gathered.done.extend(self.waiting.drain(..).filter_map(|op| match op {
                Op::Done(done) => Some(done),
                _ => None,
            }));
        }
        (batch, gathered)
    }

    /// Adds the committed mark if it is new, unless the entry it names is still to come.
    fn add_committed(&mut self, batch: &mut BatchBuilder) {
        let committed = self.shared.memory().committed();
        if committed == self.marks.committed || committed.map(|id| id.index) > self.marks.last.map(|id| id.index) {
            return;
        }
        batch.push(&Record::new(Kind::Committed, committed, Bytes::new()));
        self.marks.committed = committed;
    }

    /// Seals the piece and begins the next one. Readers use the index in memory until both are durable.
    async fn roll(&mut self) -> io::Result<()> {
        let (index, range) = {
            let memory = self.shared.memory();
            (memory.current.index.encode(self.piece.salt), memory.current.index.range())
        };
        sometimes("log piece begun behind another");
        let mut wait = RoomWait::new(&self.shared);
        let (sealed, next) = loop {
            let begun = begin_next(&self.shared, &self.piece, &index, range, &self.marks).await;
            if let Some(begun) = wait.after(begun).await {
                break begun?;
            }
        };
        let current = Current::new(&next, PieceIndex::default());
        self.begins_at = next.bytes;
        let old = std::mem::replace(&mut self.piece, next);
        let mut memory = self.shared.memory();
        memory.sealed.insert(old.number, sealed);
        memory.current = current;
        memory.keep_file(old.number, old.file);
        Ok(())
    }
}

/// Seals `piece` and creates the one behind it.
async fn begin_next(
    shared: &Shared,
    piece: &OpenPiece,
    index: &Record,
    range: Option<(u64, u64)>,
    marks: &Marks,
) -> io::Result<(SealedPiece, OpenPiece)> {
    let sealed = piece.seal(index, range, marks).await?;
    let next = OpenPiece::create(&shared.dir, piece.number + 1, marks).await?;
    Ok((sealed, next))
}

struct Gathered {
    effects: Vec<Effect>,
    done: Vec<Done>,
    closed: bool,
}

fn failure(error: &io::Error) -> String {
    if is_full(error) {
        return format!(
            "the disk of the log file is full, and more waits for it than memory should hold: {error}. Nothing \
             acknowledged is lost: free space and start the node again"
        );
    }
    format!(
        "the log file cannot be written, and what is on the disk is not known: {error}. Check the disk and start again"
    )
}
