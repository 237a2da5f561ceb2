//! What a piece opens with, so that older pieces can go.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::entry::LogId;
use super::record::{get_log_id, put_log_id};
use super::state::Identity;

/// The version of the whole format.
pub(super) const FORMAT: u32 = 1;

/// Votes are small; a longer one is refused.
pub(super) const MAX_VOTE: usize = 4096;

const FIXED: usize = 4 + 16 + 8 + 1 + 3 * 24;
/// The most bytes that encoded marks have.
pub(super) const MAX_MARKS: usize = FIXED + MAX_VOTE;

/// Everything that is not an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) identity: Identity,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
}

/// Why marks do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarksError {
    Format(u32),
    Damaged,
}

impl Marks {
    /// Those of a new log file.
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, vote: None, committed: None, purged: None, last: None }
    }

    /// Takes note of a purge. The log ends there if it ended before.
    pub(super) fn purge(&mut self, id: LogId) {
        self.purged = Some(id);
        if self.last.is_none_or(|last| last.index <= id.index) {
            self.last = Some(id);
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FIXED + self.vote.as_ref().map_or(0, Bytes::len));
        out.put_u32_le(FORMAT);
        out.put_slice(&self.identity.cluster);
        out.put_u64_le(self.identity.raft_id);
        let ids = [self.committed, self.purged, self.last];
        let mut flags = u8::from(self.vote.is_some()) << 3;
        for (bit, id) in ids.iter().enumerate() {
            flags |= u8::from(id.is_some()) << bit;
        }
        out.put_u8(flags);
        for id in ids {
            put_log_id(&mut out, id.unwrap_or(LogId { term: 0, node: 0, index: 0 }));
        }
        out.put_slice(self.vote.as_deref().unwrap_or_default());
        out.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, MarksError> {
        if bytes.len() < 4 {
            return Err(MarksError::Damaged);
        }
        let format = bytes.get_u32_le();
        if format != FORMAT {
            return Err(MarksError::Format(format));
        }
        if bytes.len() < FIXED - 4 {
            return Err(MarksError::Damaged);
        }
        let mut cluster = [0; 16];
        bytes.copy_to_slice(&mut cluster);
        let raft_id = bytes.get_u64_le();
        let flags = bytes.get_u8();
        let [committed, purged, last] = [0, 1, 2].map(|bit| {
            let id = get_log_id(&mut bytes);
            (flags & 1 << bit != 0).then_some(id)
        });
        let has_vote = flags & 1 << 3 != 0;
        if flags >> 4 != 0 || bytes.len() > MAX_VOTE || (!has_vote && !bytes.is_empty()) {
            return Err(MarksError::Damaged);
        }
        let vote = has_vote.then(|| Bytes::copy_from_slice(&bytes));
        Ok(Self { identity: Identity { cluster, raft_id }, vote, committed, purged, last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = Option<LogId>> {
        prop::option::of(any::<(u64, u64, u64)>().prop_map(|(term, node, index)| LogId { term, node, index }))
    }

    proptest! {
        #[test]
        fn marks_read_back_as_they_were_written(
            (cluster, raft_id, committed, purged, last) in (any::<[u8; 16]>(), any::<u64>(), id(), id(), id()),
            vote in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        ) {
            let vote = vote.map(Bytes::from);
            let marks = Marks { identity: Identity { cluster, raft_id }, vote, committed, purged, last };
            prop_assert_eq!(Marks::decode(marks.encode()), Ok(marks));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..200), known: bool) {
            if known {
                bytes[..4].copy_from_slice(&FORMAT.to_le_bytes());
            }
            let _ = Marks::decode(bytes.into());
        }
    }
}
