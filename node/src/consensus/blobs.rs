//! What belongs to a snapshot beside its manifest: images of databases, and parts of segments that are not complete.
//!
//! A node that is too far behind pulls them from the peer that sends the manifest, before the manifest is installed:
//! while that happens nothing else may be appended. What has arrived is kept between attempts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use seawall_host::probe::sometimes;
use seawall_host::time;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::{MAX_PART_BYTES, v1};
use tonic::{Code, Status};

use super::identity::Identity;
use super::network::{Network, Peer, Purpose};
use super::payloads::Payloads;
use super::types::Member;
use crate::state::ClusterState;

/// A blob's bytes, from some offset to its end.
pub type BlobStream = BoxStream<'static, io::Result<Bytes>>;

/// How long a peer may take to say what it has, or to begin with it. What takes longer goes on there meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// How long the next bytes of a blob may take.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// What the id of an entry's payload begins with that came or would come with a snapshot; its index follows.
const PAYLOAD_PREFIX: &str = "payload/";
/// The same of one that a node asks for whose own is damaged; the log id follows.
pub(super) const ENTRY_PREFIX: &str = "entry/";

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
    /// How far the image of a database's history is folded; not at all if there is none, or none that can be relied on.
    fn folded(&self, database: &DatabaseName, lineage: Lineage) -> Txid;
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
    if let Some(entry) = id.strip_prefix(ENTRY_PREFIX).and_then(|entry| entry.parse().ok()) {
        let payload = payloads.held(entry).await?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, id.clone()))?;
        return Ok(futures::stream::iter([Ok(payload)]).boxed());
    }
    match blobs {
        Some(blobs) => blobs.source.read(id, offset).await,
        None => Err(io::Error::new(io::ErrorKind::NotFound, id)),
    }
}

/// A peer to pull from.
pub(super) struct Giver {
    /// Its configured id.
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) envelope: v1::Envelope,
}

impl Giver {
    /// The other members of a cluster, in the order of their Raft ids, `last` at the end.
    pub(super) fn all<'a>(
        members: impl Iterator<Item = (&'a u64, &'a Member)>,
        identity: &Identity,
        network: &Network,
        last: Option<u64>,
    ) -> Vec<Self> {
        let mut others: Vec<_> = members.filter(|(id, _)| **id != identity.raft_id()).collect();
        others.sort_by_key(|(id, _)| (Some(**id) == last, **id));
        let giver = |(id, member): (&u64, &Member)| Self {
            id: member.configured_id,
            peer: network.peer(&member.address, Purpose::Snapshot),
            envelope: identity.envelope(*id),
        };
        others.into_iter().map(giver).collect()
    }
}

