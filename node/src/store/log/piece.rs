//! The files of the log: their names, how one begins, and how a sealed one is read.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Buf;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::probe::mutant;
use seawall_host::random;

use super::entry::LogId;
use super::error::OpenLogError;
use super::index::{INDEX_META, IndexSummary, PieceIndex};
use super::marks::{FORMAT, MAX_MARKS, Marks, MarksError};
use super::record::{
    BATCH_HEADER, BatchBuilder, BatchHeader, Kind, PayloadPlace, RECORD_HEADER, Record, RecordHead, decode_head,
};

/// The most bytes that the first batch of a piece has.
const MAX_OPENING: usize = BATCH_HEADER + RECORD_HEADER + MAX_MARKS;
/// What the name of an unfinished copy ends in.
const COPY: &str = ".new";
const COPIED_AT_ONCE: u64 = 1 << 20;
const SEAL_META: usize = 16;
const SEAL_BYTES: usize = RECORD_HEADER + SEAL_META;

/// Bytes of the first batch of a piece that opens with `marks`.
pub(super) fn opening_len(marks: &Marks) -> u64 {
    (BATCH_HEADER + RECORD_HEADER + marks.encode().len()) as u64
}

/// Where the piece with this number lies.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

/// The number of the piece with this file name, if it is one.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (name == format!("{number:016x}.log")).then_some(number)
}

/// Whether a file with this name is an unfinished copy of a piece.
pub(super) fn is_copy(name: &str) -> bool {
    name.strip_suffix(COPY).and_then(number).is_some()
}

/// Puts a copy of the first `bytes` bytes of a piece in its place, durably.
pub(super) async fn write_anew(dir: &Path, number: u64, piece: &File, bytes: u64) -> io::Result<File> {
    let path = path(dir, number);
    let mut copied = path.as_os_str().to_owned();
    copied.push(COPY);
    let copied = PathBuf::from(copied);
    let copy = File::open(&copied, OpenMode::OpenOrCreate).await?;
    copy.set_len(0).await?;
    let mut at = 0;
    while at < bytes {
        let part = piece.read_exact_at(at, COPIED_AT_ONCE.min(bytes - at) as usize).await?;
        let len = part.len() as u64;
        copy.write_at(at, vec![part]).await?;
        at += len;
    }
    copy.sync().await?;
    disk::rename(&copied, &path).await?;
    disk::sync_directory(dir).await?;
    File::open(&path, OpenMode::ReadWrite).await
}

/// The piece that is written.
pub(super) struct OpenPiece {
    pub(super) number: u64,
    pub(super) salt: u64,
    pub(super) file: File,
    /// All of them are synced.
    pub(super) bytes: u64,
    pub(super) index: PieceIndex,
}

impl OpenPiece {
    /// Begins a piece with `marks`; it and its name are durable when this returns. What lies at its place was never
    /// written to its end, and goes.
    pub(super) async fn create(dir: &Path, number: u64, marks: &Marks) -> io::Result<Self> {
        let file = File::open(&path(dir, number), OpenMode::OpenOrCreate).await?;
        if !file.is_empty().await? {
            file.set_len(0).await?;
        }
        let salt = random::u64();
        let mut batch = BatchBuilder::new(salt, number, 0);
        batch.push(&Record::new(Kind::Opening, marks.last, marks.encode()));
        let bytes = batch.len();
        file.write_and_sync(0, batch.finish()).await?;
        if !mutant("new-piece-name-not-synced") {
            disk::sync_directory(dir).await?;
        }
        Ok(Self { number, salt, file, bytes, index: PieceIndex::default() })
    }

    /// Writes the index and the marks behind everything else; nothing may follow. `range` is that of the index's rows.
    pub(super) async fn seal(
        &self,
        index: &Record,
        range: Option<(u64, u64)>,
        marks: &Marks,
    ) -> io::Result<SealedPiece> {
        let mut batch = BatchBuilder::new(self.salt, self.number, self.bytes);
        let (index_at, rows) = batch.push(index);
        let (marks_at, _) = batch.push(&Record::new(Kind::Closing, None, marks.encode()));
        let places = [index_at.to_le_bytes(), marks_at.to_le_bytes()].concat();
        batch.push(&Record::new(Kind::Seal, None, places.into()));
        let bytes = self.bytes + batch.len();
        self.file.write_and_sync(self.bytes, batch.finish()).await?;
        let stored_first = range.map_or(0, |(first, _)| first);
        Ok(SealedPiece { salt: self.salt, bytes, stored_first, rows_offset: rows.offset, range })
    }
}

/// A piece that is complete.
#[derive(Clone, Debug)]
pub(super) struct SealedPiece {
    pub(super) salt: u64,
    pub(super) bytes: u64,
    /// Index of the entry that its first row is of.
    pub(super) stored_first: u64,
    /// Where its rows lie.
    pub(super) rows_offset: u64,
    /// First and last index of the entries that no later piece cut off.
    pub(super) range: Option<(u64, u64)>,
}

