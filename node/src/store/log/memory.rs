//! What the log file keeps in memory: the heads of the entries that Raft still needs, where each payload lies, what
//! waits to be written, and who wants old pieces.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;

use bytes::Bytes;
use seawall_host::disk::File;
use seawall_host::probe::{mutant, sometimes};

use super::cache::PayloadCache;
use super::entry::{EntryHead, LogEntry, LogId};
use super::file::LogOptions;
use super::index::{PieceIndex, Row};
use super::inspection::{InspectedEntry, LogInspection};
use super::marks::Marks;
use super::piece::{OpenPiece, SealedPiece};
use super::record::{MAX_META, PayloadPlace};
use super::recovery::Recovered;

/// What is called once everything before it is durable.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Something to write.
pub(super) enum Op {
    Entry {
        ticket: u64,
        entry: LogEntry,
    },
    Vote(Bytes),
    Cluster([u8; 16]),
    Truncate(Option<LogId>),
    Purge(LogId),
    Done(Done),
    /// Writes the committed mark, even if nothing else is to be written.
    Committed,
    Close,
}

/// An entry that Raft still needs, or that is not written yet.
struct Slot {
    id: LogId,
    meta: Bytes,
    payload_len: u32,
    place: SlotPlace,
}

enum SlotPlace {
    /// In the queue, under this number; a number is used once, an id maybe more often.
    Queued {
        ticket: u64,
        payload: Bytes,
    },
    Written {
        piece: u64,
        place: PayloadPlace,
    },
}

/// Where a payload is.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// In memory, and the entry's id, where that is, too.
    Here { id: Option<LogId>, payload: Bytes },
    /// In this piece.
    Written { id: LogId, piece: u64, place: PayloadPlace },
    /// In this sealed piece, whose index says where.
    Indexed { piece: u64, sealed: SealedPiece },
}

/// The piece that is written, as readers see it.
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) index: PieceIndex,
}

impl Current {
    pub(super) fn new(piece: &OpenPiece, index: PieceIndex) -> Self {
        Self { number: piece.number, file: piece.file.clone(), bytes: piece.bytes, index }
    }
}

/// What a batch changed, to be told once it is durable.
pub(super) struct Written {
    pub(super) effects: Vec<Effect>,
    pub(super) marks: Marks,
    /// Length of the piece now.
    pub(super) bytes: u64,
}

pub(super) enum Effect {
    Entry { ticket: u64, row: Row, payload: Bytes },
    Truncate(Option<LogId>),
}

