//! One agent's append stream: verify, let in, propose in order, answer in order.

mod admit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt, StreamExt};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::{self, Instant};
use seawall_host::{random, task};
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Lineage, PageNumber, Position, Txid};
use seawall_proto::segment::SegmentDecoder;
use seawall_proto::v1::{self, append_response as answer};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::claim::Holder;
use super::head_vector::{HeadVector, VerifyError};
use super::peer_hashes::NoHashes;
use super::streams::Registration;
use super::{HASHES_AT_ONCE, Shared};
use crate::replica::{Applied, ProposeError, SegmentRecord};
use crate::service::admission::Admitted;
use crate::store::image::{Hold, ImageError, ImageManifest};

/// Parts that are proposed and not answered yet, by count; by bytes the node's admission bounds them.
const PIPELINE: usize = 1024;
/// Without a part for this long a stream gives its memory back.
const IDLE: Duration = Duration::from_secs(60);
/// Parts above this size are verified where they hold up no other task.
const INLINE_BYTES: usize = 4 << 10;
/// How long the first message may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the image before looking whether the stream may still go on.
const IMAGE_WAIT: Duration = Duration::from_secs(1);
/// How often an image that is behind is looked at before another node is asked.
const OWN_TRIES: u32 = 3;
/// How long collecting the hashes may hold up folding.
const HASHES_HOLD: Duration = Duration::from_secs(30);

pub(super) type Answers = mpsc::Receiver<Result<v1::AppendResponse, Status>>;

/// What is answered in the order of the parts.
enum Pending {
    Proposed { outcome: BoxFuture<'static, Result<Applied, ProposeError>>, since: Instant, _admitted: Admitted },
    Refused(Refusal),
}

enum Event {
    Message(Option<v1::append_request::Message>),
    /// The stream has to be looked at.
    Changed,
    Idle,
    Ended,
}

/// What this node's own image and log give of the page hashes at the head.
enum Own {
    Vector(Box<HeadVector>),
    /// It is not there yet.
    Behind,
    /// They are damaged, or the disk is: why.
    Unusable(String),
}

/// A stream whose first message was accepted.
struct AppendStream {
    shared: Arc<Shared>,
    database: DatabaseName,
    lineage: Lineage,
    epoch: Epoch,
    term: u64,
    /// Random: tells its parts from those of any other stream.
    id: u64,
    registration: Registration,
    vector: Option<HeadVector>,
    /// Bytes of the transaction in parts that is arriving.
    arrived: u64,
    /// Its stamps are far ahead, and that was said.
    stamps_told: bool,
}

/// Serves one stream; ends when it does.
pub(super) fn serve(shared: Arc<Shared>, inbound: Streaming<v1::AppendRequest>) -> Answers {
    let (answers, receiver) = mpsc::channel(PIPELINE);
    task::spawn(run(shared, inbound, answers));
    receiver
}

async fn run(
    shared: Arc<Shared>,
    mut inbound: Streaming<v1::AppendRequest>,
    answers: mpsc::Sender<Result<v1::AppendResponse, Status>>,
) {
    let (queue, pending) = mpsc::channel(PIPELINE);
    let answering = task::spawn(answer_all(Arc::clone(&shared), pending, answers));
    let opened = match time::timeout(OPEN_TIMEOUT, inbound.next()).await {
        Ok(Some(Ok(v1::AppendRequest { message: Some(v1::append_request::Message::Open(open)) }))) => {
            open_stream(shared, open)
        }
        Ok(Some(Ok(_))) => Err(refusal(answer::Reason::Invalid, "the first message of a stream is `open`")),
        Err(time::Elapsed) => Err(refusal(answer::Reason::Invalid, "the stream was not opened in time")),
        Ok(Some(Err(_)) | None) => return,
    };
    match opened {
        Err(refused) => _ = queue.send(Pending::Refused(refused)).await,
        Ok(stream) => {
            // Proposals of the stream before are waited for, so that the head stands still.
            let turn = Arc::clone(&stream.registration.turn);
            let _turn = turn.lock().await;
            if let Err(refused) = stream.run(&mut inbound, &queue).await {
                let _ = queue.send(Pending::Refused(refused)).await;
            }
            drop(queue);
            let _ = answering.await;
        }
    }
}

/// Why a stream ends.
struct Refusal(Box<answer::Refused>);

impl Refusal {
    fn with_head(mut self, head: Option<v1::Head>) -> Self {
        self.0.head = head;
        self
    }

