//! The transaction table: every transaction's end, in order.

use super::record::Commit;
use super::varint;
use crate::checksum::Checksum;

/// Writes the table's content, entry by entry.
#[derive(Default)]
pub(super) struct TransactionTableWriter {
    content: Vec<u8>,
    previous_time_ms: Option<i64>,
}

impl TransactionTableWriter {
    /// Appends an entry. Commit times never decrease.
    pub(super) fn push(&mut self, commit: &Commit) {
        let previous = self.previous_time_ms.replace(commit.commit_time_ms).unwrap_or(commit.commit_time_ms);
        varint::write(&mut self.content, u64::from(commit.page_count) << 1 | u64::from(commit.resync));
        varint::write(&mut self.content, u64::from(commit.pages));
        varint::write(&mut self.content, (commit.commit_time_ms as u64).wrapping_sub(previous as u64));
        self.content.extend_from_slice(&commit.checksum_after.0.to_le_bytes());
    }

    /// What was written since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.content)
    }

    /// Hands over what was written since the last call, keeping the memory.
    pub(super) fn drain(&mut self, use_it: impl FnOnce(&[u8])) {
        use_it(&self.content);
        self.content.clear();
    }
}

/// Reads the table's content. `None` if it breaks the rules.
pub(super) fn parse(mut content: &[u8], first_commit_time_ms: i64) -> Option<Vec<Commit>> {
    let mut commits = Vec::new();
    let mut commit_time_ms = first_commit_time_ms;
    while !content.is_empty() {
        let size = varint::read(&mut content)?;
        let pages = varint::read(&mut content)?;
        // A difference past the end of time wraps around to a decreasing time, which the ledger refuses.
        let delta = varint::read(&mut content)?;
        commit_time_ms = (commit_time_ms as u64).wrapping_add(delta) as i64;
        let (checksum, rest) = content.split_first_chunk()?;
        content = rest;
        commits.push(Commit {
            page_count: u32::try_from(size >> 1).ok()?,
            pages: u32::try_from(pages).ok()?,
            commit_time_ms,
            checksum_after: Checksum(u64::from_le_bytes(*checksum)),
            resync: size & 1 == 1,
        });
    }
    Some(commits)
}
