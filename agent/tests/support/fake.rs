//! A cluster in one process: the rules of claims and appends, a model of what it was given, and faults on demand.

#![allow(dead_code, unreachable_pub, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::future::{Either, select};

use seawall_host::net::{self, Address, Server};
use seawall_host::task;
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent};
use seawall_proto::v1::append_response::{Outcome, Reason, Refused};
use seawall_proto::v1::ingest_server::{Ingest, IngestServer};
use seawall_proto::v1::{
    self, append_request, await_receipt_response, claim_response, get_cluster_time_response, get_head_response,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What goes wrong with the next part.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// The stream ends before the part is taken in.
    Disconnect,
    /// The part is taken in, and the stream ends before that is said.
    LoseAnswer,
    /// The part is refused.
    Refuse(Reason),
}

/// What all nodes agree on.
#[derive(Default)]
pub struct State {
    pub leader: usize,
    pub epoch: u64,
    pub agent_id: u64,
    pub head: v1::Head,
    pub pages: BTreeMap<u32, Vec<u8>>,
    /// The checksum after every transaction.
    pub history: BTreeMap<u64, u64>,
    pub commit_times: Vec<i64>,
    pub resyncs: u32,
    /// Pages carried by the last segment.
    pub last_pages: usize,
    pub bytes: usize,
    pub segments: u32,
    pub largest_part: usize,
    pub stream_of: Option<u64>,
    pub faults: Vec<Fault>,
    pub parts: u32,
    /// The cluster's time beyond this machine's wall clock, milliseconds.
    pub beyond_ms: i64,
    /// Ends streams that wait.
    cut: Arc<Notify>,
    streams: u64,
    open: Option<(u64, Vec<v1::SegmentPart>)>,
}

impl State {
    fn apply(&mut self, stream: u64, part: v1::SegmentPart) -> Result<(), (Reason, String)> {
        let adjacent = part.first == self.head.txid + 1 && part.checksum_before == self.head.checksum;
        if !adjacent {
            return Err((Reason::NotAdjacent, format!("{} does not continue {}", part.first, self.head.txid)));
        }
        self.largest_part = self.largest_part.max(part.payload.len());
        self.bytes += part.payload.len();
        self.parts += 1;
        let mut parts = match self.open.take() {
            Some((by, parts)) if by == stream && part.part > 0 => parts,
            _ => Vec::new(),
        };
        if parts.len() != part.part as usize {
            return Err((Reason::NotAdjacent, format!("part {} is not next", part.part)));
        }
        let last = part.is_last;
        parts.push(part);
        if !last {
            self.open = Some((stream, parts));
            return Ok(());
        }
        self.segment(&parts).map_err(|error| (Reason::Invalid, error))
    }

    fn segment(&mut self, parts: &[v1::SegmentPart]) -> Result<(), String> {
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        let mut decoder = SegmentDecoder::new();
        for part in parts {
            decoder.push(part.payload.clone());
        }
        let page_size = PageSize::new(first.page_size).map_err(|error| error.to_string())?;
        if first.page_size != self.head.page_size {
            self.pages.clear();
        }
        let (mut next, mut carried) = (Txid(first.first), 0);
        let mut open = Vec::new();
        loop {
            match decoder.next().map_err(|error| error.to_string())?.ok_or("the segment is cut off")? {
                SegmentEvent::Header(header) => {
                    assert_eq!((header.first.0, header.last.0), (first.first, first.last));
                    assert_eq!(header.checksum_before.0, first.checksum_before);
                    assert_eq!(header.page_size, page_size);
                }
                SegmentEvent::Page { page, bytes, .. } => open.push((page, bytes.to_vec())),
                SegmentEvent::Commit(transaction) => {
                    assert_eq!(transaction.txid, next);
                    next = next.next();
                    for (page, bytes) in open.drain(..) {
                        carried += 1;
                        self.pages.insert(page.0, bytes);
                    }
                    self.pages.retain(|page, _| *page <= transaction.page_count);
                    let sum = self
                        .pages
                        .iter()
                        .fold(Checksum::EMPTY, |sum, (page, bytes)| sum ^ Checksum::of_page(PageNumber(*page), bytes));
                    if sum != transaction.checksum_after {
                        return Err(format!("transaction {} gives {sum}", transaction.txid));
                    }
                    self.history.insert(transaction.txid.0, sum.0);
                    assert!(self.commit_times.last().is_none_or(|time| *time <= transaction.commit_time_ms));
                    self.commit_times.push(transaction.commit_time_ms);
                }
                SegmentEvent::End(summary) => {
                    assert_eq!(summary.checksum_after.0, last.checksum_after);
                    break;
                }
            }
        }
        assert_eq!(next.0, last.last + 1);
        self.resyncs += u32::from(last.resync);
        self.last_pages = carried;
        self.segments += 1;
        self.head = v1::Head {
            lineage: 1,
            txid: last.last,
            checksum: last.checksum_after,
            page_size: last.page_size,
            page_count: last.page_count,
            commit_time_ms: last.commit_time_ms,
            wal: last.wal.clone(),
        };
        Ok(())
    }

