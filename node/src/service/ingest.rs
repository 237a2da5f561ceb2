//! The service that agents call: claims, appends, page hashes, heads and receipts.

mod append;
mod claim;
mod head_vector;
mod orphans;
mod page_hashes;
mod peer_hashes;
mod receipt;
mod streams;
#[cfg(test)]
mod tests;
mod times;
mod too_large;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use seawall_host::probe::sometimes;
use seawall_host::task::{self, OwnedTask};
use seawall_host::time::Instant;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Txid;
use seawall_proto::v1::{self, claim_response, get_head_response};
use seawall_proto::{MAX_MESSAGE_BYTES, v1::ingest_server::IngestServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::claim::{Holder, Situation};
use self::receipt::{invalid, not_leader};
use self::streams::Streams;
use self::too_large::TooLarge;
use crate::replica::{Applied, Leadership, ProposeError, Replica};
use crate::service::admission::Admission;
use crate::store::image::ImageStore;

/// Hashes in one message, and taken from an image in one turn.
const HASHES_AT_ONCE: usize = 8192;
/// How long a linearizable read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

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
pub struct IngestService {
    shared: Arc<Shared>,
    _tasks: [OwnedTask; 2],
}

struct Shared {
    replica: Replica,
    images: ImageStore,
    admission: Arc<Admission>,
    receipts: Arc<dyn Receipts>,
    streams: Arc<Streams>,
    tenure: Mutex<Tenure>,
    /// Transactions in parts that found no room.
    too_large: Mutex<BTreeMap<DatabaseName, TooLarge>>,
}

/// Since when this node leads, or does not.
#[derive(Clone, Debug)]
struct Tenure {
    term: u64,
    is_leader: bool,
    since: Instant,
}

impl IngestService {
    /// The service, ready to be added to a server's routes.
    pub fn new(
        replica: Replica,
        images: ImageStore,
        admission: Arc<Admission>,
        receipts: Arc<dyn Receipts>,
    ) -> IngestServer<Self> {
        let Leadership { term, is_leader, .. } = replica.leadership();
        let tenure = Mutex::new(Tenure { term, is_leader, since: Instant::now() });
        let streams = Arc::new(Streams::default());
        let shared =
            Arc::new(Shared { replica, images, admission, receipts, streams, tenure, too_large: Mutex::default() });
        let tasks = [
            task::spawn_owned(watch_leadership(Arc::clone(&shared))),
            task::spawn_owned(orphans::let_go(Arc::clone(&shared))),
        ];
        IngestServer::new(Self { shared, _tasks: tasks })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Ends streams of a term that is over.
async fn watch_leadership(shared: Arc<Shared>) {
    let mut seen = 0;
    loop {
        seen = shared.replica.changed(seen).await;
        shared.observe(&shared.replica.leadership());
    }
}

impl Shared {
    /// Notes who leads; answers for how long it has been so.
    fn observe(&self, leadership: &Leadership) -> Duration {
        let mut tenure = lock(&self.tenure);
        if (tenure.term, tenure.is_leader) != (leadership.term, leadership.is_leader) {
            *tenure = Tenure { term: leadership.term, is_leader: leadership.is_leader, since: Instant::now() };
            self.streams.wake_all();
        }
        tenure.since.elapsed()
    }

    async fn claim(&self, request: v1::ClaimRequest) -> Result<claim_response::Outcome, Status> {
        use claim_response::{Granted, Held, Outcome};
        let database: DatabaseName = request.database.parse().map_err(|error| invalid(&error))?;
        let leadership = self.replica.leadership();
        let leading_for = self.observe(&leadership);
        if !leadership.is_leader {
            return Ok(Outcome::NotLeader(not_leader(leadership.leader_address)));
        }
        self.wait_for_clocks().await?;
        let (streaming, granted) = self.streams.holder(&database);
        let recorded = self.replica.database(&database).filter(|view| view.epoch.0 > 0);
        let recorded = recorded.map(|it| Holder { agent_id: it.agent_id, label: it.agent_label, epoch: it.epoch });
        let situation = Situation {
            agent_id: request.agent_id,
            take_over: request.take_over,
            streaming,
            recorded,
            leading_for,
            granted_ago: granted.map(Instant::elapsed),
        };
        if let Some(holder) = claim::held_by(&situation) {
            sometimes("claim refused because another agent ships");
            return Ok(Outcome::Held(Held { agent_label: holder.label.clone(), epoch: holder.epoch.0 }));
        }
        let claim = v1::ClaimCommand {
            database: request.database,
            agent_id: request.agent_id,
            agent_label: request.agent_label,
        };
        let command = v1::Command { command: Some(v1::command::Command::Claim(claim)) };
        match self.replica.propose(command, Bytes::new()).await {
            Ok(Applied::Claimed { epoch, head }) => {
                self.streams.granted(&database, epoch);
                let cluster_time_ms = self.time_ms();
                let nodes = self.replica.member_addresses();
                Ok(Outcome::Granted(Granted { epoch: epoch.0, head: Some(head), cluster_time_ms, nodes }))
            }
            Ok(Applied::Refused { message, .. }) => Err(Status::failed_precondition(message)),
            Ok(applied) => Err(Status::internal(format!("a claim was answered with {applied:?}"))),
            Err(ProposeError::NotLeader { leader_address }) => Ok(Outcome::NotLeader(not_leader(leader_address))),
            Err(error @ ProposeError::Unknown(_)) => Err(Status::unavailable(format!("{error}; claim again"))),
        }
    }

    async fn get_head(&self, request: v1::GetHeadRequest) -> Result<get_head_response::Outcome, Status> {
        use get_head_response::{Found, Outcome};
        let database: DatabaseName = request.database.parse().map_err(|error| invalid(&error))?;
        let mut log_index = 0;
        if !request.allow_stale {
            let leadership = self.replica.leadership();
            if !leadership.is_leader {
                return Ok(Outcome::NotLeader(not_leader(leadership.leader_address)));
            }
            log_index = match self.replica.read_index(READ_TIMEOUT).await {
                Ok(index) => index,
                Err(ProposeError::NotLeader { leader_address }) => {
                    return Ok(Outcome::NotLeader(not_leader(leader_address)));
                }
                Err(error) => return Err(Status::unavailable(error.to_string())),
            };
            if !self.replica.wait_applied(log_index, READ_TIMEOUT).await {
                return Err(Status::unavailable(format!("log index {log_index} is not applied yet; try again")));
            }
        }
        Ok(match self.replica.database(&database) {
            Some(view) => {
                let (head, cluster_time_ms) = (Some(view.head), self.time_ms());
                let nodes = self.replica.member_addresses();
                Outcome::Found(Found { head, epoch: view.epoch.0, log_index, cluster_time_ms, nodes })
            }
            None => Outcome::Absent(true),
        })
    }
}

#[tonic::async_trait]
impl v1::ingest_server::Ingest for IngestService {
    type PageHashesStream = BoxStream<'static, Result<v1::PageHashesChunk, Status>>;
    type AppendStream = BoxStream<'static, Result<v1::AppendResponse, Status>>;

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        let outcome = self.shared.claim(request.into_inner()).await?;
        Ok(Response::new(v1::ClaimResponse { outcome: Some(outcome) }))
    }

    async fn page_hashes(
        &self,
        request: Request<v1::PageHashesRequest>,
    ) -> Result<Response<Self::PageHashesStream>, Status> {
        Ok(Response::new(self.shared.page_hashes(request.into_inner()).await?))
    }

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let answers = append::serve(Arc::clone(&self.shared), request.into_inner());
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }

    async fn get_head(&self, request: Request<v1::GetHeadRequest>) -> Result<Response<v1::GetHeadResponse>, Status> {
        let outcome = self.shared.get_head(request.into_inner()).await?;
        Ok(Response::new(v1::GetHeadResponse { outcome: Some(outcome) }))
    }

    async fn await_receipt(
        &self,
        request: Request<v1::AwaitReceiptRequest>,
    ) -> Result<Response<v1::AwaitReceiptResponse>, Status> {
        let outcome = self.shared.await_receipt(request.into_inner()).await?;
        Ok(Response::new(v1::AwaitReceiptResponse { outcome: Some(outcome) }))
    }

    async fn get_cluster_time(
        &self,
        _request: Request<v1::GetClusterTimeRequest>,
    ) -> Result<Response<v1::GetClusterTimeResponse>, Status> {
        let outcome = self.shared.get_cluster_time()?;
        let nodes = self.shared.replica.member_addresses();
        Ok(Response::new(v1::GetClusterTimeResponse { outcome: Some(outcome), nodes }))
    }
}

/// What a mutex guards is whole between any two of our statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
