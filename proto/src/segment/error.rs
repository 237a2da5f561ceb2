//! What can go wrong with segments.

use super::header::{InvalidHeader, SegmentKind};
use crate::checksum::Checksum;
use crate::position::{Lineage, PageNumber, PageSize, Txid};

/// Why the encoder refused what it was given. The segment is then worthless: begin anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The header is none.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// Pages count from 1.
    #[error("transaction {txid}: page 0 does not exist: pages count from 1")]
    PageZero {
        /// The open transaction.
        txid: Txid,
    },
    /// SQLite's lock page is never carried.
    #[error("transaction {txid}: page {} is the lock page, which is never shipped", page.0)]
    LockPage {
        /// The open transaction.
        txid: Txid,
        /// The lock page.
        page: PageNumber,
    },
    /// The bytes are not one page.
    #[error("transaction {txid}: page {} has {found} bytes, but the page size is {expected}", page.0)]
    PageLength {
        /// The open transaction.
        txid: Txid,
        /// The page.
        page: PageNumber,
        /// The page size in bytes.
        expected: u32,
        /// What was given.
        found: usize,
    },
    /// Pages beyond the commit's size don't belong to the database.
    #[error("transaction {txid} carries page {}, but the database ends at page {page_count}: leave such pages out", page.0)]
    PageBeyondEnd {
        /// The transaction.
        txid: Txid,
        /// The highest page carried.
        page: PageNumber,
        /// The database's size in pages.
        page_count: u32,
    },
    /// More pages in one transaction than its record can count.
    #[error("transaction {txid} carries more than {} pages", u32::MAX)]
    TooManyPages {
        /// The open transaction.
        txid: Txid,
    },
    /// The header promised fewer.
    #[error("transaction {last} was to be the segment's last, but another one came")]
    TooManyTransactions {
        /// The last transaction according to the header.
        last: Txid,
    },
    /// The header promised more, or the last transaction was not committed.
    #[error("the segment was to end with transaction {last}, but transaction {next} was never committed")]
    MissingTransactions {
        /// The transaction that is open or was to come next.
        next: Txid,
        /// The last transaction according to the header.
        last: Txid,
    },
    /// Commit times never decrease.
    #[error("transaction {txid} was committed at {time_ms} ms, before the previous one at {previous_ms} ms")]
    CommitTimeDecreases {
        /// The transaction.
        txid: Txid,
        /// Its commit time.
        time_ms: i64,
        /// The previous commit time.
        previous_ms: i64,
    },
    /// A commit that states another number of pages than it ends. Only found in segments that others wrote.
    #[error("transaction {txid} states {stated} pages but carries {found}")]
    PagesMiscounted {
        /// The transaction.
        txid: Txid,
        /// What its commit states.
        stated: u32,
        /// What it carries.
        found: u32,
    },
    /// A transaction of another kind than its segment. Only found in segments that others wrote.
    #[error("transaction {txid} does not fit a segment of kind {kind:?}")]
    Kind {
        /// The transaction.
        txid: Txid,
        /// The segment's kind.
        kind: SegmentKind,
    },
}

/// Why some bytes are not a segment. Get the segment from another source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// They don't begin like one.
    #[error("not a segment: it does not begin with a segment's magic bytes")]
    NotASegment,
    /// A later format.
    #[error("segment format version {found} is not known to this program (it reads version 1): upgrade Seawall")]
    UnknownVersion {
        /// The version found.
        found: u16,
    },
    /// The header is intact but breaks a rule.
    #[error("the segment's header breaks a rule: {0}")]
    Header(#[from] InvalidHeader),
    /// A checksum or a length shows damage.
    #[error("the segment is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The bytes are intact, but whoever wrote them broke the format's rules.
    #[error("the segment breaks the format's rules in the part at byte {offset}: {what}")]
    Inconsistent {
        /// Where the part begins.
        offset: u64,
        /// Which rule.
        what: &'static str,
    },
    /// The bytes are intact, but a transaction breaks a rule.
    #[error("the segment breaks the format's rules in the part at byte {offset}: {rule}")]
    Rule {
        /// Where the part begins.
        offset: u64,
        /// Which rule.
        rule: EncodeError,
    },
    /// It ends too early.
    #[error("the segment is cut off: it ends after {bytes} bytes")]
    Truncated {
        /// Bytes there are.
        bytes: u64,
    },
    /// More bytes follow its end.
    #[error("the segment is {bytes} bytes long, but more bytes follow")]
    TrailingBytes {
        /// Bytes of the segment.
        bytes: u64,
    },
}

/// Why segments can't be joined or squashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There are none.
    #[error("no segments were given")]
    NoSegments,
    /// One is damaged.
    #[error("the segment of transaction {} (number {number} of those given): {cause}", after.next())]
    Segment {
        /// Which one, from 0.
        number: usize,
        /// The last transaction before it (0 if it is the first).
        after: Txid,
        /// What is wrong.
        cause: SegmentError,
    },
    /// Histories don't mix.
    #[error("lineage {found} does not continue lineage {expected}")]
    Lineage {
        /// The lineage so far.
        expected: Lineage,
        /// The next segment's.
        found: Lineage,
    },
    /// One segment has one page size.
    #[error("the page size changes from {} to {} bytes at transaction {first}: cut there", expected.bytes(), found.bytes())]
    PageSizeChanges {
        /// The page size so far.
        expected: PageSize,
        /// The next segment's.
        found: PageSize,
        /// The next segment's first transaction.
        first: Txid,
    },
    /// Transactions are missing or overlap.
    #[error("transaction {first} does not follow transaction {last}")]
    NotAdjacent {
        /// The last transaction so far.
        last: Txid,
        /// The next segment's first.
        first: Txid,
    },
    /// The states don't meet.
    #[error("the state after transaction {txid} has checksum {expected}, but the next segment continues {found}")]
    Checksum {
        /// The last transaction so far.
        txid: Txid,
        /// The checksum after it.
        expected: Checksum,
        /// The next segment's checksum before.
        found: Checksum,
    },
    /// Commit times never decrease.
    #[error("transaction {first} was committed before transaction {last}")]
    CommitTimeDecreases {
        /// The last transaction so far.
        last: Txid,
        /// The next segment's first.
        first: Txid,
    },
    /// Joining keeps every transaction, and a squashed segment has lost them.
    #[error(
        "the segment of transactions {first} to {last} is squashed: only segments with every transaction can be joined"
    )]
    Squashed {
        /// Its first transaction.
        first: Txid,
        /// Its last transaction.
        last: Txid,
    },
    /// The merged segment breaks a rule of the format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