impl SealedPiece {
    pub(super) fn truncate_after(&mut self, id: Option<LogId>) {
        self.range = match (self.range, id) {
            (Some((first, last)), Some(id)) if first <= id.index => Some((first, last.min(id.index))),
            _ => None,
        };
    }
}

/// What start-up reads of a sealed piece.
pub(super) struct SealedFound {
    /// At its beginning.
    pub(super) opening: Marks,
    /// At its end.
    pub(super) closing: Marks,
    pub(super) piece: SealedPiece,
    pub(super) summary: IndexSummary,
    file: File,
    rows: PayloadPlace,
}

impl SealedFound {
    /// Reads the beginning, the seal and the head of the index.
    pub(super) async fn read(dir: &Path, number: u64) -> Result<Self, OpenLogError> {
        let file = File::open(&path(dir, number), OpenMode::Read).await?;
        let bytes = file.len().await?;
        let (header, opening) = match read_opening(&file, number).await? {
            Ok(opening) => opening,
            Err(what) => return Err(damaged(&file, 0, what)),
        };
        let salt = header.salt;
        let Some(seal_at) = bytes.checked_sub(SEAL_BYTES as u64) else {
            return Err(damaged(&file, 0, "it is shorter than a sealed piece can be"));
        };
        let unsealed = || damaged(&file, seal_at, "a newer piece exists, but this one does not end in a valid seal");
        let seal = decode_head(&file.read_exact_at(seal_at, SEAL_BYTES).await?, salt, seal_at);
        let seal = seal.ok().filter(|seal| seal.kind == Kind::Seal && seal.meta.len() == SEAL_META);
        let mut places = seal.ok_or_else(unsealed)?.meta;
        let (index_at, marks_at) = (places.get_u64_le(), places.get_u64_le());
        let index = file.read_at(index_at, RECORD_HEADER + INDEX_META).await?;
        let index = decode_head(&index, salt, index_at).ok().filter(|index| index.kind == Kind::Index);
        let index = index.ok_or_else(|| damaged(&file, index_at, "the index of this sealed piece is not valid"))?;
        let closing = file.read_at(marks_at, RECORD_HEADER + MAX_MARKS).await?;
        let closing = match decode_head(&closing, salt, marks_at) {
            Ok(head) => decode_marks(file.path(), Kind::Closing, &head)?,
            Err(_) => None,
        };
        let closing = closing.ok_or_else(|| damaged(&file, marks_at, "the marks at its end are not valid"))?;
        let summary = IndexSummary::decode(index.meta);
        let summary = summary.ok_or_else(|| damaged(&file, index_at, "the index contradicts itself"))?;
        let piece = SealedPiece {
            salt,
            bytes,
            stored_first: summary.first,
            rows_offset: index.payload.offset,
            range: summary.last().map(|last| (summary.first, last)),
        };
        Ok(Self { opening, closing, piece, summary, file, rows: index.payload })
    }

    /// Reads the whole index.
    pub(super) async fn index(&self) -> Result<PieceIndex, OpenLogError> {
        let at = self.rows.offset;
        let wrong = || damaged(&self.file, at, "the index of this sealed piece is not valid");
        if self.rows.end() > self.piece.bytes {
            return Err(wrong());
        }
        let payload = self.file.read_exact_at(at, self.rows.len as usize).await?;
        if crc32c::crc32c(&payload) != self.rows.crc {
            return Err(wrong());
        }
        PieceIndex::decode(&self.summary, self.piece.salt, &payload).ok_or_else(wrong)
    }
}

/// Reads how a piece begins; the inner error says what is wrong with it.
pub(super) async fn read_opening(
    file: &File,
    number: u64,
) -> Result<Result<(BatchHeader, Marks), &'static str>, OpenLogError> {
    let bytes = file.read_at(0, MAX_OPENING).await?;
    let Some(header) = BatchHeader::decode(&bytes).filter(|header| header.offset == 0 && header.piece == number) else {
        return Ok(Err("the piece does not begin with a valid batch"));
    };
    match decode_head(&bytes.slice(BATCH_HEADER..), header.salt, BATCH_HEADER as u64) {
        Ok(head) => match decode_marks(file.path(), Kind::Opening, &head)? {
            Some(marks) => Ok(Ok((header, marks))),
            None => Ok(Err("the piece does not begin with valid marks")),
        },
        Err(what) => Ok(Err(what)),
    }
}

/// The marks in a record, if it is of this kind and they are valid.
pub(super) fn decode_marks(path: &Path, kind: Kind, head: &RecordHead) -> Result<Option<Marks>, OpenLogError> {
    if head.kind != kind {
        return Ok(None);
    }
    match Marks::decode(head.meta.clone()) {
        Ok(marks) => Ok(Some(marks)),
        Err(MarksError::Damaged) => Ok(None),
        Err(MarksError::Format(found)) => Err(OpenLogError::Format { path: path.to_owned(), found, known: FORMAT }),
    }
}

pub(super) fn damaged(file: &File, offset: u64, what: impl Into<String>) -> OpenLogError {
    OpenLogError::Damaged { path: file.path().to_owned(), offset, what: what.into() }
}
