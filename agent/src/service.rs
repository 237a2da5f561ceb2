//! What an agent answers on its unix socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use seawall_host::net::{self, Address, Server};
use seawall_host::time;
use seawall_proto::v1::agent_server::{self, AgentServer};
use seawall_proto::v1::{SyncRequest, SyncResponse};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{DatabaseHandle, SyncError};

/// How long a sync may take if the caller does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

struct Service {
    databases: Vec<DatabaseHandle>,
}

/// Answers at `path` until the server is dropped.
pub(crate) async fn serve(path: PathBuf, databases: Vec<DatabaseHandle>) -> io::Result<Server> {
    net::serve(Address::Unix(path), Routes::new(AgentServer::new(Service { databases }))).await
}

#[tonic::async_trait]
impl agent_server::Agent for Service {
    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let request = request.into_inner();
        let database =
            self.databases.iter().find(|database| database.name().as_str() == request.database).ok_or_else(|| {
                let names: Vec<&str> = self.databases.iter().map(|database| database.name().as_str()).collect();
                Status::not_found(format!("this agent ships no `{}`, only: {}", request.database, names.join(", ")))
            })?;
        let timeout = match request.timeout_ms {
            0 => DEFAULT_TIMEOUT,
            milliseconds => Duration::from_millis(u64::from(milliseconds)),
        };
        let deadline = time::Instant::now() + timeout;
        let receipt = match time::timeout_at(deadline, database.sync()).await {
            Ok(Ok(receipt)) => {
                let left = deadline - time::Instant::now();
                match request.receipt.as_str() {
                    "" | "quorum" => Ok(Ok(receipt)),
                    "all" => Ok(database.await_receipt(receipt, &[], left).await),
                    destination => Ok(database.await_receipt(receipt, &[destination.to_owned()], left).await),
                }
            }
            other => other,
        };
        let receipt = match receipt {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(error @ SyncError::Fenced)) => return Err(Status::failed_precondition(error.to_string())),
            // Not `unavailable`: that is what a caller sees of an agent that cannot be reached.
            Ok(Err(error)) => return Err(Status::aborted(error.to_string())),
            Err(time::Elapsed) => {
                let status = database.status();
                let cause = status.last_error.map_or(String::new(), |error| format!(": {error}"));
                let message = format!(
                    "`{}` is not acknowledged after {timeout:?} (shipped {}, acknowledged {}){cause}",
                    database.name(),
                    status.shipped,
                    status.head.txid
                );
                return Err(Status::deadline_exceeded(message));
            }
        };
        Ok(Response::new(SyncResponse {
            database: request.database,
            lineage: receipt.position.lineage.0,
            epoch: receipt.epoch.0,
            txid: receipt.position.txid.0,
            checksum: receipt.position.checksum.0,
            quorum: receipt.position.txid.0,
            destinations: receipt.destinations.into_iter().map(|(name, txid)| (name, txid.0)).collect(),
        }))
    }
}
