//! Proposals, in the order in which they were made.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use prost::Message;
use seawall_host::task::{self, OwnedTask};
use seawall_proto::{MAX_PART_BYTES, v1};
use tokio::sync::{mpsc, oneshot};

use super::Raft;
use super::types::{Payload, Request, TypeConfig};
use crate::replica::{Applied, ProposeError};

/// The largest command, without its payload: what the log file refuses would end consensus on every leader in turn.
const MAX_COMMAND_BYTES: usize = 512 << 10;

/// Called with the answer; dropped without one where the outcome stays unknown.
type Answer = oneshot::Sender<ClientWriteResult<TypeConfig>>;

/// Hands proposals to consensus one after the other. What may wait here is bounded by admission, in bytes.
pub(super) struct Proposer {
    queue: mpsc::UnboundedSender<(Request, Answer)>,
    _task: OwnedTask,
}

impl Proposer {
    pub(super) fn start(raft: Raft) -> Self {
        let (queue, mut proposals) = mpsc::unbounded_channel::<(Request, Answer)>();
        let handing_over = async move {
            while let Some((request, answer)) = proposals.recv().await {
                let (responder, result) = ProgressResponder::complete_only();
                if raft.client_write_ff(request, Some(responder)).await.is_err() {
                    return;
                }
                task::spawn(async move {
                    if let Ok(result) = result.await {
                        let _ = answer.send(result);
                    }
                });
            }
        };
        Self { queue, _task: task::spawn_owned(handing_over) }
    }

    /// Proposes; the order is that of the calls, not of the awaits.
    pub(super) fn propose(
        &self,
        command: v1::Command,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Applied, ProposeError>> {
        let (len, payload_len) = (command.encoded_len(), payload.len());
        if len > MAX_COMMAND_BYTES || payload_len > MAX_PART_BYTES {
            let cause = format!("a command of {len} bytes with {payload_len} more is too large and was not proposed");
            return futures::future::ready(Err(ProposeError::Unknown(cause))).boxed();
        }
        let payload = if payload.is_empty() { Payload::Empty } else { Payload::Bytes(payload) };
        let (answer, result) = oneshot::channel();
        let stopped = || ProposeError::Unknown("consensus has stopped on this node".to_owned());
        if self.queue.send((Request { command, payload }, answer)).is_err() {
            return futures::future::ready(Err(stopped())).boxed();
        }
        async move {
            match result.await {
                Ok(Ok(written)) => Ok(written.data.0.unwrap_or(Applied::Done)),
                Ok(Err(ClientWriteError::ForwardToLeader(leader))) => {
                    Err(ProposeError::NotLeader { leader_address: leader.leader_node.map(|node| node.address) })
                }
                Ok(Err(error)) => Err(ProposeError::Unknown(error.to_string())),
                Err(_dropped) => Err(stopped()),
            }
        }
        .boxed()
    }
}
