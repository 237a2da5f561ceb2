//! Reading the log file when a program starts.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use bytes::Bytes;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::random;

use super::batches::{find_batch, read_batch};
use super::entry::LogId;
use super::error::OpenLogError;
use super::index::{PieceIndex, Row};
use super::marks::Marks;
use super::piece::{self, OpenPiece, SealedFound, SealedPiece, damaged};
use super::record::{BatchBuilder, Kind, PayloadPlace, Record, RecordHead};
use super::state::Identity;

/// What was found.
pub(super) struct Recovered {
    pub(super) marks: Marks,
    /// The entries that Raft did not purge, with the numbers of their pieces.
    pub(super) entries: VecDeque<(Row, u64)>,
    pub(super) sealed: BTreeMap<u64, SealedPiece>,
    pub(super) open: OpenPiece,
    pub(super) was_clean: bool,
    pub(super) was_created: bool,
}

/// Reads the pieces in `dir`, mends a torn end, and begins a first piece if there is none.
pub(super) async fn recover(dir: &Path) -> Result<Recovered, OpenLogError> {
    disk::create_directories(dir).await?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk::sync_directory(parent).await?;
    }
    let mut numbers = Vec::new();
    for entry in disk::list(dir).await? {
        if piece::is_copy(&entry.name) {
            // A former start died over it.
            disk::remove_file(&dir.join(&entry.name)).await?;
        }
        numbers.extend(piece::number(&entry.name).filter(|_| !entry.is_directory));
    }
    numbers.sort_unstable();
    let mut replay = Replay::default();
    let Some(&last) = numbers.last() else {
        return replay.begin(dir, 1).await;
    };
    for (expected, found) in (numbers[0]..).zip(&numbers) {
        if expected != *found {
            return Err(OpenLogError::MissingPiece { path: piece::path(dir, expected) });
        }
    }
    // What it says is only used to skip what older pieces say of purged entries.
    let newest = File::open(&piece::path(dir, last), OpenMode::ReadWrite).await?;
    let known = piece::read_opening(&newest, last).await?;
    let purged_before = known.ok().and_then(|(_, marks)| marks.purged);
    for &number in &numbers[..numbers.len() - 1] {
        replay.sealed_piece(dir, number, purged_before).await?;
    }
    let end = replay.newest_piece(dir, &newest, last).await?;
    replay.check_complete(dir, numbers[0])?;
    match end {
        NewestPiece::NeverBegun => replay.begin(dir, last).await,
        NewestPiece::Sealed(sealed) => {
            disk::sync_directory(dir).await?;
            replay.sealed.insert(last, sealed);
            replay.begin(dir, last + 1).await
        }
        NewestPiece::Open(open) => {
            disk::sync_directory(dir).await?;
            replay.go_on(open).await
        }
    }
}

enum NewestPiece {
    /// Not even its first batch is whole: the program died while it began the piece.
    NeverBegun,
    Sealed(SealedPiece),
    Open(OpenPiece),
}

#[derive(Default)]
struct Replay {
    marks: Option<Marks>,
    /// Consecutive, after the purged one, up to the last.
    entries: VecDeque<(Row, u64)>,
    sealed: BTreeMap<u64, SealedPiece>,
    was_clean: bool,
}

impl Replay {
    /// Takes over a piece by its index.
    async fn sealed_piece(&mut self, dir: &Path, number: u64, purged: Option<LogId>) -> Result<(), OpenLogError> {
        let found = SealedFound::read(dir, number).await?;
        let wrong =
            |what: &str| OpenLogError::Damaged { path: piece::path(dir, number), offset: 0, what: what.to_owned() };
        self.open_with(found.opening.clone()).map_err(wrong)?;
        if let Some(to) = found.summary.truncates {
            self.truncate_after(to);
        }
        self.sealed.insert(number, found.piece.clone());
        if found.summary.last().is_some_and(|last| purged.is_some_and(|purged| last <= purged.index)) {
            self.entries.clear();
        } else {
            self.skip_purged(found.summary.first, found.closing.purged);
            for row in found.index().await?.rows() {
                self.entry(row.clone(), number).map_err(wrong)?;
            }
            let mut last = self.marks.as_ref().and_then(|marks| marks.last);
            if let Some(purged) = found.closing.purged
                && last.is_none_or(|last| last.index <= purged.index)
            {
                last = Some(purged);
            }
            if found.closing.last != last {
                return Err(wrong("its index does not end where its marks say"));
            }
        }
        self.marks = Some(found.closing);
        self.trim();
        Ok(())
    }

