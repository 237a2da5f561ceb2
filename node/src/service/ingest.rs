//! The service that agents call: claims, appends, page hashes, heads and receipts.

use std::sync::Arc;

use futures::stream::BoxStream;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Txid;
use seawall_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::replica::Replica;
use crate::service::admission::Admission;
use crate::store::image::ImageStore;

/// What the service asks of the fan-out.
pub trait Receipts: Send + Sync + 'static {
    /// The configured destinations, by name.
    fn destinations(&self) -> Vec<String>;
    /// Uploads everything up to `txid` to these destinations now, without waiting for the window to fill. Returns at
    /// once; the watermark shows when it is done.
    fn close_window(&self, database: &DatabaseName, txid: Txid, destinations: &[String]);
    /// Why a destination does not get on with a database at present, if it fails.
    fn last_error(&self, database: &DatabaseName, destination: &str) -> Option<String>;
}

/// Agents' service of a node.
pub struct IngestService {}

#[allow(unused_variables, clippy::unimplemented)]
impl IngestService {
    /// The service, ready to be added to a server's routes.
    #[expect(clippy::new_ret_no_self, reason = "what is served is tonic's wrapper")]
    pub fn new(
        replica: Replica,
        images: ImageStore,
        admission: Arc<Admission>,
        receipts: Arc<dyn Receipts>,
    ) -> v1::ingest_server::IngestServer<Self> {
        unimplemented!()
    }
}

#[tonic::async_trait]
#[allow(clippy::unimplemented)]
impl v1::ingest_server::Ingest for IngestService {
    async fn claim(&self, _: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        unimplemented!()
    }
    type PageHashesStream = BoxStream<'static, Result<v1::PageHashesChunk, Status>>;
    async fn page_hashes(&self, _: Request<v1::PageHashesRequest>) -> Result<Response<Self::PageHashesStream>, Status> {
        unimplemented!()
    }
    type AppendStream = BoxStream<'static, Result<v1::AppendResponse, Status>>;
    async fn append(&self, _: Request<Streaming<v1::AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        unimplemented!()
    }
    async fn get_head(&self, _: Request<v1::GetHeadRequest>) -> Result<Response<v1::GetHeadResponse>, Status> {
        unimplemented!()
    }
    async fn await_receipt(
        &self,
        _: Request<v1::AwaitReceiptRequest>,
    ) -> Result<Response<v1::AwaitReceiptResponse>, Status> {
        unimplemented!()
    }
}
