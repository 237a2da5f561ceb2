//! Applying segments to the database under construction: every transaction is proven by its checksum.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use seawall_host::disk::File;
use seawall_host::probe::mutant;
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentError, SegmentEvent, SegmentHeader, SegmentKind, Transaction};

use super::checkpoint::Checkpoint;
use super::image_file::ImageFile;
use super::read_ahead::{Broken, ReadAhead};
use super::source::{SourceError, SourceObject};

/// A transaction up to this size is held back until its checksum is proven, in bytes.
const STAGE_BYTES: usize = 32 << 20;

/// Why an object was not applied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// The object is not what it should be: another copy may serve.
    #[error("{object} from {origin} is damaged: {cause}")]
    Damaged { origin: String, object: String, cause: String },
    /// The object could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The temporary file.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// What was found wrong with an object, before it is known which one it was.
enum Wrong {
    Content(String),
    Disk(io::Error),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<SegmentError> for Wrong {
    fn from(error: SegmentError) -> Self {
        Self::Content(error.to_string())
    }
}

fn wrong<T>(cause: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Content(cause.into()))
}

/// Takes a database from one state to the next.
pub(super) struct Applier {
    image: ImageFile,
    lineage: Lineage,
    txid: Txid,
    commit_time_ms: i64,
    /// Of the state reached; that of the pages differs while a transaction is being moved into the file.
    proven: Checksum,
    /// Pages of the transaction that is being read, with their hashes.
    staged: BTreeMap<PageNumber, (Checksum, Bytes)>,
    staged_bytes: usize,
    /// The transaction that is being read was too large to hold back: part of it is in the file.
    torn: bool,
}

impl Applier {
    /// The empty database, in `file`, which is empty.
    pub(super) fn new(file: File, lineage: Lineage) -> Self {
        Self {
            image: ImageFile::new(file),
            lineage,
            txid: Txid::NONE,
            commit_time_ms: 0,
            proven: Checksum::EMPTY,
            staged: BTreeMap::new(),
            staged_bytes: 0,
            torn: false,
        }
    }

    /// Goes back to the empty database.
    pub(super) async fn restart(&mut self, lineage: Lineage) -> io::Result<()> {
        // Nothing of what was applied may reach the file later.
        self.image.settle().await?;
        *self = Self::new(self.image.file(), lineage);
        Ok(())
    }

    /// The state reached.
    pub(super) fn position(&self) -> Position {
        Position { lineage: self.lineage, txid: self.txid, checksum: self.image.checksum() }
    }

    /// The state reached, for the next restore to go on from; all of it is in the file then. `None` if nothing is
    /// reached, or the file is between two states.
    pub(super) async fn checkpoint(&mut self) -> io::Result<Option<Checkpoint>> {
        let Some(page_size) = self.image.page_size() else { return Ok(None) };
        if self.torn || self.txid == Txid::NONE || self.proven != self.image.checksum() || self.owes() {
            return Ok(None);
        }
        self.image.flush().await?;
        let (position, time) = (self.position(), UnixMillis(self.commit_time_ms));
        Ok(Some(Checkpoint { position, time, page_size, hashes: self.image.hashes().to_vec() }))
    }

    /// Takes over what an interrupted restore left in the file. False if there is nothing of use in it.
    pub(super) async fn resume(&mut self, checkpoint: Checkpoint) -> io::Result<bool> {
        let Checkpoint { position, time, page_size, hashes } = checkpoint;
        let useful = self.image.adopt(page_size, hashes).await?;
        self.txid = position.txid;
        self.proven = position.checksum;
        self.commit_time_ms = time.0;
        Ok(useful)
    }

    /// Whether there are pages in the file that an interrupted restore left in another state than this one.
    pub(super) fn owes(&self) -> bool {
        self.image.owes()
    }

    /// Commit time of the last transaction, milliseconds since 1970.
    pub(super) fn commit_time_ms(&self) -> i64 {
        self.commit_time_ms
    }

