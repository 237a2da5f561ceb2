//! One transaction of a segment.

use super::record::Commit;
use crate::checksum::Checksum;
use crate::position::Txid;

/// The end of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number. A squashed segment's only transaction has the segment's last.
    pub txid: Txid,
    /// The database's size in pages after it, the lock page counted.
    pub page_count: u32,
    /// When it was committed, milliseconds since 1970; never earlier than the transaction before.
    pub commit_time_ms: i64,
    /// The database's checksum after it.
    pub checksum_after: Checksum,
    /// Pages it carries; a page carried twice counts twice.
    pub pages: u32,
    /// It has no history inside: collected by comparison, not read from the WAL.
    pub resync: bool,
}

impl From<&Transaction> for Commit {
    fn from(transaction: &Transaction) -> Self {
        let &Transaction { page_count, commit_time_ms, checksum_after, pages, resync, txid: _ } = transaction;
        Self { page_count, pages, commit_time_ms, checksum_after, resync }
    }
}
