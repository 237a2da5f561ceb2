//! The state as a message, for snapshots.

use std::collections::BTreeMap;

use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::{DatabaseName, InvalidDatabaseName};
use seawall_proto::position::{Epoch, InvalidPageSize, Lineage, PageSize, Txid};
use seawall_proto::v1;

use super::cluster::ClusterState;
use super::database::DatabaseState;
use super::open_segment::OpenSegment;
use crate::replica::SegmentRecord;

/// Why a manifest says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A database has an impossible name.
    #[error("the manifest is damaged: {0}")]
    Name(#[from] InvalidDatabaseName),
    /// A page size is impossible.
    #[error("the manifest is damaged: {0}")]
    PageSize(#[from] InvalidPageSize),
    /// A database appears without a head.
    #[error("the manifest is damaged: database {0} has no head")]
    NoHead(DatabaseName),
    /// A database appears twice.
    #[error("the manifest is damaged: database {0} appears twice")]
    Twice(DatabaseName),
    /// A record of the position log belongs to no database, or its numbers contradict each other.
    #[error("the manifest is damaged: a record of txids {first}-{last} makes no sense")]
    Record {
        /// Its first transaction.
        first: u64,
        /// Its last transaction.
        last: u64,
    },
}

impl ClusterState {
    /// The state as messages, in the order of names.
    pub fn to_manifest(&self) -> Vec<v1::DatabaseManifest> {
        self.databases
            .iter()
            .map(|(name, database)| v1::DatabaseManifest {
                name: name.to_string(),
                head: Some(database.head.clone()),
                epoch: database.epoch.0,
                agent_id: database.agent_id,
                agent_label: database.agent_label.clone(),
                claimed_at: database.claimed_at,
                open: database.open.as_ref().map(|open| v1::OpenSegment {
                    stream: open.stream,
                    first: open.first.0,
                    last: open.last.0,
                    page_size: open.page_size.bytes(),
                    resync: open.resync,
                    bytes: open.bytes,
                    entries: open.entries.clone(),
                }),
                destinations: database.destinations.values().cloned().collect(),
                verifications: database.verifications.values().cloned().collect(),
            })
            .collect()
    }

    /// The state that [`ClusterState::to_manifest`] described.
    ///
    /// # Errors
    /// [`ManifestError`] if no state is described so.
    pub fn from_manifest(databases: Vec<v1::DatabaseManifest>) -> Result<Self, ManifestError> {
        let mut state = Self::default();
        for manifest in databases {
            let name: DatabaseName = manifest.name.parse()?;
            let database = DatabaseState {
                head: manifest.head.ok_or_else(|| ManifestError::NoHead(name.clone()))?,
                epoch: Epoch(manifest.epoch),
                agent_id: manifest.agent_id,
                agent_label: manifest.agent_label,
                claimed_at: manifest.claimed_at,
                open: manifest.open.map(open_segment).transpose()?,
                destinations: manifest
                    .destinations
                    .into_iter()
                    .map(|one| (one.destination.clone(), one))
                    .collect::<BTreeMap<_, _>>(),
                verifications: manifest
                    .verifications
                    .into_iter()
                    .map(|one| (one.destination.clone(), one))
                    .collect::<BTreeMap<_, _>>(),
            };
            if state.databases.insert(name.clone(), database).is_some() {
                return Err(ManifestError::Twice(name));
            }
        }
        Ok(state)
    }
}

fn open_segment(open: v1::OpenSegment) -> Result<OpenSegment, ManifestError> {
    Ok(OpenSegment {
        stream: open.stream,
        first: Txid(open.first),
        last: Txid(open.last),
        page_size: PageSize::new(open.page_size)?,
        resync: open.resync,
        bytes: open.bytes,
        entries: open.entries,
    })
}

/// A record of the position log as a message; `database` is its place in a manifest's list.
pub fn encode_record(record: &SegmentRecord, database: u32) -> v1::SegmentEntry {
    v1::SegmentEntry {
        database,
        lineage: record.lineage.0,
        epoch: record.epoch.0,
        first: record.first.0,
        last: record.last.0,
        checksum_before: record.checksum_before.0,
        checksum_after: record.checksum_after.0,
        commit_time_ms: record.commit_time_ms,
        page_size: record.page_size.bytes(),
        page_count: record.page_count,
        bytes: record.bytes,
        entries: record.entries.clone(),
    }
}

/// The record that [`encode_record`] described.
///
/// # Errors
/// [`ManifestError`] if no record is described so.
pub fn decode_record(entry: v1::SegmentEntry) -> Result<SegmentRecord, ManifestError> {
    if entry.first == 0 || entry.last < entry.first || entry.entries.is_empty() {
        return Err(ManifestError::Record { first: entry.first, last: entry.last });
    }
    Ok(SegmentRecord {
        lineage: Lineage(entry.lineage),
        epoch: Epoch(entry.epoch),
        first: Txid(entry.first),
        last: Txid(entry.last),
        checksum_before: Checksum(entry.checksum_before),
        checksum_after: Checksum(entry.checksum_after),
        commit_time_ms: entry.commit_time_ms,
        page_size: PageSize::new(entry.page_size)?,
        page_count: entry.page_count,
        bytes: entry.bytes,
        entries: entry.entries,
    })
}
