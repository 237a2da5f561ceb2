//! The way to the leader, over the nodes that were named and whoever they name.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time::Instant;
use seawall_host::{random, time};
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::v1::{self, change_membership_response, get_membership_response};
use tonic::{Code, Status};

use crate::commands::cluster_call::ClusterArgs;
use crate::commands::error::CommandError;

/// How long one call may take: a step is agreed on in that time.
const CALL_LIMIT: Duration = Duration::from_secs(40);
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Between attempts to find the leader.
const PAUSE: Duration = Duration::from_millis(500);

/// What a call to one node gave.
enum Reply<T> {
    Answer(T),
    Elsewhere(v1::NotLeader),
}

/// Where the leader may be.
pub(super) struct Way {
    addresses: Vec<Address>,
    leader: Option<Address>,
    channels: BTreeMap<Address, Channel>,
}

impl Way {
    /// To the cluster that was named.
    pub(super) fn to(cluster: &ClusterArgs) -> Self {
        Self { addresses: cluster.cluster.clone(), leader: None, channels: BTreeMap::new() }
    }

    /// Takes one step towards a goal. An error says in words why no leader answered.
    ///
    /// # Errors
    /// [`CommandError`] if asking again is of no use.
    pub(super) async fn change(
        &mut self,
        request: &v1::ChangeMembershipRequest,
    ) -> Result<Result<v1::ChangeMembershipResponse, String>, CommandError> {
        let asked = self.ask_leader(|mut client| {
            let request = request.clone();
            Box::pin(async move {
                let answer = client.change_membership(request).await?.into_inner();
                Ok(match answer.outcome {
                    Some(change_membership_response::Outcome::NotLeader(hint)) => Reply::Elsewhere(hint),
                    _ => Reply::Answer(answer),
                })
            })
        });
        let answer = asked.await?;
        if let Ok(answer) = &answer {
            let new = answer.nodes.iter().filter_map(|node| node.parse::<Address>().ok());
            let new: Vec<Address> = new.filter(|node| !self.addresses.contains(node)).collect();
            self.addresses.extend(new);
        }
        Ok(answer)
    }

    /// Who is a member and holds what.
    ///
    /// # Errors
    /// No leader answered by `deadline`.
    pub(super) async fn membership(&mut self, deadline: Instant) -> Result<v1::MembershipReport, CommandError> {
        loop {
            let asked = self.ask_leader(|mut client| {
                Box::pin(async move {
                    match client.get_membership(v1::GetMembershipRequest {}).await?.into_inner().outcome {
                        Some(get_membership_response::Outcome::Report(report)) => Ok(Reply::Answer(report)),
                        Some(get_membership_response::Outcome::NotLeader(hint)) => Ok(Reply::Elsewhere(hint)),
                        None => Err(Status::internal("an empty answer")),
                    }
                })
            });
            match asked.await? {
                Ok(report) => return Ok(report),
                Err(cause) if Instant::now() >= deadline => {
                    return Err(CommandError::failure(format!("no leader answers ({cause})")));
                }
                Err(_) => time::sleep(random::jitter(PAUSE)).await,
            }
        }
    }

    async fn ask_leader<T>(
        &mut self,
        call: impl Fn(ClusterClient<Channel>) -> BoxFuture<'static, Result<Reply<T>, Status>>,
    ) -> Result<Result<T, String>, CommandError> {
        let mut queue: Vec<Address> = self.addresses.iter().rev().cloned().collect();
        queue.extend(self.leader.take());
        let mut tried = BTreeMap::new();
        while let Some(address) = queue.pop() {
            if tried.contains_key(&address) {
                continue;
            }
            let channel = self.channels.entry(address.clone()).or_insert_with(|| {
                Channel::new(&address, ChannelOptions { connect_timeout: CONNECT_LIMIT, ..ChannelOptions::default() })
            });
            let client = ClusterClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let said = match time::timeout(CALL_LIMIT, call(client)).await {
                Ok(Ok(Reply::Answer(answer))) => {
                    self.leader = Some(address);
                    return Ok(Ok(answer));
                }
                Ok(Ok(Reply::Elsewhere(hint))) => {
                    queue.extend(hint.leader_address.parse::<Address>());
                    "does not lead".to_owned()
                }
                Ok(Err(status)) if status.code() == Code::InvalidArgument => {
                    return Err(CommandError::usage(status.message()));
                }
                Ok(Err(status)) if status.code() == Code::Unimplemented => {
                    let message = format!("{address} runs a version that cannot do this: upgrade every node first");
                    return Err(CommandError::failure(message));
                }
                Ok(Err(status)) => status.message().to_owned(),
                Err(_elapsed) => "does not answer".to_owned(),
            };
            tried.insert(address, said);
        }
        let tried: Vec<String> = tried.iter().map(|(address, said)| format!("{address}: {said}")).collect();
        Ok(Err(tried.join("; ")))
    }
}