    pub fn cluster_time_ms(&self) -> i64 {
        UnixMillis::now().0 + self.beyond_ms
    }

    fn take_fault(&mut self) -> Fault {
        if self.faults.is_empty() { Fault::None } else { self.faults.remove(0) }
    }
}

/// Nodes that share a state; one of them leads.
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    pub addresses: Vec<Address>,
    servers: Vec<Server>,
}

impl Fake {
    pub async fn start(nodes: usize) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..nodes {
            let node = Node { number, state: Arc::clone(&state), nodes };
            let routes = Routes::new(IngestServer::new(node).max_decoding_message_size(4 << 20));
            let server = net::serve("127.0.0.1:0".parse().unwrap(), routes).await.unwrap();
            addresses.push(server.address().clone());
            servers.push(server);
        }
        Self { state, addresses, servers }
    }

    /// Another node leads from now on; streams end.
    pub fn lead(&self, node: usize) {
        self.with(|state| {
            state.leader = node;
            state.cut.notify_waiters();
        });
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }
}

struct Node {
    number: usize,
    nodes: usize,
    state: Arc<Mutex<State>>,
}

impl Node {
    fn leads(&self) -> bool {
        self.state.lock().unwrap().leader % self.nodes == self.number
    }
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Ingest for Node {
    type PageHashesStream = Answers<v1::PageHashesChunk>;
    type AppendStream = Answers<v1::AppendResponse>;

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        use claim_response::{Granted, Held, Outcome};
        let request = request.into_inner();
        let outcome = if self.leads() {
            let mut state = self.state.lock().unwrap();
            if state.stream_of.is_some_and(|agent| agent != request.agent_id) && !request.take_over {
                Outcome::Held(Held { agent_label: "somebody else".to_owned(), epoch: state.epoch })
            } else {
                state.epoch += 1;
                state.agent_id = request.agent_id;
                state.head.lineage = 1;
                state.open = None;
                let cluster_time_ms = state.cluster_time_ms();
                Outcome::Granted(Granted {
                    epoch: state.epoch,
                    head: Some(state.head.clone()),
                    cluster_time_ms,
                    nodes: Vec::new(),
                })
            }
        } else {
            Outcome::NotLeader(v1::NotLeader::default())
        };
        Ok(Response::new(v1::ClaimResponse { outcome: Some(outcome) }))
    }