    /// The size of the database in bytes.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.image.page_size().map_or(0, PageSize::bytes)) * u64::from(self.image.page_count())
    }

    /// Whether part of an unfinished transaction lies in the file, so that nothing can go on from here.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Applies the transactions of `object` after the state reached, up to `until`; it is the one with this number in
    /// `reading`. `read` hears of bytes that came.
    pub(super) async fn apply(
        &mut self,
        object: &SourceObject,
        number: usize,
        until: Txid,
        reading: &mut ReadAhead,
        mut read: impl FnMut(usize),
    ) -> Result<(), ApplyError> {
        let damaged = |wrong: Wrong| match wrong {
            Wrong::Disk(error) => ApplyError::Disk(error),
            Wrong::Content(cause) => {
                ApplyError::Damaged { origin: object.origin.to_string(), object: object.name.to_string(), cause }
            }
        };
        self.drop_stage();
        let mut header = None;
        while let Some(batch) = reading.next(number).await {
            read(batch.read);
            for event in batch.events {
                self.take(object, &mut header, event).await.map_err(damaged)?;
                if self.txid == until {
                    return Ok(());
                }
            }
            match batch.end {
                None => {}
                Some(Err(Broken::Source(error))) => return Err(error.into()),
                Some(Err(Broken::Content(_))) if mutant("damaged-object-ends-restore") => return Ok(()),
                Some(Err(Broken::Content(error))) => return Err(damaged(error.into())),
                Some(Ok(())) => {
                    let cause = format!("it ends after txid {}, before {until}", self.txid);
                    return Err(damaged(Wrong::Content(cause)));
                }
            }
        }
        Err(damaged(Wrong::Content("reading it ended for no known reason".to_owned())))
    }

    async fn take(
        &mut self,
        object: &SourceObject,
        header: &mut Option<SegmentHeader>,
        event: SegmentEvent,
    ) -> Result<(), Wrong> {
        match event {
            SegmentEvent::Header(found) => {
                self.check_header(object, &found)?;
                *header = Some(found);
                Ok(())
            }
            SegmentEvent::Page { txid, page, bytes } => match header {
                Some(header) if txid > self.txid => self.page(header, page, bytes).await,
                Some(_) => Ok(()),
                None => wrong("a page comes before the header"),
            },
            SegmentEvent::Commit(transaction) => match header {
                Some(header) => self.commit(object, header, &transaction).await,
                None => wrong("a transaction comes before the header"),
            },
            SegmentEvent::End(_) => Ok(()),
        }
    }

    fn check_header(&self, object: &SourceObject, header: &SegmentHeader) -> Result<(), Wrong> {
        let name = &object.name;
        if (header.lineage, header.first, header.last) != (name.lineage, name.first, name.last) {
            let (lineage, first, last) = (header.lineage, header.first, header.last);
            return wrong(format!("its content is that of @{lineage} {first}-{last}"));
        }
        if (header.kind == SegmentKind::Squashed) == (name.level == Level::Log) {
            return wrong(format!("its content is not of level {}", name.level));
        }
        if header.first == self.txid.next() {
            if header.checksum_before != self.image.checksum() {
                let (before, reached) = (header.checksum_before, self.image.checksum());
                return wrong(format!("it continues checksum {before}, txid {} has {reached}", self.txid));
            }
        } else if header.first > self.txid.next() {
            return wrong(format!("it does not continue txid {}", self.txid));
        } else if self.image.page_size().is_some_and(|size| size != header.page_size) {
            return wrong(format!("it has another page size than txid {}, which it covers", self.txid));
        }
        Ok(())
    }

    /// Whether the transaction being read replaces everything: the first of all, or the first of a new page size.
    fn starts_anew(&self, header: &SegmentHeader) -> bool {
        self.image.page_size() != Some(header.page_size)
    }

    async fn page(&mut self, header: &SegmentHeader, page: PageNumber, bytes: Bytes) -> Result<(), Wrong> {
        if bytes.len() != header.page_size.bytes() as usize || page == header.page_size.lock_page() || page.0 == 0 {
            return wrong(format!("page {} of {} bytes cannot be", page.0, bytes.len()));
        }
        let hash = Checksum::of_page(page, &bytes);
        if self.torn {
            return Ok(self.image.put(page, hash, &bytes).await?);
        }
        self.staged_bytes += bytes.len();
        if let Some((_, replaced)) = self.staged.insert(page, (hash, bytes)) {
            self.staged_bytes -= replaced.len();
        }
        if self.staged_bytes > STAGE_BYTES {
            self.torn = true;
            self.unstage(header).await?;
        }
        Ok(())
    }

    /// Moves the staged pages into the image.
    async fn unstage(&mut self, header: &SegmentHeader) -> io::Result<()> {
        if self.starts_anew(header) {
            self.image.clear(header.page_size).await?;
        }
        self.staged_bytes = 0;
        for (page, (hash, bytes)) in std::mem::take(&mut self.staged) {
            self.image.put(page, hash, &bytes).await?;
        }
        Ok(())
    }

    fn drop_stage(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
    }

    async fn commit(
        &mut self,
        object: &SourceObject,
        header: &SegmentHeader,
        transaction: &Transaction,
    ) -> Result<(), Wrong> {
        let Transaction { txid, page_count, checksum_after, .. } = *transaction;
        if txid == self.txid && checksum_after != self.image.checksum() {
            let reached = self.image.checksum();
            return wrong(format!("it has checksum {checksum_after} after txid {txid}, where {reached} was reached"));
        }
        if txid <= self.txid {
            return Ok(());
        }
        let expected = if header.kind == SegmentKind::Squashed { header.last } else { self.txid.next() };
        if txid != expected {
            return wrong(format!("txid {txid} stands where {expected} should"));
        }
        if txid == object.name.last && checksum_after != object.name.checksum_after {
            let named = object.name.checksum_after;
            return wrong(format!("it has checksum {checksum_after} after txid {txid}, its name says {named}"));
        }
        if !self.torn {
            let found = self.checksum_with_stage(header, page_count)?;
            if found != checksum_after {
                self.drop_stage();
                return wrong(format!("txid {txid} gives checksum {found}, not {checksum_after}"));
            }
            // Proven: nothing of it needs to be held back any more. A disk error on the way ends the restore.
            self.staged.retain(|page, _| page.0 <= page_count);
            self.unstage(header).await?;
        }
        let whole = self.image.resize(page_count);
        let found = self.image.checksum();
        if !whole || found != checksum_after {
            self.torn = true;
            return wrong(format!("txid {txid} gives checksum {found} and not {checksum_after}, or lacks pages"));
        }
        self.torn = false;
        self.txid = txid;
        self.proven = checksum_after;
        self.commit_time_ms = transaction.commit_time_ms;
        Ok(())
    }

    /// The checksum that the staged pages and the size `page_count` would give.
    fn checksum_with_stage(&self, header: &SegmentHeader, page_count: u32) -> Result<Checksum, Wrong> {
        let anew = self.starts_anew(header);
        let old_count = if anew { 0 } else { self.image.page_count() };
        let mut checksum = if anew { Default::default() } else { self.image.checksum() };
        if !anew {
            checksum ^= self.image.checksum_beyond(page_count);
        }
        let mut grown = 0_u32;
        for (page, (hash, _)) in &self.staged {
            if page.0 <= page_count {
                checksum ^= *hash;
                if page.0 > old_count {
                    grown += 1;
                } else {
                    checksum ^= self.image.hash_of(*page);
                }
            }
        }
        let lock_page = header.page_size.lock_page().0;
        let needed = page_count.saturating_sub(old_count);
        let lock = u32::from(old_count < lock_page && lock_page <= page_count);
        if grown + lock < needed {
            return wrong(format!("it grows by {needed} pages to {page_count} and carries {grown} of them"));
        }
        Ok(checksum)
    }

    /// Brings the file to its exact length, makes it durable, and reads all of it back meanwhile.
    ///
    /// False if what is on the disk is not what was written.
    pub(super) async fn finish(&mut self) -> io::Result<bool> {
        Ok(self.image.finish().await? == self.image.checksum())
    }
}