/// Pulls everything that belongs to a manifest's state from the peer that sent the manifest, the first of `givers`;
/// an image that it cannot give from another.
pub(super) async fn pull(
    givers: &mut [Giver],
    cluster: &ClusterState,
    payloads: &Payloads,
    blobs: Option<&Blobs>,
) -> io::Result<()> {
    let Some(Giver { peer, envelope, .. }) = givers.first_mut() else {
        return Err(io::Error::other("there is no peer to pull from"));
    };
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
                let mut chunks = fetch(peer, request).await?;
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
    let needs = cluster.databases().iter().map(|(name, database)| Need {
        database: name.clone(),
        lineage: Lineage(database.head.lineage),
        txid: Txid(database.head.txid),
    });
    let needs: Vec<Need> = needs.collect();
    match list(peer, envelope.clone(), needs.clone()).await {
        Ok(listed) => {
            for blob in listed {
                take(peer, envelope.clone(), blob, blobs).await?;
            }
        }
        // One image of its may be damaged.
        Err(error) if givers.len() > 1 => {
            tracing::warn!(%error, "the sender of a snapshot does not have all that belongs to it: asking others");
            for need in needs.iter().filter(|need| need.txid != Txid::NONE) {
                pull_image(need, givers, blobs, |_| Ok(())).await?;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Pulls one image from the first of `givers` that has it and whose image `accept` finds right.
pub(super) async fn pull_image(
    need: &Need,
    givers: &mut [Giver],
    blobs: &Blobs,
    accept: impl Fn(&v1::Head) -> Result<(), String>,
) -> io::Result<()> {
    let mut errors = Vec::new();
    for Giver { id, peer, envelope } in givers {
        match pull_from(need, peer, envelope, blobs, &accept).await {
            Ok(()) => return Ok(()),
            Err(error) => errors.push(format!("node {id}: {error}")),
        }
    }
    let errors = if errors.is_empty() { "there is no other node".to_owned() } else { errors.join("; ") };
    Err(io::Error::other(errors))
}

async fn pull_from(
    need: &Need,
    peer: &mut Peer,
    envelope: &v1::Envelope,
    blobs: &Blobs,
    accept: impl Fn(&v1::Head) -> Result<(), String>,
) -> io::Result<()> {
    let fits = |blob: &v1::Blob| {
        let head = blob.head.as_ref().filter(|head| head.lineage == need.lineage.0 && head.txid >= need.txid.0);
        blob.database == need.database.as_str() && head.is_some()
    };
    let listed = list(peer, envelope.clone(), vec![need.clone()]).await?;
    let blob = listed.into_iter().find(fits).ok_or_else(|| io::Error::other("it has no such image"))?;
    accept(&blob.head.clone().unwrap_or_default()).map_err(io::Error::other)?;
    take(peer, envelope.clone(), blob, blobs).await
}

/// What `peer` offers for `needs`.
async fn list(peer: &mut Peer, envelope: v1::Envelope, needs: Vec<Need>) -> io::Result<Vec<v1::Blob>> {
    let needs = needs.into_iter().map(|need| v1::BlobNeed {
        database: need.database.to_string(),
        lineage: need.lineage.0,
        txid: need.txid.0,
    });
    let request = v1::ListBlobsRequest { envelope: Some(envelope), needs: needs.collect() };
    let listed = time::timeout(ANSWER_LIMIT, peer.list_blobs(request)).await.map_err(io::Error::other)?;
    Ok(listed.map_err(refused)?.into_inner().blobs)
}

/// Takes in what is not here yet of a blob that `peer` offers.
async fn take(peer: &mut Peer, envelope: v1::Envelope, blob: v1::Blob, blobs: &Blobs) -> io::Result<()> {
    let offset = blobs.sink.held(blob.clone()).await?;
    if offset >= blob.size {
        return Ok(());
    }
    sometimes("image pulled from a peer");
    if offset > 0 {
        sometimes("pull of an image resumed");
    }
    tracing::info!(blob = blob.id, size = blob.size, offset, "pulling from a peer");
    let request = v1::ReadBlobRequest { envelope: Some(envelope), id: blob.id.clone(), offset };
    let bytes = fetch(peer, request).await?;
    blobs.sink.write(blob, offset, bytes).await
}

/// The bytes of a blob of `peer`.
pub(super) async fn fetch(peer: &mut Peer, request: v1::ReadBlobRequest) -> io::Result<BlobStream> {
    let answered = time::timeout(ANSWER_LIMIT, peer.read_blob(request)).await.map_err(io::Error::other)?;
    let chunks = answered.map_err(refused)?.into_inner();
    let bytes = stream::try_unfold(chunks, |mut chunks| async move {
        let next = time::timeout(IDLE_LIMIT, chunks.try_next()).await.map_err(io::Error::other)?;
        Ok(next.map_err(refused)?.map(|chunk| (chunk.data, chunks)))
    });
    Ok(bytes.boxed())
}

/// A peer's refusal, in its words; `NotFound` if it has no such thing, or is no longer who it was.
fn refused(status: Status) -> io::Error {
    let kind = match status.code() {
        Code::NotFound | Code::FailedPrecondition => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, status.message().to_owned())
}
