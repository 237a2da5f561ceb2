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

#[cfg(test)]
mod tests {
    use futures::stream;
    use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
    use seawall_proto::segment::SegmentEncoder;

    use super::*;

    /// The object of two transactions on the empty database.
    fn object(kind: SegmentKind, level: Level) -> (Claim, Vec<u8>) {
        let (first, last) = (Txid(1), Txid(2));
        let page_size = PageSize::new(512).unwrap();
        let checksum_before = Checksum::EMPTY;
        let header = SegmentHeader { page_size, lineage: Lineage(1), first, last, checksum_before, kind };
        let mut encoder = SegmentEncoder::new(header);
        let (old, new) = ([1; 512], [2; 512]);
        let after = |page: &[u8]| Checksum::of_page(PageNumber(1), page);
        if kind != SegmentKind::Squashed {
            encoder.page(PageNumber(1), &old).unwrap();
            encoder.commit(1, 5, after(&old)).unwrap();
        }
        encoder.page(PageNumber(1), &new).unwrap();
        encoder.commit(1, 6, after(&new)).unwrap();
        let name = ObjectName { lineage: Lineage(1), level, first, last, checksum_after: after(&new) };
        let claim = Claim { name, before: Some(checksum_before), after: Some(after(&new)) };
        (claim, encoder.finish().unwrap().0.concat())
    }

    async fn proven(content: &[u8], claim: &Claim, kept_bytes: u64) -> Result<Option<Vec<Bytes>>, Unproven> {
        let pieces: Vec<io::Result<Bytes>> =
            content.chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        prove(stream::iter(pieces).boxed(), claim, kept_bytes).await
    }

    #[tokio::test]
    async fn what_is_whole_is_given_back_unless_it_is_too_large_to_be_kept() {
        let (claim, content) = object(SegmentKind::Log, Level::Log);
        let kept = proven(&content, &claim, content.len() as u64).await.unwrap().unwrap();
        assert_eq!(kept.concat(), content);
        assert!(proven(&content, &claim, content.len() as u64 - 1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_turned_bit_and_every_cut_is_found() {
        let (claim, content) = object(SegmentKind::Log, Level::Log);
        for byte in 0..content.len() {
            let mut damaged = content.clone();
            damaged[byte] ^= 0x10;
            assert!(matches!(proven(&damaged, &claim, 0).await, Err(Unproven::Damaged(_))), "{byte}");
            assert!(matches!(proven(&content[..byte], &claim, 0).await, Err(Unproven::Damaged(_))), "{byte}");
        }
    }

    #[tokio::test]
    async fn a_read_that_fails_says_nothing_of_the_object() {
        let (claim, content) = object(SegmentKind::Log, Level::Log);
        let cut = [Ok(Bytes::copy_from_slice(&content[..50])), Err(io::Error::other("connection reset"))];
        let found = prove(stream::iter(cut).boxed(), &claim, 0).await;
        assert!(matches!(found, Err(Unproven::Unread(_))));
    }

    #[tokio::test]
    async fn whole_content_under_another_name_or_of_another_history_is_found() {
        let (claim, content) = object(SegmentKind::Log, Level::Log);
        let name = claim.name;
        let claims = [
            Claim { name: ObjectName { first: Txid(2), ..name }, ..claim },
            Claim { name: ObjectName { checksum_after: Checksum(1), ..name }, ..claim },
            Claim { name: ObjectName { level: Level::One, ..name }, ..claim },
            Claim { name: ObjectName { level: Level::Snapshot, ..name }, ..claim },
            Claim { before: Some(Checksum(3)), ..claim },
            Claim { after: Some(Checksum(4)), ..claim },
        ];
        for claim in claims {
            assert!(matches!(proven(&content, &claim, 0).await, Err(Unproven::Damaged(_))), "{claim:?}");
        }
        let (snapshot, content) = object(SegmentKind::Squashed, Level::Snapshot);
        assert!(proven(&content, &snapshot, 0).await.is_ok());
        let as_log = Claim { name: ObjectName { level: Level::Log, ..snapshot.name }, ..snapshot };
        assert!(matches!(proven(&content, &as_log, 0).await, Err(Unproven::Damaged(_))));
    }
}
