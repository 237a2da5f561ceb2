//! The log file as openraft wants it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message;
use seawall_host::probe::sometimes;
use seawall_proto::v1;

use super::payloads::Payloads;
use super::types::{Entry, EntryPayload, Payload, RaftLogId, TypeConfig, Vote};
use super::wire;
use crate::store::log::{EntryHead, LogEntry, LogFile, LogId};

const READ_BYTES: usize = 2 << 20;

/// The log file as openraft wants it.
#[derive(Clone)]
pub(super) struct LogStore {
    log: LogFile,
    payloads: Payloads,
}

impl LogStore {
    /// Over an open log file and the `payloads` of its entries.
    pub(super) fn new(log: LogFile, payloads: Payloads) -> Self {
        Self { log, payloads }
    }
}

fn range_of(range: impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index.saturating_add(1),
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn decode(id: LogId, meta: Bytes, payload: Payload) -> io::Result<Entry> {
    let message = v1::PeerEntry::decode(meta).map_err(io::Error::other)?;
    let mut entry = wire::read_entry(message).map_err(io::Error::other)?;
    if LogId::from(entry.log_id) != id {
        return Err(io::Error::other(format!("the log file gives entry {} for {id}", entry.log_id)));
    }
    if let EntryPayload::Normal(request) = &mut entry.payload {
        request.payload = payload;
    }
    Ok(entry)
}

fn decode_head(head: EntryHead) -> io::Result<Entry> {
    let payload = if head.payload_len == 0 { Payload::Empty } else { Payload::Elsewhere { len: head.payload_len } };
    decode(head.id, head.meta, payload)
}

fn decode_entry(entry: LogEntry) -> io::Result<Entry> {
    let payload = if entry.payload.is_empty() { Payload::Empty } else { Payload::Bytes(entry.payload) };
    decode(entry.id, entry.meta, payload)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.log.heads(range_of(range)).into_iter().map(decode_head).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.payloads.entries(start..end, READ_BYTES).await?.into_iter().map(decode_entry).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let Some(bytes) = self.log.state().vote else { return Ok(None) };
        let vote = v1::Vote::decode(bytes).map_err(io::Error::other)?;
        wire::read_vote(Some(&vote)).map(Some).map_err(io::Error::other)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(RaftLogId::from),
            last_log_id: state.last.map(RaftLogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(wire::vote(vote).encode_to_vec().into()).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.log.save_committed(committed.map(Into::into));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log.state().committed.map(RaftLogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let encode = |entry: Entry| -> io::Result<LogEntry> {
            let id = entry.log_id.into();
            let mut message = wire::entry(entry).map_err(io::Error::other)?;
            let payload = std::mem::take(&mut message.payload);
            Ok(LogEntry { id, meta: message.encode_to_vec().into(), payload })
        };
        let entries = entries.into_iter().map(encode).collect::<io::Result<Vec<_>>>()?;
        self.log.append(entries, Box::new(move |outcome| callback.io_completed(outcome)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        sometimes("log truncated by a new leader");
        self.log.truncate_after(last.map(Into::into)).await
    }

    async fn purge(&mut self, id: RaftLogId) -> io::Result<()> {
        sometimes("log purged");
        self.log.purge(id.into()).await
    }
}

#[cfg(test)]
#[path = "log_adapter_tests.rs"]
mod tests;