pub(super) struct Memory {
    /// As they are on the disk.
    pub(super) durable: Marks,
    /// As they will be once the queue is written.
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Consecutive, up to the last.
    slots: VecDeque<Slot>,
    pub(super) cache: PayloadCache,
    pub(super) queue: VecDeque<Op>,
    pub(super) queued_bytes: u64,
    next_ticket: u64,
    pub(super) closed: bool,
    pub(super) sealed: BTreeMap<u64, SealedPiece>,
    pub(super) current: Current,
    pub(super) pins: BTreeMap<u64, (u64, &'static str)>,
    next_pin: u64,
    /// Whether pieces may go.
    pub(super) deleting: bool,
    /// Sealed pieces that were read lately.
    files: VecDeque<(u64, File)>,
}

/// Sealed pieces that stay open for reading.
const OPEN_FILES: usize = 16;

impl Memory {
    /// Takes over what start-up found; gives back the piece for the writer, without its index.
    pub(super) fn new(recovered: Recovered, options: LogOptions) -> (Self, OpenPiece) {
        let Recovered { marks, entries, sealed, mut open, .. } = recovered;
        let slot = |(row, piece): (Row, u64)| Slot {
            id: row.id,
            meta: row.meta,
            payload_len: row.payload.len,
            place: SlotPlace::Written { piece, place: row.payload },
        };
        let index = std::mem::take(&mut open.index);
        let current = Current::new(&open, index);
        let memory = Self {
            committed: marks.committed,
            purged: marks.purged,
            last: marks.last,
            durable: marks,
            slots: entries.into_iter().map(slot).collect(),
            cache: PayloadCache::new(options.cache_bytes),
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_ticket: 0,
            closed: false,
            sealed,
            current,
            pins: BTreeMap::new(),
            next_pin: 0,
            deleting: false,
            files: VecDeque::new(),
        };
        (memory, open)
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        self.committed
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    fn check_open(&self) -> io::Result<()> {
        if self.closed { Err(io::Error::other("the log file is closed")) } else { Ok(()) }
    }

    pub(super) fn push(&mut self, op: Op) -> io::Result<()> {
        self.check_open()?;
        self.queue.push_back(op);
        Ok(())
    }

    /// Refuses everything from now on but `done`.
    pub(super) fn close(&mut self, done: Done) -> io::Result<()> {
        self.check_open()?;
        self.closed = true;
        self.queue.extend([Op::Close, Op::Done(done)]);
        Ok(())
    }

    /// Queues entries; none of them if one does not fit.
    pub(super) fn append(&mut self, entries: Vec<LogEntry>) -> io::Result<()> {
        self.check_open()?;
        let mut last = self.last;
        for entry in &entries {
            if last.is_some_and(|last| last.index.checked_add(1) != Some(entry.id.index)) {
                let last = last.map_or_else(String::new, |last| last.to_string());
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("entry {} does not continue the log, whose last is {last}", entry.id),
                ));
            }
            if entry.meta.len() > MAX_META || u32::try_from(entry.payload.len()).is_err() {
                let text = format!("entry {} is too large for the log file", entry.id);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            last = Some(entry.id);
        }
        if let (Some(back), Some(entry)) = (self.slots.back(), entries.first())
            && back.id.index + 1 != entry.id.index
        {
            // A purge went beyond them while they wait to be written.
            self.slots.clear();
        }
        for entry in entries {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.queued_bytes += entry_bytes(&entry);
            self.last = Some(entry.id);
            self.slots.push_back(Slot {
                id: entry.id,
                meta: entry.meta.clone(),
                payload_len: entry.payload.len() as u32,
                place: SlotPlace::Queued { ticket, payload: entry.payload.clone() },
            });
            self.queue.push_back(Op::Entry { ticket, entry });
        }
        Ok(())
    }

    pub(super) fn save_committed(&mut self, id: Option<LogId>) {
        self.committed = id;
    }