    /// Reads the newest piece batch by batch, and cuts off a torn one at its end.
    async fn newest_piece(&mut self, dir: &Path, file: &File, number: u64) -> Result<NewestPiece, OpenLogError> {
        let len = file.len().await?;
        let mut at = 0;
        let mut salt = None;
        let mut index = PieceIndex::default();
        let mut seal = None;
        while at < len {
            let read = read_batch(file, number, salt, at, len).await?;
            let wrong = match &read {
                Ok(batch) => batch.damage(),
                Err(what) => Some(*what),
            };
            let later = match wrong {
                Some(_) => find_batch(file, number, salt, at + 1, len).await?,
                None => None,
            };
            let later = later.filter(|_| !mutant("rot-taken-for-torn-write"));
            let batch = match (read, wrong, later) {
                (Ok(batch), None, _) => batch,
                (Ok(batch), Some(_), Some(_)) => {
                    // Everything but the bytes of these payloads is known; other nodes may have those.
                    tracing::warn!(
                        piece = %file.path().display(), offset = at, payloads = batch.records.damaged,
                        "payloads in the log file are damaged; they are had from other nodes when they are needed"
                    );
                    batch
                }
                (Err(what), _, Some(later)) => {
                    let what = format!("{what}, but a later batch, at {later}, says that all before it was synced");
                    return Err(damaged(file, at, what));
                }
                (_, what, None) => {
                    let what = what.unwrap_or_default();
                    if at == 0 && !self.may_begin(number, len) {
                        return Err(damaged(file, at, what));
                    }
                    sometimes("torn tail of the log cut off");
                    tracing::warn!(
                        piece = %file.path().display(), offset = at, bytes = len - at, what,
                        "the last write to the log file was torn; it is cut off"
                    );
                    break;
                }
            };
            if seal.is_some() {
                return Err(damaged(file, at, "a sealed piece goes on"));
            }
            at = batch.end();
            for head in batch.records.heads {
                match head.kind {
                    Kind::Index => seal = Some(head.payload),
                    Kind::Closing | Kind::Seal => {}
                    _ => {
                        let is_first = salt.is_none();
                        let done = self.record(file.path(), number, &mut index, head, is_first)?;
                        done.map_err(|what| damaged(file, batch.header.offset, what))?;
                        salt = Some(batch.header.salt);
                    }
                }
            }
        }
        let Some(salt) = salt else {
            return Ok(NewestPiece::NeverBegun);
        };
        self.was_clean &= at == len;
        // What is whole may lie in the machine's memory only: the program may have died before a sync, or over one that
        // failed, and after that no further sync of the same bytes means anything.
        let file = &if self.was_clean { file.clone() } else { piece::write_anew(dir, number, file, at).await? };
        Ok(match seal {
            Some(PayloadPlace { offset: rows_offset, .. }) => {
                let range = index.range();
                let stored_first = range.map_or(0, |(first, _)| first);
                NewestPiece::Sealed(SealedPiece { salt, bytes: at, stored_first, rows_offset, range })
            }
            None => NewestPiece::Open(OpenPiece { number, salt, file: file.clone(), bytes: at, index }),
        })
    }

