//! The replicated state of one database.

use std::collections::BTreeMap;

use seawall_host::probe::{mutant, sometimes};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Epoch, Lineage, PageSize, Txid};
use seawall_proto::v1;
use seawall_proto::v1::append_response::Reason;

use super::open_segment::OpenSegment;
use crate::replica::{Applied, SegmentRecord};

/// The longest label of an agent that is kept, in bytes.
const MAX_LABEL_BYTES: usize = 512;

/// The longest text of a verification's result that is kept, in bytes.
const MAX_VERIFICATION_TEXT_BYTES: usize = 300;

/// A database as the applied log has left it.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseState {
    /// Newest committed state; its lineage is the current one.
    pub head: v1::Head,
    /// The writer's fencing token.
    pub epoch: Epoch,
    /// Who claimed it last.
    pub agent_id: u64,
    /// The same, for people.
    pub agent_label: String,
    /// Index of the log entry that made the newest claim: appends behind it are of no older epoch.
    pub claimed_at: u64,
    /// What has arrived of a segment in parts, under the current epoch.
    pub open: Option<OpenSegment>,
    /// Progress of each destination that ever reported any, by name.
    pub destinations: BTreeMap<String, v1::DestinationProgress>,
    /// What the last verification of each destination found, by name.
    pub verifications: BTreeMap<String, v1::VerificationResult>,
}

/// Why an append is not taken in.
struct Refusal(Reason, String);

impl DatabaseState {
    /// A database that was never claimed: lineage 1, nothing in it.
    pub(super) fn begin() -> Self {
        Self {
            head: v1::Head { lineage: 1, ..v1::Head::default() },
            epoch: Epoch(0),
            agent_id: 0,
            agent_label: String::new(),
            claimed_at: 0,
            open: None,
            destinations: BTreeMap::new(),
            verifications: BTreeMap::new(),
        }
    }

    /// Grants the database to an agent: the epoch grows, so nothing older is taken in from here on.
    pub(super) fn claim(&mut self, command: &v1::ClaimCommand, index: u64) -> Applied {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.agent_id = command.agent_id;
        self.agent_label = shorten(&command.agent_label, MAX_LABEL_BYTES).to_owned();
        self.claimed_at = index;
        self.open = None;
        Applied::Claimed { epoch: self.epoch, head: self.head.clone() }
    }

    /// Takes in one part of a segment if it continues the head under the current epoch, and otherwise changes nothing.
    pub(super) fn append(
        &mut self,
        command: &v1::AppendCommand,
        index: u64,
        payload_len: u32,
    ) -> (Applied, Option<SegmentRecord>) {
        match self.try_append(command, index, payload_len) {
            Ok(record) => (Applied::Appended { head: self.head.clone() }, record),
            Err(Refusal(reason, message)) => (Applied::Refused { reason, message, head: self.head.clone() }, None),
        }
    }

    fn try_append(
        &mut self,
        command: &v1::AppendCommand,
        index: u64,
        payload_len: u32,
    ) -> Result<Option<SegmentRecord>, Refusal> {
        let part = command.part.as_ref().ok_or_else(|| Refusal(Reason::Invalid, "it carries no part".to_owned()))?;
        if command.epoch != self.epoch.0 && !mutant("stale-epoch-accepted") {
            let message = format!("epoch {} is not the current one, {}", command.epoch, self.epoch);
            return Err(Refusal(Reason::Fenced, message));
        }
        if command.lineage != self.head.lineage {
            let message = format!("lineage {} is not the current one, {}", command.lineage, self.head.lineage);
            return Err(Refusal(Reason::NotAdjacent, message));
        }
        if command.payload_len != payload_len {
            let message = format!("{} bytes were announced, the entry has {payload_len}", command.payload_len);
            return Err(Refusal(Reason::Invalid, message));
        }
        let page_size = PageSize::new(part.page_size).map_err(|error| Refusal(Reason::Invalid, error.to_string()))?;
        self.check_adjacent(part)?;
        if part.part == 0 {
            self.open = Some(OpenSegment {
                stream: command.stream,
                first: Txid(part.first),
                last: Txid(part.last),
                page_size,
                resync: part.resync,
                bytes: 0,
                entries: Vec::new(),
            });
        }
        let next = self.open.as_ref().is_some_and(|open| open.continues_with(command.stream, part));
        let Some(mut open) = self.open.take_if(|_| next) else {
            let message =
                format!("part {} of {}-{} does not continue what came before", part.part, part.first, part.last);
            return Err(Refusal(Reason::NotAdjacent, message));
        };
        open.bytes += u64::from(payload_len);
        if !mutant("last-part-ignored") || !part.is_last || part.part == 0 {
            open.entries.push(index);
        }
        if !part.is_last {
            self.open = Some(open);
            return Ok(None);
        }
        Ok(Some(self.close(open, command.epoch, part)))
    }

