//! Segments built from an image.

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use seawall_host::probe::mutant;
use seawall_host::task;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, Position, Txid};
use seawall_proto::segment::{EncodeError, SegmentEncoder, SegmentHeader, SegmentKind};

use super::ImageError;
use super::hold::{Batch, Hold};

/// The bytes of an encoded segment, one behind the other.
pub type SegmentStream = BoxStream<'static, Result<Bytes, ImageError>>;

struct Walk {
    hold: Hold,
    encoder: SegmentEncoder,
    next: Option<PageNumber>,
    after: Position,
}

/// The pages that changed after `after` as one squashed segment.
pub(super) fn stream(hold: Hold, after: Position) -> SegmentStream {
    let manifest = hold.manifest();
    let header = SegmentHeader {
        page_size: manifest.page_size,
        lineage: manifest.position.lineage,
        first: after.txid.next(),
        last: manifest.position.txid,
        checksum_before: after.checksum,
        kind: SegmentKind::Squashed,
    };
    if after.lineage != manifest.position.lineage || after.txid >= manifest.position.txid {
        let error = hold.segment_error(format!("{after} is not before {}", manifest.position));
        return stream::iter([Err(error)]).boxed();
    }
    let next = (manifest.page_count > 0).then_some(PageNumber(1));
    let walk = Walk { hold, encoder: SegmentEncoder::new(header), next, after };
    stream::try_unfold(Some(walk), |walk| async move {
        match walk {
            Some(walk) => walk.step().await.map(Some),
            None => Ok(None),
        }
    })
    .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
    .try_flatten()
    .boxed()
}

enum Encoded {
    Pages(Box<SegmentEncoder>, Vec<Bytes>),
    Damaged(PageNumber),
}

impl Walk {
    async fn step(mut self) -> Result<(Vec<Bytes>, Option<Self>), ImageError> {
        let Some(from) = self.next else {
            let manifest = self.hold.manifest();
            let mut encoder = self.encoder;
            let beyond = u32::from(mutant("merged-keeps-a-page-beyond-the-size") && self.after.txid > Txid::NONE);
            let end = encoder
                .commit(manifest.page_count + beyond, manifest.commit_time_ms, manifest.position.checksum)
                .and_then(|()| encoder.finish());
            let (pieces, _) = end.map_err(|error| self.hold.segment_error(error))?;
            return Ok((pieces, None));
        };
        let skipped = u64::from(mutant("merged-from-the-wrong-state") && self.after.txid > Txid::NONE);
        let after = Txid(self.after.txid.0 + skipped);
        let Batch { pages, next } = self.hold.read_batch(from, after).await?;
        let encoder = self.encoder;
        let encoded = task::blocking(move || encode(encoder, pages)).await;
        let encoded = encoded.map_err(|error| self.hold.segment_error(error))?;
        match encoded.map_err(|error| self.hold.segment_error(error))? {
            Encoded::Damaged(page) => Err(self.hold.report_damage(page).await),
            Encoded::Pages(encoder, pieces) => {
                self.encoder = *encoder;
                self.next = next;
                Ok((pieces, Some(self)))
            }
        }
    }
}

fn encode(mut encoder: SegmentEncoder, pages: Vec<(PageNumber, Checksum, Bytes)>) -> Result<Encoded, EncodeError> {
    for (page, hash, bytes) in pages {
        if Checksum::of_page(page, &bytes) != hash {
            return Ok(Encoded::Damaged(page));
        }
        encoder.page(page, &bytes)?;
    }
    let pieces = encoder.take();
    Ok(Encoded::Pages(Box::new(encoder), pieces))
}
