//! What belongs to a snapshot beside its manifest: images of databases, and parts of segments that are not complete.
//!
//! A node that is too far behind pulls them from the peer that sends the manifest, before the manifest is installed:
//! while that happens nothing else may be appended. What has arrived is kept between attempts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use seawall_host::disk;
use seawall_host::probe::sometimes;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::{MAX_PART_BYTES, v1};

use super::network::Peer;
use crate::state::ClusterState;
use crate::store::log::LogFile;

/// A blob's bytes, from some offset to its end.
pub type BlobStream = BoxStream<'static, io::Result<Bytes>>;

const PAYLOADS: &str = "payloads";
const PAYLOAD_PREFIX: &str = "payload/";

/// A state that blobs must let a node rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which database.
    pub database: DatabaseName,
    /// Its history.
    pub lineage: Lineage,
    /// At least up to this transaction.
    pub txid: Txid,
}

/// Blobs that this node can give to a peer.
pub trait BlobSource: Send + Sync + 'static {
    /// Blobs that reach all of `needs`. They stay readable for as long as a peer may take to pull them.
    fn list(&self, needs: Vec<Need>) -> BoxFuture<'_, io::Result<Vec<v1::Blob>>>;
    /// The bytes of one from `offset` on; `NotFound` if it is no longer there.
    fn read(&self, id: String, offset: u64) -> BoxFuture<'_, io::Result<BlobStream>>;
}

/// Where blobs from a peer go.
pub trait BlobSink: Send + Sync + 'static {
    /// How many of the blob's bytes are here; all of them only if their checksum was right.
    fn held(&self, blob: v1::Blob) -> BoxFuture<'_, io::Result<u64>>;
    /// Takes in the bytes of `blob` from `offset` on. Fails if they end early or the whole does not have the blob's
    /// size and checksum; what arrived may be kept for another attempt.
    fn write(&self, blob: v1::Blob, offset: u64, bytes: BlobStream) -> BoxFuture<'_, io::Result<()>>;
}

/// Both ends, of whoever keeps images.
#[derive(Clone)]
pub struct Blobs {
    /// Gives.
    pub source: Arc<dyn BlobSource>,
    /// Takes.
    pub sink: Arc<dyn BlobSink>,
}

/// Payloads of entries that came with a snapshot instead of through the log.
#[derive(Clone)]
pub(super) struct Payloads {
    directory: Arc<Path>,
    log: LogFile,
}

impl Payloads {
    pub(super) fn new(data_dir: &Path, log: LogFile) -> Self {
        Self { directory: data_dir.join(PAYLOADS).into(), log }
    }

    /// The payload of the log's entry `index`, wherever it is.
    pub(super) async fn get(&self, index: u64) -> io::Result<Option<Bytes>> {
        if let Some(payload) = self.log.payload(index).await? {
            return Ok(Some(payload));
        }
        match disk::read_file(&self.path(index), MAX_PART_BYTES).await {
            Ok(payload) => Ok(Some(payload)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what came with a snapshot and belongs to entries below `index`.
    pub(super) async fn remove_below(&self, index: u64) -> io::Result<()> {
        if !disk::exists(&self.directory).await? {
            return Ok(());
        }
        for entry in disk::list(&self.directory).await? {
            if entry.name.parse::<u64>().is_ok_and(|number| number < index) {
                disk::remove_file(&self.directory.join(entry.name)).await?;
            }
        }
        Ok(())
    }

    /// Whether the payload of entry `index` came with a snapshot.
    async fn holds(&self, index: u64) -> io::Result<bool> {
        disk::exists(&self.path(index)).await
    }

    fn path(&self, index: u64) -> PathBuf {
        self.directory.join(index.to_string())
    }

    async fn put(&self, index: u64, payload: Bytes) -> io::Result<()> {
        disk::create_directories(&self.directory).await?;
        disk::replace_file(&self.path(index), payload).await
    }
}

/// What of this node a peer's request for `id` means.
pub(super) async fn read(
    payloads: &Payloads,
    blobs: Option<&Blobs>,
    id: String,
    offset: u64,
) -> io::Result<BlobStream> {
    if let Some(index) = id.strip_prefix(PAYLOAD_PREFIX).and_then(|index| index.parse().ok()) {
        let payload = payloads.get(index).await?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, id.clone()))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(payload.len());
        return Ok(futures::stream::iter([Ok(payload.slice(start..))]).boxed());
    }
    match blobs {
        Some(blobs) => blobs.source.read(id, offset).await,
        None => Err(io::Error::new(io::ErrorKind::NotFound, id)),
    }
}

/// Pulls from `peer` everything that belongs to a manifest's state.
pub(super) async fn pull(
    mut peer: Peer,
    envelope: v1::Envelope,
    cluster: &ClusterState,
    payloads: &Payloads,
    blobs: Option<&Blobs>,
) -> io::Result<()> {
    for (name, database) in cluster.databases() {
        for &index in database.open.iter().flat_map(|open| &open.entries) {
            // What the log has here under this index may be another entry, which was never committed.
            if !payloads.holds(index).await? {
                let request = v1::ReadBlobRequest {
                    envelope: Some(envelope.clone()),
                    id: format!("{PAYLOAD_PREFIX}{index}"),
                    offset: 0,
                };
                let mut bytes = Vec::new();
                let mut chunks = fetch(&mut peer, request).await?;
                while let Some(chunk) = chunks.try_next().await? {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() > MAX_PART_BYTES {
                        return Err(io::Error::other(format!("a peer's part of a segment of {name} is too large")));
                    }
                }
                sometimes("payload of an open transaction pulled from a peer");
                payloads.put(index, bytes.into()).await?;
            }
        }
    }
    let Some(blobs) = blobs else { return Ok(()) };
    let needs = cluster.databases().iter().map(|(name, database)| v1::BlobNeed {
        database: name.to_string(),
        lineage: database.head.lineage,
        txid: database.head.txid,
    });
    let request = v1::ListBlobsRequest { envelope: Some(envelope.clone()), needs: needs.collect() };
    let listed = peer.list_blobs(request).await.map_err(io::Error::other)?.into_inner().blobs;
    for blob in listed {
        let offset = blobs.sink.held(blob.clone()).await?;
        if offset < blob.size {
            sometimes("image pulled from a peer");
            if offset > 0 {
                sometimes("pull of an image resumed");
            }
            tracing::info!(blob = blob.id, size = blob.size, offset, "pulling from a peer");
            let request = v1::ReadBlobRequest { envelope: Some(envelope.clone()), id: blob.id.clone(), offset };
            let bytes = fetch(&mut peer, request).await?;
            blobs.sink.write(blob, offset, bytes).await?;
        }
    }
    Ok(())
}

async fn fetch(peer: &mut Peer, request: v1::ReadBlobRequest) -> io::Result<BlobStream> {
    let chunks = peer.read_blob(request).await.map_err(io::Error::other)?.into_inner();
    Ok(chunks.map_ok(|chunk| chunk.data).map_err(io::Error::other).boxed())
}