    fn check_adjacent(&self, part: &v1::SegmentPart) -> Result<(), Refusal> {
        if mutant("retry-without-dedupe") && part.first <= self.head.txid {
            return Ok(());
        }
        if self.head.txid.checked_add(1) != Some(part.first) {
            let message = format!("it begins at txid {}, the head is at {}", part.first, self.head.txid);
            return Err(Refusal(Reason::NotAdjacent, message));
        }
        if part.checksum_before != self.head.checksum {
            let (before, head) = (Checksum(part.checksum_before), Checksum(self.head.checksum));
            let message = format!("it begins at checksum {before}, the head has {head}");
            return Err(Refusal(Reason::NotAdjacent, message));
        }
        if part.last < part.first || (part.resync && part.last != part.first) {
            let message = format!("it claims to hold the transactions {}-{}", part.first, part.last);
            return Err(Refusal(Reason::Invalid, message));
        }
        Ok(())
    }

    /// Makes a whole segment the head.
    fn close(&mut self, open: OpenSegment, epoch: u64, part: &v1::SegmentPart) -> SegmentRecord {
        let record = SegmentRecord {
            lineage: Lineage(self.head.lineage),
            epoch: Epoch(epoch),
            first: open.first,
            last: open.last,
            checksum_before: Checksum(self.head.checksum),
            checksum_after: Checksum(part.checksum_after),
            commit_time_ms: part.commit_time_ms.max(self.head.commit_time_ms),
            page_size: open.page_size,
            page_count: part.page_count,
            bytes: open.bytes,
            entries: open.entries,
        };
        self.head = v1::Head {
            lineage: self.head.lineage,
            txid: record.last.0,
            checksum: record.checksum_after.0,
            page_size: record.page_size.bytes(),
            page_count: record.page_count,
            commit_time_ms: record.commit_time_ms,
            wal: part.wal.clone(),
        };
        record
    }

    /// Takes in how far a destination is; nothing falls within a lineage, and nothing passes the head. A decree that
    /// it is detached counts only while its watermark is the one that was judged; a higher watermark ends it.
    pub(super) fn progress(&mut self, news: &v1::DestinationProgress) {
        if news.lineage > self.head.lineage || (news.lineage == self.head.lineage && news.watermark > self.head.txid) {
            return;
        }
        let known = self.destinations.get(&news.destination);
        if news.detached && !is_as_judged(known, news) {
            return;
        }
        if news.detached {
            sometimes("destination detached");
        }
        let known = self.destinations.entry(news.destination.clone()).or_insert_with(|| v1::DestinationProgress {
            database: news.database.clone(),
            destination: news.destination.clone(),
            ..v1::DestinationProgress::default()
        });
        if news.detached && mutant("detached-on-an-old-watermark") {
            *known = news.clone();
        }
        if known.retention_due_ms == 0 {
            known.retention_due_ms = news.retention_due_ms;
        }
        if news.lineage > known.lineage {
            let (floors, retention_due_ms) = (std::mem::take(&mut known.floors), known.retention_due_ms);
            *known = v1::DestinationProgress { floors, retention_due_ms, ..news.clone() };
        } else if news.lineage == known.lineage {
            known.detached = (known.detached && news.watermark <= known.watermark) || news.detached;
            known.watermark = known.watermark.max(news.watermark);
            known.level_one = newer(known.level_one, news.level_one);
            known.level_two = newer(known.level_two, news.level_two);
            if news.snapshot > known.snapshot {
                known.snapshot = news.snapshot;
                known.snapshot_time_ms = news.snapshot_time_ms;
                known.bytes_since_snapshot = news.bytes_since_snapshot;
            } else if news.snapshot == known.snapshot {
                known.bytes_since_snapshot = known.bytes_since_snapshot.max(news.bytes_since_snapshot);
                known.snapshot_time_ms = known.snapshot_time_ms.max(news.snapshot_time_ms);
            }
        }
    }
}

/// The mark that is further; of the same, since when level 0 is beyond it.
fn newer(known: Option<v1::LevelMark>, news: Option<v1::LevelMark>) -> Option<v1::LevelMark> {
    match (known, news) {
        (Some(known), Some(news)) if known.txid > news.txid => Some(known),
        (Some(known), Some(news)) if known.txid == news.txid && known.opened_ms != 0 => Some(known),
        (known, news) => news.or(known),
    }
}

impl DatabaseState {
    /// Takes in what a verification found, if it is the newest of its destination.
    pub(super) fn verified(&mut self, news: &v1::VerificationResult) {
        let known = self.verifications.get(&news.destination);
        if news.lineage > self.head.lineage || known.is_some_and(|known| known.time_ms >= news.time_ms) {
            return;
        }
        let text = shorten(&news.text, MAX_VERIFICATION_TEXT_BYTES).to_owned();
        let news = v1::VerificationResult { text, ..news.clone() };
        self.verifications.insert(news.destination.clone(), news);
    }
}

/// Whether a destination is where it was when it was judged; one of another lineage, or of none, has nothing.
fn is_as_judged(known: Option<&v1::DestinationProgress>, decree: &v1::DestinationProgress) -> bool {
    let known = known.filter(|known| known.lineage == decree.lineage).map_or(0, |known| known.watermark);
    known == decree.watermark || mutant("detached-on-an-old-watermark")
}

fn shorten(text: &str, bytes: usize) -> &str {
    let end = (0..=text.len().min(bytes)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}