    async fn page_hashes(
        &self,
        request: Request<v1::PageHashesRequest>,
    ) -> Result<Response<Self::PageHashesStream>, Status> {
        let state = self.state.lock().unwrap();
        assert_eq!(request.into_inner().txid, state.head.txid);
        let hash =
            |page| state.pages.get(&page).map_or(0, |bytes: &Vec<u8>| Checksum::of_page(PageNumber(page), bytes).0);
        let hashes: Vec<u64> = (1..=state.head.page_count).map(hash).collect();
        let (sender, receiver) = mpsc::channel(hashes.len() / 1000 + 1);
        for chunk in hashes.chunks(1000) {
            sender.try_send(Ok(v1::PageHashesChunk { hashes: chunk.to_vec() })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let mut inbound = request.into_inner();
        let (answers, receiver) = mpsc::channel(1024);
        let (state, number, nodes) = (Arc::clone(&self.state), self.number, self.nodes);
        task::spawn(async move {
            let refuse = |reason: Reason, message: &str| {
                let refused = Refused { reason: reason.into(), message: message.to_owned(), ..Refused::default() };
                Ok(v1::AppendResponse {
                    outcome: Some(Outcome::Refused(refused)),
                    cluster_time_ms: 0,
                    nodes: Vec::new(),
                })
            };
            let Some(Ok(v1::AppendRequest { message: Some(append_request::Message::Open(open)) })) =
                inbound.next().await
            else {
                return;
            };
            let stream = {
                let mut state = state.lock().unwrap();
                state.stream_of = Some(open.agent_id);
                state.streams += 1;
                state.streams
            };
            let cut = Arc::clone(&state.lock().unwrap().cut);
            loop {
                let message = match select(pin!(inbound.next()), pin!(cut.notified())).await {
                    Either::Left((message, _)) => message,
                    Either::Right(_) => break,
                };
                let Some(Ok(message)) = message else { break };
                let Some(append_request::Message::Part(part)) = message.message else { break };
                let answer = {
                    let mut state = state.lock().unwrap();
                    if state.leader % nodes != number {
                        Some(refuse(Reason::NotLeader, "another node leads"))
                    } else if open.epoch != state.epoch {
                        Some(refuse(Reason::Fenced, "a newer epoch was claimed"))
                    } else {
                        let fault = state.take_fault();
                        match fault {
                            Fault::Disconnect => None,
                            Fault::Refuse(reason) => Some(refuse(reason, "refused for the test")),
                            Fault::None | Fault::LoseAnswer => match state.apply(stream, part) {
                                Err((reason, message)) => Some(refuse(reason, &message)),
                                Ok(()) if matches!(fault, Fault::LoseAnswer) => None,
                                Ok(()) => {
                                    let outcome = Some(Outcome::Committed(state.head.txid));
                                    let cluster_time_ms = state.cluster_time_ms();
                                    Some(Ok(v1::AppendResponse { outcome, cluster_time_ms, nodes: Vec::new() }))
                                }
                            },
                        }
                    }
                };
                let Some(answer) = answer else { break };
                let ends = matches!(&answer, Ok(answer) if matches!(answer.outcome, Some(Outcome::Refused(_))));
                if answers.send(answer).await.is_err() || ends {
                    break;
                }
            }
            let mut state = state.lock().unwrap();
            if state.stream_of == Some(open.agent_id) {
                state.stream_of = None;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_head(&self, _request: Request<v1::GetHeadRequest>) -> Result<Response<v1::GetHeadResponse>, Status> {
        use get_head_response::{Found, Outcome};
        let outcome = if self.leads() {
            let state = self.state.lock().unwrap();
            let (head, cluster_time_ms) = (Some(state.head.clone()), state.cluster_time_ms());
            Outcome::Found(Found { head, epoch: state.epoch, log_index: 0, cluster_time_ms, nodes: Vec::new() })
        } else {
            Outcome::NotLeader(v1::NotLeader::default())
        };
        Ok(Response::new(v1::GetHeadResponse { outcome: Some(outcome) }))
    }

    async fn get_cluster_time(
        &self,
        _request: Request<v1::GetClusterTimeRequest>,
    ) -> Result<Response<v1::GetClusterTimeResponse>, Status> {
        use get_cluster_time_response::Outcome;
        let outcome = if self.leads() {
            Outcome::ClusterTimeMs(self.state.lock().unwrap().cluster_time_ms())
        } else {
            Outcome::NotLeader(v1::NotLeader::default())
        };
        Ok(Response::new(v1::GetClusterTimeResponse { outcome: Some(outcome), nodes: Vec::new() }))
    }

    async fn await_receipt(
        &self,
        request: Request<v1::AwaitReceiptRequest>,
    ) -> Result<Response<v1::AwaitReceiptResponse>, Status> {
        let request = request.into_inner();
        let destinations = BTreeMap::from([("backup".to_owned(), request.txid)]);
        let receipt = await_receipt_response::Receipt {
            reached: true,
            destinations: destinations.into_iter().collect(),
            errors: Default::default(),
        };
        let outcome = await_receipt_response::Outcome::Receipt(receipt);
        Ok(Response::new(v1::AwaitReceiptResponse { outcome: Some(outcome) }))
    }
}
