//! Proving the bytes of one object.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use seawall_host::probe::mutant;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::segment::{SegmentDecoder, SegmentHeader, SegmentKind, SegmentSummary};

use crate::destination::ByteStream;

/// What an object has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// What its name says.
    pub(super) name: ObjectName,
    /// The checksum that it continues, where the position log knows it.
    pub(super) before: Option<Checksum>,
    /// The checksum after its last transaction, where the position log knows it.
    pub(super) after: Option<Checksum>,
}

/// Why bytes are not what was claimed, or not known to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproven {
    /// They could not be read, or not to their end.
    #[error(transparent)]
    Unread(#[from] io::Error),
    /// They are something else.
    #[error("{0}")]
    Damaged(String),
}

/// Reads `content` to its end and proves that it is what `claim` says. Gives its pieces back if they are at most
/// `kept_bytes`, else `None`: they have to be read again.
pub(super) async fn prove(
    mut content: ByteStream,
    claim: &Claim,
    kept_bytes: u64,
) -> Result<Option<Vec<Bytes>>, Unproven> {
    let mut decoder = SegmentDecoder::new();
    let mut kept = Some(Vec::new());
    let mut read = 0;
    while let Some(piece) = content.next().await {
        let piece = piece?;
        read += piece.len() as u64;
        if read > kept_bytes {
            kept = None;
        }
        if let Some(kept) = &mut kept {
            kept.push(piece.clone());
        }
        if !piece.is_empty() {
            decoder.push(piece);
        }
        while decoder.next().map_err(|error| Unproven::Damaged(error.to_string()))?.is_some() {}
    }
    let summary = decoder.finish().map_err(|error| Unproven::Damaged(error.to_string()))?;
    contradiction(&summary, claim).map_or(Ok(kept), |cause| Err(Unproven::Damaged(cause)))
}

/// As [`prove`], of what is to take another object's place.
pub(super) async fn prove_replacement(
    mut content: ByteStream,
    claim: &Claim,
    kept_bytes: u64,
) -> Result<Option<Vec<Bytes>>, Unproven> {
    if mutant("healing-from-a-damaged-source") {
        let mut kept = Vec::new();
        while let Some(piece) = content.next().await {
            kept.push(piece?);
        }
        return Ok(Some(kept));
    }
    prove(content, claim, kept_bytes).await
}

/// What in `summary` is not as claimed, in words.
fn contradiction(summary: &SegmentSummary, claim: &Claim) -> Option<String> {
    let SegmentHeader { lineage, first, last, kind, checksum_before, .. } = summary.header;
    let name = &claim.name;
    let found = ObjectName { lineage, level: name.level, first, last, checksum_after: summary.checksum_after };
    if found != *name {
        return Some(format!("it holds {found}"));
    }
    let fits = match name.level {
        Level::Log => kind != SegmentKind::Squashed,
        Level::One | Level::Two => kind == SegmentKind::Squashed,
        Level::Snapshot => summary.header.is_snapshot(),
    };
    if !fits {
        return Some(format!("its content is not of level {}", name.level));
    }
    let differs = |known: Option<Checksum>, has: Checksum| known.filter(|known| *known != has);
    if let Some(before) = differs(claim.before, checksum_before) {
        return Some(format!("it continues checksum {checksum_before}, the cluster has {before} there"));
    }
    let after = differs(claim.after, summary.checksum_after)?;
    Some(format!("it has checksum {} after txid {last}, the cluster has {after}", summary.checksum_after))
}