    fn with_leader(mut self, address: Option<String>) -> Self {
        self.0.leader_address = address.unwrap_or_default();
        self
    }
}

fn refusal(reason: answer::Reason, message: impl ToString) -> Refusal {
    let message = message.to_string();
    Refusal(Box::new(answer::Refused { reason: reason.into(), message, head: None, leader_address: String::new() }))
}

fn open_stream(shared: Arc<Shared>, open: v1::AppendOpen) -> Result<AppendStream, Refusal> {
    use answer::Reason::{Fenced, Invalid, NotAdjacent, NotLeader};
    let database: DatabaseName = open.database.parse().map_err(|error| refusal(Invalid, error))?;
    let leadership = shared.replica.leadership();
    if !leadership.is_leader {
        return Err(refusal(NotLeader, "another node leads").with_leader(leadership.leader_address));
    }
    let Some(view) = shared.replica.database(&database) else {
        return Err(refusal(Invalid, format!("there is no database `{database}`: claim it first")));
    };
    let (lineage, epoch) = (Lineage(open.lineage), Epoch(open.epoch));
    let refused = |reason, message: String| refusal(reason, message).with_head(Some(view.head.clone()));
    if epoch > view.epoch {
        return Err(refused(Invalid, format!("epoch {epoch} was never granted; the newest is {}", view.epoch)));
    }
    if epoch < view.epoch || open.agent_id != view.agent_id {
        sometimes("stream of an older epoch refused");
        return Err(refused(Fenced, format!("`{}` claimed `{database}` with epoch {}", view.agent_label, view.epoch)));
    }
    if lineage.0 != view.head.lineage {
        return Err(refused(NotAdjacent, format!("the database is at lineage {}, not {lineage}", view.head.lineage)));
    }
    let holder = Holder { agent_id: open.agent_id, label: view.agent_label.clone(), epoch };
    let id = random::u64();
    let registration = shared.streams.register(&database, holder, id);
    let registration = registration.ok_or_else(|| refused(Fenced, "a newer epoch streams".to_owned()))?;
    let term = leadership.term;
    let (vector, arrived, stamps_told) = (None, 0, false);
    Ok(AppendStream { shared, database, lineage, epoch, term, id, registration, vector, arrived, stamps_told })
}

impl AppendStream {
    /// Until the agent ends the stream, or with the reason why it may not go on.
    async fn run(
        mut self,
        inbound: &mut Streaming<v1::AppendRequest>,
        queue: &mpsc::Sender<Pending>,
    ) -> Result<(), Refusal> {
        loop {
            self.check()?;
            let part = match self.next(inbound, queue).await {
                Event::Message(Some(v1::append_request::Message::Part(part))) => part,
                Event::Message(_) => return Err(refusal(answer::Reason::Invalid, "only parts follow `open`")),
                Event::Changed => continue,
                Event::Idle => {
                    self.vector = self.vector.take().filter(HeadVector::is_within_segment);
                    continue;
                }
                Event::Ended => return Ok(()),
            };
            let pending = self.propose(part).await?;
            if queue.send(pending).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn next(&self, inbound: &mut Streaming<v1::AppendRequest>, queue: &mpsc::Sender<Pending>) -> Event {
        let closed = std::pin::pin!(queue.closed());
        let changed = std::pin::pin!(self.registration.changed());
        let idle = std::pin::pin!(time::sleep(IDLE));
        match select(select(closed, changed), select(inbound.next(), idle)).await {
            Either::Left((Either::Left(_), _)) => Event::Ended,
            Either::Left((Either::Right(_), _)) => Event::Changed,
            Either::Right((Either::Right(_), _)) => Event::Idle,
            Either::Right((Either::Left((Some(Ok(request)), _)), _)) => Event::Message(request.message),
            // A broken connection is an end too; what was proposed is answered in vain.
            Either::Right((Either::Left((None | Some(Err(_)), _)), _)) => Event::Ended,
        }
    }

    /// Whether the stream may go on.
    fn check(&self) -> Result<(), Refusal> {
        let leadership = self.shared.replica.leadership();
        if !leadership.is_leader || leadership.term != self.term {
            let refused = refusal(answer::Reason::NotLeader, "another term began");
            return Err(refused.with_leader(leadership.leader_address));
        }
        if !self.registration.is_displaced() {
            return Ok(());
        }
        let view = self.shared.replica.database(&self.database);
        let (epoch, head) = view.map_or((self.epoch, None), |view| (view.epoch, Some(view.head)));
        let refused = if epoch > self.epoch {
            sometimes("stream ended by a newer claim");
            refusal(answer::Reason::Fenced, format!("epoch {epoch} was claimed"))
        } else {
            refusal(answer::Reason::Unknown, "the agent opened another stream")
        };
        Err(refused.with_head(head))
    }

    async fn propose(&mut self, mut part: v1::SegmentPart) -> Result<Pending, Refusal> {
        let since = Instant::now();
        while mutant("append-waits-for-destinations") && self.is_an_upload_failing() {
            time::sleep(Duration::from_millis(100)).await;
        }
        let admitted = self.admit(&part).await?;
        let mut vector = match self.vector.take() {
            Some(vector) => vector,
            None => self.collect_vector().await?,
        };
        let payload_len = part.payload.len();
        let verified = if payload_len > INLINE_BYTES {
            let job = move || {
                let verified = vector.verify(&part);
                (vector, part, verified)
            };
            let done = task::blocking(job).await;
            let verified;
            (vector, part, verified) = done.map_err(|error| self.refused(answer::Reason::Unknown, error))?;
            verified
        } else {
            vector.verify(&part)
        };
        if let Err(error) = verified {
            let reason = match error {
                VerifyError::NotAdjacent { .. } => {
                    sometimes("append that does not continue the head refused");
                    answer::Reason::NotAdjacent
                }
                VerifyError::Invalid(_) => {
                    tracing::error!(database = %self.database, %error, "a segment is refused");
                    answer::Reason::Invalid
                }
            };
            return Err(self.refused(reason, error));
        }
        self.vector = Some(vector);
        // Verifying took its time.
        self.check()?;
        self.shared.look_at_stamp(&part, self.database.as_str(), &mut self.stamps_told);
        let payload: Bytes = std::mem::take(&mut part.payload);
        let reached = part.is_last.then(|| v1::Head { txid: part.last, ..v1::Head::default() });
        let append = v1::AppendCommand {
            database: self.database.to_string(),
            lineage: self.lineage.0,
            epoch: self.epoch.0,
            part: Some(part),
            payload_len: payload_len as u32,
            stream: self.id,
        };
        let command = v1::Command { command: Some(v1::command::Command::Append(append)) };
        let mut outcome = self.shared.replica.propose(command, payload);
        if mutant("node-acknowledges-before-quorum") {
            task::spawn(outcome);
            outcome = futures::future::ready(Ok(Applied::Appended { head: reached.unwrap_or_default() })).boxed();
        }
        Ok(Pending::Proposed { outcome, since, _admitted: admitted })
    }

    fn refused(&self, reason: answer::Reason, message: impl ToString) -> Refusal {
        let head = self.shared.replica.database(&self.database).map(|view| view.head);
        refusal(reason, message).with_head(head)
    }

    /// The page hashes at the head, which stands still while this stream has its turn and nothing proposed: from the
    /// image here, or from another node if that one is damaged or does not get there.
    async fn collect_vector(&self) -> Result<HeadVector, Refusal> {
        let unknown = |message: String| self.refused(answer::Reason::Unknown, message);
        let mut tries = 0;
        loop {
            self.check()?;
            let view = self.shared.replica.database(&self.database);
            let head = view.ok_or_else(|| unknown("the database is gone".to_owned()))?.head;
            if head.txid == Txid::NONE.0 {
                return HeadVector::new(&head, Vec::new()).map_err(unknown);
            }
            let unusable = match self.own_vector(&head).await? {
                Own::Vector(vector) => return Ok(*vector),
                Own::Behind if tries < OWN_TRIES => {
                    tries += 1;
                    continue;
                }
                Own::Behind => None,
                Own::Unusable(cause) => Some(cause),
            };
            let given = self.shared.vector_from_peers(&self.database, &head).await;
            match (given, unusable) {
                (Ok(vector), _) => return Ok(vector),
                (Err(NoHashes { is_lost_everywhere, cause }), Some(unusable)) => {
                    // What other nodes have, this one will have soon.
                    let reason = if is_lost_everywhere { answer::Reason::Quarantined } else { answer::Reason::Unknown };
                    return Err(self.refused(reason, format!("{unusable}{cause}")));
                }
                (Err(_), None) => tries = 0,
            }
        }
    }

    /// The page hashes at `head` from the image here and what the log has behind it.
    async fn own_vector(&self, head: &v1::Head) -> Result<Own, Refusal> {
        let position =
            Position { lineage: Lineage(head.lineage), txid: Txid(head.txid), checksum: Checksum(head.checksum) };
        let hold = match self.hold_image(position).await {
            Ok(hold) if hold.manifest().position == position => hold,
            Ok(hold) if hold.manifest().position.txid == position.txid => {
                let held = hold.manifest().position;
                return Ok(Own::Unusable(format!("the leader's image is at {held}, the head at {position}")));
            }
            Ok(hold) if hold.manifest().position.txid < position.txid => hold,
            // The head went on, or the image has to be folded further before it can be read.
            Ok(_) | Err(ImageError::Behind { .. } | ImageError::Recovering { .. } | ImageError::Empty { .. }) => {
                return Ok(Own::Behind);
            }
            Err(error) => return Ok(Own::Unusable(error.to_string())),
        };
        let ImageManifest { position: held, page_size, page_count, commit_time_ms } = hold.manifest();
        let count = page_count as usize;
        let mut hashes: Vec<u64> = Vec::with_capacity(count);
        while hashes.len() < count {
            let first = PageNumber(hashes.len() as u32 + 1);
            match hold.page_hashes(first, HASHES_AT_ONCE).await {
                Ok(more) if more.is_empty() => break,
                Ok(more) => hashes.extend(more),
                Err(error) => return Ok(Own::Unusable(error.to_string())),
            }
        }
        // What is still to come is in the log.
        drop(hold);
        let held = v1::Head {
            lineage: held.lineage.0,
            txid: held.txid.0,
            checksum: held.checksum.0,
            page_size: page_size.bytes(),
            page_count,
            commit_time_ms,
            wal: None,
        };
        let vector = match HeadVector::new(&held, hashes) {
            Ok(vector) => vector,
            Err(cause) => return Ok(Own::Unusable(cause)),
        };
        if held.txid < position.txid.0 {
            sometimes("page hashes of the head made from an older image and the log");
        }
        self.replay(vector, position).await
    }

    /// Holds the image at `position`, or where it is if it does not get there soon: a snapshot on its way to a slow
    /// destination may keep it from being folded for long, and must not keep anybody from appending.
    async fn hold_image(&self, position: Position) -> Result<Hold, ImageError> {
        let Position { lineage, txid, .. } = position;
        let images = &self.shared.images;
        match images.hold_from(&self.database, lineage, txid, HASHES_HOLD, IMAGE_WAIT).await {
            Err(behind @ ImageError::Behind { .. }) => match images.get(&self.database, lineage) {
                Some(image) => time::timeout(IMAGE_WAIT, image.hold(HASHES_HOLD)).await.unwrap_or(Err(behind)),
                None => Err(behind),
            },
            outcome => outcome,
        }
    }

    /// Takes `vector` to `head` by the segments of the log between them; behind, if the log has dropped them, because
    /// they are folded meanwhile.
    async fn replay(&self, mut vector: HeadVector, head: Position) -> Result<Own, Refusal> {
        let unusable = |what: String| Ok(Own::Unusable(format!("the leader's log: {what}")));
        while vector.position().txid < head.txid {
            let after = vector.position().txid;
            let records = self.shared.replica.segments(&self.database, head.lineage, after, 1);
            let Some(record) = records.into_iter().next() else { return Ok(Own::Behind) };
            let mut decoder = SegmentDecoder::new();
            for &entry in &record.entries {
                self.check()?;
                let one = SegmentRecord { entries: vec![entry], ..record.clone() };
                let parts = match self.shared.replica.segment_bytes(&one).await {
                    Ok(Some(parts)) => parts,
                    Ok(None) => return Ok(Own::Behind),
                    Err(error) => return unusable(error.to_string()),
                };
                let job = move || {
                    let replayed = parts.into_iter().try_for_each(|part| vector.replay(&mut decoder, part));
                    (vector, decoder, replayed)
                };
                let done = task::blocking(job).await;
                let replayed;
                (vector, decoder, replayed) = done.map_err(|error| self.refused(answer::Reason::Unknown, error))?;
                if let Err(error) = replayed {
                    return unusable(error.to_string());
                }
            }
            if vector.position().txid <= after {
                return unusable(format!("the segment after txid {after} of {} is not whole", self.database));
            }
        }
        Ok(if vector.position() == head { Own::Vector(Box::new(vector)) } else { Own::Behind })
    }
}

/// Answers in the order of the parts, until one is refused.
async fn answer_all(
    shared: Arc<Shared>,
    mut pending: mpsc::Receiver<Pending>,
    answers: mpsc::Sender<Result<v1::AppendResponse, Status>>,
) {
    let mut committed = 0;
    let mut membership = shared.replica.membership_index();
    // Where the members are, once they are others than when the stream began.
    let mut news = |shared: &Shared| {
        let now = shared.replica.membership_index();
        if std::mem::replace(&mut membership, now) == now { Vec::new() } else { shared.replica.member_addresses() }
    };
    while let Some(next) = pending.recv().await {
        let refused = match next {
            Pending::Refused(refused) => refused,
            Pending::Proposed { outcome, since, .. } => match outcome.await {
                Ok(Applied::Appended { head }) => {
                    metrics::histogram!("seawall_append_seconds").record(since.elapsed().as_secs_f64());
                    if head.txid > committed {
                        committed = head.txid;
                        // Nobody may listen any more: the proposals are waited for all the same.
                        let outcome = Some(answer::Outcome::Committed(committed));
                        let (cluster_time_ms, nodes) = (shared.time_ms(), news(&shared));
                        let _ = answers.send(Ok(v1::AppendResponse { outcome, cluster_time_ms, nodes })).await;
                    }
                    continue;
                }
                Ok(Applied::Refused { reason: answer::Reason::Fenced, message, head }) => {
                    sometimes("append ordered behind a newer claim refused");
                    refusal(answer::Reason::Fenced, message).with_head(Some(head))
                }
                Ok(Applied::Refused { reason, message, head }) => refusal(reason, message).with_head(Some(head)),
                Ok(applied) => refusal(answer::Reason::Unknown, format!("an append was answered with {applied:?}")),
                Err(error @ ProposeError::NotLeader { .. }) => {
                    let leader_address = shared.replica.leadership().leader_address;
                    refusal(answer::Reason::NotLeader, error).with_leader(leader_address)
                }
                Err(error) => {
                    sometimes("append with an unknown outcome");
                    refusal(answer::Reason::Unknown, error)
                }
            },
        };
        let outcome = Some(answer::Outcome::Refused(*refused.0));
        let (cluster_time_ms, nodes) = (shared.time_ms(), news(&shared));
        let _ = answers.send(Ok(v1::AppendResponse { outcome, cluster_time_ms, nodes })).await;
        break;
    }
    pending.close();
    while let Some(left) = pending.recv().await {
        if let Pending::Proposed { outcome, .. } = left {
            let _ = outcome.await;
        }
    }
}
