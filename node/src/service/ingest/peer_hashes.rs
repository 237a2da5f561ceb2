//! The page hashes of a head from another node, for a leader whose own image cannot give them.

use std::time::Duration;

use seawall_host::net::{Channel, ChannelOptions};
use seawall_host::probe::sometimes;
use seawall_host::time;
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;
use seawall_proto::v1::ingest_client::IngestClient;
use tonic::{Code, Status};

use super::Shared;
use super::head_vector::HeadVector;

/// How long another node may take to answer, and to go on: whoever appends waits meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Why no other node gave the hashes.
pub(super) struct NoHashes {
    /// Whether every one of them answered that its own copy is damaged, too.
    pub(super) is_lost_everywhere: bool,
    /// What they said.
    pub(super) cause: String,
}

impl Shared {
    /// The vector at `head` from the first other node that has it; it proves itself.
    pub(super) async fn vector_from_peers(
        &self,
        database: &DatabaseName,
        head: &v1::Head,
    ) -> Result<HeadVector, NoHashes> {
        let mut none = NoHashes { is_lost_everywhere: true, cause: String::new() };
        for member in self.replica.cluster().members.into_iter().filter(|member| !member.is_self) {
            let given = match hashes_from(&member.address, database, head).await {
                Ok(hashes) => HeadVector::new(head, hashes),
                Err(status) => {
                    none.is_lost_everywhere &= status.code() == Code::DataLoss;
                    Err(status.message().to_owned())
                }
            };
            match given {
                Ok(vector) => {
                    sometimes("page hashes of the head had from another node");
                    return Ok(vector);
                }
                Err(cause) => none.cause.push_str(&format!("; node {}: {cause}", member.id)),
            }
        }
        Err(none)
    }
}

async fn hashes_from(address: &str, database: &DatabaseName, head: &v1::Head) -> Result<Vec<u64>, Status> {
    let address = address.parse().map_err(|_| Status::internal(format!("{address} is no address")))?;
    let options = ChannelOptions { connect_timeout: ANSWER_LIMIT, ..ChannelOptions::default() };
    let mut client = IngestClient::new(Channel::new(&address, options)).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let late = |_: time::Elapsed| Status::deadline_exceeded("it does not answer");
    let request = v1::PageHashesRequest { database: database.to_string(), lineage: head.lineage, txid: head.txid };
    let answered = time::timeout(ANSWER_LIMIT, client.page_hashes(request)).await.map_err(late)?;
    let mut chunks = answered?.into_inner();
    let mut hashes = Vec::new();
    while let Some(chunk) = time::timeout(ANSWER_LIMIT, chunks.message()).await.map_err(late)?? {
        if hashes.len() + chunk.hashes.len() > head.page_count as usize {
            return Err(Status::internal(format!("it gives more hashes than the {} pages", head.page_count)));
        }
        hashes.extend(chunk.hashes);
    }
    Ok(hashes)
}
