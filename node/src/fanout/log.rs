//! The replica as the fan-out sees it.

use std::io;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::time::UnixMillis;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use crate::replica::{Applied, DatabaseView, Leadership, LogPin, ProposeError, Replica, SegmentRecord};
use crate::space::destination_limit;

/// What the fan-out needs of the replica, so that it can be tried without a cluster. See [`Replica`] for the meanings.
#[expect(missing_docs, reason = "documented at `Replica`")]
pub trait CommittedLog: Send + Sync + 'static {
    fn databases(&self) -> Vec<DatabaseName>;
    fn database(&self, name: &DatabaseName) -> Option<DatabaseView>;
    fn changed(&self, seen: u64) -> BoxFuture<'_, u64>;
    fn segments(&self, name: &DatabaseName, lineage: Lineage, after: Txid, limit: usize) -> Vec<SegmentRecord>;
    fn segment_bytes<'a>(&'a self, record: &'a SegmentRecord) -> BoxFuture<'a, io::Result<Option<Vec<Bytes>>>>;
    /// One part of a segment, so that a large one need not be in memory as a whole.
    fn segment_part<'a>(&'a self, record: &'a SegmentRecord, part: usize) -> BoxFuture<'a, io::Result<Option<Bytes>>>;
    fn propose(&self, command: v1::Command) -> BoxFuture<'static, Result<Applied, ProposeError>>;
    fn leadership(&self) -> Leadership;
    fn cluster_time(&self) -> Option<UnixMillis>;
    fn pin(&self, name: &DatabaseName, reason: &'static str, from: Txid) -> Box<dyn Pin>;
    /// Bytes of log that one destination may keep.
    fn destination_limit(&self) -> u64;
}

/// Keeps pieces of the log file until it is dropped.
pub trait Pin: Send + Sync + 'static {
    /// Entries below `from` are no longer needed for its sake.
    fn advance(&self, from: Txid);
    /// Bytes of log from the first piece on that it keeps, those of other databases among them.
    fn bytes(&self) -> u64;
}

impl Pin for LogPin {
    fn advance(&self, from: Txid) {
        LogPin::advance(self, from);
    }

    fn bytes(&self) -> u64 {
        LogPin::bytes(self)
    }
}

impl CommittedLog for Replica {
    fn databases(&self) -> Vec<DatabaseName> {
        Replica::databases(self)
    }

    fn database(&self, name: &DatabaseName) -> Option<DatabaseView> {
        Replica::database(self, name)
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        Replica::changed(self, seen).boxed()
    }

    fn segments(&self, name: &DatabaseName, lineage: Lineage, after: Txid, limit: usize) -> Vec<SegmentRecord> {
        Replica::segments(self, name, lineage, after, limit)
    }

    fn segment_bytes<'a>(&'a self, record: &'a SegmentRecord) -> BoxFuture<'a, io::Result<Option<Vec<Bytes>>>> {
        Replica::segment_bytes(self, record).boxed()
    }

    fn segment_part<'a>(&'a self, record: &'a SegmentRecord, part: usize) -> BoxFuture<'a, io::Result<Option<Bytes>>> {
        async move {
            let Some(entry) = record.entries.get(part) else {
                let cause = format!("a segment of {} parts has none of number {part}", record.entries.len());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, cause));
            };
            let one = SegmentRecord { entries: vec![*entry], ..record.clone() };
            let parts = Replica::segment_bytes(self, &one).await?;
            Ok(parts.map(|parts| parts.into_iter().next().unwrap_or_default()))
        }
        .boxed()
    }

    fn propose(&self, command: v1::Command) -> BoxFuture<'static, Result<Applied, ProposeError>> {
        Replica::propose(self, command, Bytes::new())
    }

    fn leadership(&self) -> Leadership {
        Replica::leadership(self)
    }

    fn cluster_time(&self) -> Option<UnixMillis> {
        Replica::cluster_time(self)
    }

    fn pin(&self, name: &DatabaseName, reason: &'static str, from: Txid) -> Box<dyn Pin> {
        Box::new(Replica::pin(self, name, reason, from))
    }

    fn destination_limit(&self) -> u64 {
        let space = Replica::space(self);
        let others: Vec<_> = space.others.values().map(|report| report.map(|report| report.said)).collect();
        destination_limit(space.own.said.room(), &others)
    }
}
