//! Streaming the page hashes of a position.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageNumber, Txid};
use seawall_proto::v1;
use tonic::Status;

use super::receipt::invalid;
use super::{HASHES_AT_ONCE, Shared};
use crate::store::image::{Hold, ImageError};

/// How long to wait until the image is folded to the position.
const FOLD_WAIT: Duration = Duration::from_secs(30);
/// How long one stream may hold up folding.
const HOLD_LIMIT: Duration = Duration::from_secs(120);

impl Shared {
    pub(super) async fn page_hashes(
        &self,
        request: v1::PageHashesRequest,
    ) -> Result<BoxStream<'static, Result<v1::PageHashesChunk, Status>>, Status> {
        let database: DatabaseName = request.database.parse().map_err(|error| invalid(&error))?;
        let (lineage, txid) = (Lineage(request.lineage), Txid(request.txid));
        if txid == Txid::NONE {
            return Ok(stream::empty().boxed());
        }
        let hold = self.images.hold_from(&database, lineage, txid, HOLD_LIMIT, FOLD_WAIT).await;
        let hold = hold.map_err(|error| status(&error))?;
        let held = hold.manifest().position.txid;
        if held != txid {
            let message = format!("the image of {database}@{lineage} is at txid {held} already: read the head again");
            return Err(Status::failed_precondition(message));
        }
        Ok(chunks(hold).boxed())
    }
}

fn chunks(hold: Hold) -> impl futures::Stream<Item = Result<v1::PageHashesChunk, Status>> + Send {
    stream::try_unfold((hold, 1), |(hold, first)| async move {
        if first > hold.manifest().page_count {
            return Ok(None);
        }
        let hashes = hold.page_hashes(PageNumber(first), HASHES_AT_ONCE).await.map_err(|error| status(&error))?;
        if hashes.is_empty() {
            return Err(Status::internal("the image has fewer pages than it says"));
        }
        let next = first + hashes.len() as u32;
        Ok(Some((v1::PageHashesChunk { hashes }, (hold, next))))
    })
}

fn status(error: &ImageError) -> Status {
    match error {
        ImageError::Quarantined { .. } => Status::data_loss(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}