    pub(super) fn truncate_after(&mut self, id: Option<LogId>) -> io::Result<()> {
        self.check_open()?;
        let keep_below = id.map_or(0, |id| id.index.saturating_add(1));
        if self.purged.is_some_and(|purged| keep_below <= purged.index) {
            let text = "purged entries cannot be cut off the log";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.last.is_none_or(|last| last.index < keep_below) {
            return Ok(());
        }
        while self.slots.back().is_some_and(|slot| slot.id.index >= keep_below) {
            self.slots.pop_back();
        }
        self.cache.truncate(keep_below);
        self.last = self.slots.back().map(|slot| slot.id).or(self.purged);
        self.queue.push_back(Op::Truncate(self.last));
        Ok(())
    }

    pub(super) fn purge(&mut self, id: LogId) -> io::Result<()> {
        self.check_open()?;
        if self.purged.is_some_and(|purged| id.index <= purged.index) {
            return Ok(());
        }
        if self.last.is_some_and(|last| last.index < id.index) {
            // A snapshot takes the place of what is missing here. An entry that was not known to be committed may be
            // another one than the snapshot speaks of, so nobody may read it under its index.
            let proven = [self.committed, self.purged].into_iter().flatten().max_by_key(|id| id.index);
            if proven.map(|id| id.index) < self.last.map(|id| id.index) {
                sometimes("unproven tail of the log cut off for a snapshot");
            }
            if !mutant("unproven-tail-kept") {
                self.truncate_after(proven)?;
            }
        }
        self.purged = Some(id);
        if self.last.is_none_or(|last| last.index <= id.index) {
            self.last = Some(id);
        }
        self.queue.push_back(Op::Purge(id));
        self.trim();
        Ok(())
    }

    /// Forgets the heads of purged entries once they are written.
    fn trim(&mut self) {
        while let Some(slot) = self.slots.front() {
            let is_purged = self.purged.is_some_and(|purged| slot.id.index <= purged.index);
            if !is_purged || matches!(slot.place, SlotPlace::Queued { .. }) {
                break;
            }
            self.slots.pop_front();
        }
    }

    /// Takes note that a batch is durable.
    pub(super) fn written(&mut self, written: Written) {
        self.durable = written.marks;
        self.current.bytes = written.bytes;
        for effect in written.effects {
            match effect {
                Effect::Entry { ticket, row, payload } => {
                    self.queued_bytes -= (row.meta.len() + payload.len()) as u64;
                    let piece = self.current.number;
                    if let Some(slot) = self.slot_mut(row.id.index)
                        && matches!(slot.place, SlotPlace::Queued { ticket: queued, .. } if queued == ticket)
                    {
                        slot.place = SlotPlace::Written { piece, place: row.payload };
                        self.cache.insert(row.id.index, payload);
                    }
                    let fits = self.current.index.push(row);
                    debug_assert!(fits, "the writer begins a piece where indexes jump");
                }
                Effect::Truncate(id) => {
                    self.current.index.truncate_after(id);
                    for piece in self.sealed.values_mut() {
                        piece.truncate_after(id);
                    }
                }
            }
        }
        self.trim();
    }

    fn slot_at(&self, index: u64) -> Option<usize> {
        let at = index.checked_sub(self.slots.front()?.id.index)?;
        usize::try_from(at).ok().filter(|at| *at < self.slots.len())
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let at = self.slot_at(index)?;
        self.slots.get_mut(at)
    }

    /// The unpurged entries of `range`.
    fn unpurged(&self, range: Range<u64>) -> impl Iterator<Item = &Slot> {
        let first = self.slots.front().map_or(0, |slot| slot.id.index);
        let from = range.start.max(self.purged.map_or(0, |id| id.index + 1)).max(first) - first;
        let to = range.end.saturating_sub(first).min(self.slots.len() as u64);
        self.slots.range(from.min(to) as usize..to as usize)
    }

    pub(super) fn heads(&self, range: Range<u64>) -> Vec<EntryHead> {
        let head = |slot: &Slot| EntryHead { id: slot.id, meta: slot.meta.clone(), payload_len: slot.payload_len };
        self.unpurged(range).map(head).collect()
    }

    /// The first unpurged entries of `range`, at least one, at most `max_bytes`, and where their payloads are.
    pub(super) fn find_entries(&self, range: Range<u64>, max_bytes: usize) -> Vec<(EntryHead, Found)> {
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        for slot in self.unpurged(range) {
            bytes = bytes.saturating_add(slot.meta.len() + slot.payload_len as usize);
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            let head = EntryHead { id: slot.id, meta: slot.meta.clone(), payload_len: slot.payload_len };
            entries.push((head, self.found(slot)));
        }
        entries
    }

    /// A look from outside; of the entries those from `from` on that are not purged.
    pub(super) fn inspect(&self, from: u64) -> LogInspection {
        let entry = |slot: &Slot| {
            let (payload_crc, is_durable) = match &slot.place {
                SlotPlace::Queued { payload, .. } => (crc32c::crc32c(payload), false),
                SlotPlace::Written { place, .. } => (place.crc, true),
            };
            InspectedEntry::new(slot.id, &slot.meta, (slot.payload_len, payload_crc), is_durable)
        };
        LogInspection {
            vote: self.durable.vote.clone(),
            committed: self.committed,
            purged: self.purged,
            last: self.last,
            synced: self.durable.last,
            entries: self.unpurged(from..u64::MAX).map(entry).collect(),
            bytes_on_disk: self.bytes_on_disk(),
            bytes_queued: self.queued_bytes,
        }
    }

    fn found(&self, slot: &Slot) -> Found {
        let id = slot.id;
        let here = |payload| Found::Here { id: Some(id), payload };
        match &slot.place {
            SlotPlace::Queued { payload, .. } => here(payload.clone()),
            SlotPlace::Written { .. } if slot.payload_len == 0 => here(Bytes::new()),
            SlotPlace::Written { piece, place } => match self.cache.get(id.index) {
                Some(payload) => here(payload),
                None => Found::Written { id, piece: *piece, place: *place },
            },
        }
    }

    /// Where the payload of any entry is that still lies in a piece.
    pub(super) fn find(&self, index: u64) -> Option<Found> {
        if self.last.is_none_or(|last| last.index < index) {
            return None;
        }
        if let Some(slot) = self.slot_at(index).and_then(|at| self.slots.get(at)) {
            return Some(self.found(slot));
        }
        if let Some(payload) = self.cache.get(index) {
            return Some(Found::Here { id: self.current.index.get(index).map(|row| row.id), payload });
        }
        if let Some(row) = self.current.index.get(index) {
            return Some(Found::Written { id: row.id, piece: self.current.number, place: row.payload });
        }
        let holds = |piece: &SealedPiece| piece.range.is_some_and(|(first, last)| (first..=last).contains(&index));
        let (number, piece) = self.sealed.iter().rev().find(|(_, piece)| holds(piece))?;
        Some(Found::Indexed { piece: *number, sealed: piece.clone() })
    }

    /// The file of a piece, if it is open.
    pub(super) fn file(&self, piece: u64) -> Option<File> {
        if piece == self.current.number {
            return Some(self.current.file.clone());
        }
        self.files.iter().find(|(number, _)| *number == piece).map(|(_, file)| file.clone())
    }

    /// Keeps the file of a sealed piece open for a while.
    pub(super) fn keep_file(&mut self, piece: u64, file: File) {
        if self.sealed.contains_key(&piece) && self.file(piece).is_none() {
            self.files.push_back((piece, file));
            if self.files.len() > OPEN_FILES {
                self.files.pop_front();
            }
        }
    }

    pub(super) fn add_pin(&mut self, from_index: u64, reason: &'static str) -> u64 {
        let id = self.next_pin;
        self.next_pin += 1;
        self.pins.insert(id, (from_index, reason));
        id
    }

    /// Removes the oldest piece from the books, if nobody needs it any more.
    pub(super) fn take_deletable(&mut self) -> Option<(u64, SealedPiece)> {
        let purged = self.durable.purged.filter(|_| self.deleting)?.index;
        let (number, piece) = self.sealed.first_key_value()?;
        let pinned = self.pins.values().map(|(from, _)| *from).min().filter(|_| !mutant("pinned-piece-deleted"));
        let needed = |(_, last)| last > purged || pinned.is_some_and(|from| last >= from);
        if piece.range.is_some_and(needed) {
            return None;
        }
        let number = *number;
        self.files.retain(|(open, _)| *open != number);
        self.sealed.pop_first()
    }

    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.sealed.values().map(|piece| piece.bytes).sum::<u64>() + self.current.bytes
    }

    /// The first entry that lies in a piece; all before it are gone.
    pub(super) fn first_held(&self) -> Option<u64> {
        let sealed = self.sealed.values().filter_map(|piece| piece.range).map(|(first, _)| first);
        sealed.chain(self.current.index.first()).min()
    }

    pub(super) fn bytes_from(&self, index: u64) -> u64 {
        let is_below = |piece: &SealedPiece| piece.range.is_none_or(|(_, last)| last < index);
        let kept = self.sealed.values().skip_while(|piece| is_below(piece));
        kept.map(|piece| piece.bytes).sum::<u64>() + self.current.bytes
    }
}

/// What an entry counts for in the queue.
fn entry_bytes(entry: &LogEntry) -> u64 {
    (entry.meta.len() + entry.payload.len()) as u64
}