    /// Takes over one record of the newest piece; the inner error says what it contradicts.
    fn record(
        &mut self,
        path: &Path,
        number: u64,
        index: &mut PieceIndex,
        head: RecordHead,
        is_first: bool,
    ) -> Result<Result<(), &'static str>, OpenLogError> {
        self.was_clean = head.kind == Kind::Closed;
        if is_first {
            return Ok(match piece::decode_marks(path, Kind::Opening, &head)? {
                Some(marks) => self.open_with(marks),
                None => Err("the piece does not begin with valid marks"),
            });
        }
        let Some(marks) = &mut self.marks else {
            return Ok(Err("the piece does not begin with valid marks"));
        };
        match (head.kind, head.id) {
            (Kind::Entry, Some(id)) => {
                // A copy, so that one entry does not keep its whole batch in memory.
                let meta = Bytes::copy_from_slice(&head.meta);
                let row = Row { id, meta, payload: head.payload };
                if !index.push(row.clone()) {
                    return Ok(Err("an entry does not continue the one before it"));
                }
                return Ok(self.entry(row, number));
            }
            (Kind::Vote, _) => marks.vote = Some(Bytes::copy_from_slice(&head.meta)),
            (Kind::Committed, id) => marks.committed = id,
            (Kind::Truncate, id) => {
                index.truncate_after(id);
                self.truncate_after(id);
            }
            (Kind::Purge, Some(id)) => {
                marks.purge(id);
                self.trim();
            }
            (Kind::Cluster, _) => match head.meta.as_ref().try_into() {
                Ok(cluster) => marks.identity.cluster = cluster,
                Err(_) => return Ok(Err("the cluster's id has a wrong length")),
            },
            (Kind::Opened | Kind::Closed, _) => {}
            _ => return Ok(Err("a record is out of place")),
        }
        Ok(Ok(()))
    }

    /// Whether the newest piece, whose first batch is not valid, can be one that was never begun.
    fn may_begin(&self, number: u64, len: u64) -> bool {
        match &self.marks {
            Some(marks) => len <= piece::opening_len(marks),
            None => number == 1 && len <= piece::opening_len(&Marks::new(Identity { cluster: [0; 16], raft_id: 0 })),
        }
    }

    fn open_with(&mut self, marks: Marks) -> Result<(), &'static str> {
        if let Some(before) = &self.marks {
            if marks.identity.raft_id != before.identity.raft_id {
                return Err("it belongs to another node");
            }
            if marks != *before {
                return Err("it does not continue the piece before it");
            }
        }
        self.marks = Some(marks);
        self.trim();
        Ok(())
    }

    fn entry(&mut self, row: Row, number: u64) -> Result<(), &'static str> {
        let Some(marks) = &mut self.marks else {
            return Err("the piece does not begin with valid marks");
        };
        if marks.last.is_some_and(|last| last.index.checked_add(1) != Some(row.id.index)) {
            return Err("an entry does not continue the one before it");
        }
        marks.last = Some(row.id);
        self.entries.push_back((row, number));
        Ok(())
    }

    /// A piece that has no entry yet may begin with a purge past its end, as a snapshot makes one: what lies between
    /// the pieces before and its own `first` entry was never in the log.
    fn skip_purged(&mut self, first: u64, purged: Option<LogId>) {
        let (Some(marks), Some(purged)) = (&mut self.marks, purged) else { return };
        let next = marks.last.map_or(0, |last| last.index.saturating_add(1));
        if let Some(before) = first.checked_sub(1)
            && next < first
            && first <= purged.index.saturating_add(1)
        {
            self.entries.clear();
            marks.last = Some(LogId { index: before, ..purged });
        }
    }

    fn truncate_after(&mut self, id: Option<LogId>) {
        let keep_below = id.map_or(0, |id| id.index.saturating_add(1));
        while self.entries.back().is_some_and(|(row, _)| row.id.index >= keep_below) {
            self.entries.pop_back();
        }
        for piece in self.sealed.values_mut() {
            piece.truncate_after(id);
        }
        if let Some(marks) = &mut self.marks {
            marks.last = id;
        }
    }

    /// Drops purged entries.
    fn trim(&mut self) {
        let purged = self.marks.as_ref().and_then(|marks| marks.purged);
        while self.entries.front().is_some_and(|(row, _)| purged.is_some_and(|purged| row.id.index <= purged.index)) {
            self.entries.pop_front();
        }
    }

    /// Checks that all that Raft did not purge is there.
    fn check_complete(&self, dir: &Path, oldest: u64) -> Result<(), OpenLogError> {
        let Some(Marks { last: Some(last), purged, .. }) = &self.marks else {
            return Ok(());
        };
        let first = self.entries.front().map(|(row, _)| row.id.index);
        let is_complete = match purged {
            Some(purged) => last.index <= purged.index || first == Some(purged.index + 1),
            None => first.is_some() && oldest == 1,
        };
        if is_complete {
            return Ok(());
        }
        Err(OpenLogError::MissingPiece { path: piece::path(dir, oldest.saturating_sub(1)) })
    }

    /// Begins a piece. Without one before it, the node is born.
    async fn begin(mut self, dir: &Path, number: u64) -> Result<Recovered, OpenLogError> {
        let was_created = self.marks.is_none();
        let born = || Marks::new(Identity { cluster: [0; 16], raft_id: random::u64().max(1) });
        let marks = self.marks.get_or_insert_with(born);
        let open = OpenPiece::create(dir, number, marks).await?;
        let mut recovered = self.go_on(open).await?;
        recovered.was_created = was_created;
        Ok(recovered)
    }

    /// Notes in the piece that a program opened it: the end of the one before is no longer the end, and damage of its
    /// last batch is told from a torn write.
    async fn go_on(self, mut open: OpenPiece) -> Result<Recovered, OpenLogError> {
        let Some(mut marks) = self.marks else {
            return Err(damaged(&open.file, 0, "the piece does not begin with valid marks"));
        };
        let mut batch = BatchBuilder::new(open.salt, open.number, open.bytes);
        batch.push(&Record::new(Kind::Opened, None, Bytes::new()));
        let bytes = open.bytes + batch.len();
        open.file.write_and_sync(open.bytes, batch.finish()).await?;
        open.bytes = bytes;
        if marks.committed.map(|id| id.index) > marks.last.map(|id| id.index) {
            marks.committed = marks.last;
        }
        let Self { entries, sealed, was_clean, .. } = self;
        Ok(Recovered { marks, entries, sealed, open, was_clean, was_created: false })
    }
}
