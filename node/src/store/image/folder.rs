//! The task that folds the log into the images.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use seawall_host::probe::sometimes;
use seawall_host::process;
use seawall_host::task::{self, OwnedTask};
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};
use tokio::sync::oneshot;

use super::{Image, ImageError, ImageStore};
use crate::consensus::Need;
use crate::replica::{LogPin, Replica, SegmentRecord};

/// Segments that are looked up at once.
const SEGMENTS_AT_ONCE: usize = 64;
/// Parts of a segment that are read from the log at once: at most 4 MiB.
const PARTS_AT_ONCE: usize = 8;
/// How often images are looked after when nothing changes.
const TICK: Duration = Duration::from_millis(500);
/// How often the pin of a database that does not change is moved on, behind what others wrote.
const MOVE_IDLE_EVERY: Duration = Duration::from_secs(1);
/// A page vector that was not used for this long leaves the memory.
const IDLE: Duration = Duration::from_secs(300);
/// After an error an image is tried again after this long, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// The same while the disk is full: what is not folded keeps the log from getting shorter.
const LAST_FULL_RETRY: Duration = Duration::from_secs(5);
/// The same for an image, or a part of the log, that nobody gives at present: a peer that has it may come back any time.
const LAST_PULL_RETRY: Duration = Duration::from_secs(10);

/// Follows the replica and folds what it applies into the images, for as long as it exists. It pins the log from the
/// first transaction on that is not durably folded.
pub struct Folder {
    pinned: oneshot::Receiver<()>,
    _task: OwnedTask,
}

impl Folder {
    /// Starts folding.
    pub fn start(replica: Replica, images: ImageStore) -> Self {
        let following = Following { replica, images, databases: BTreeMap::new(), workers: FuturesUnordered::new() };
        let (say_pinned, pinned) = oneshot::channel();
        Self { pinned, _task: task::spawn_owned(following.run(say_pinned)) }
    }

    /// Waits until every database that was known at the start is pinned.
    pub async fn wait_pinned(&mut self) {
        // An error means that it was waited for before, or that the task is gone.
        let _ = (&mut self.pinned).await;
    }
}

struct Following {
    replica: Replica,
    images: ImageStore,
    databases: BTreeMap<DatabaseName, Followed>,
    workers: FuturesUnordered<BoxFuture<'static, (DatabaseName, Result<(), ImageError>)>>,
}

/// A database whose image is kept.
struct Followed {
    image: Image,
    /// From which txid on, and the pin itself; none while the image is quarantined.
    pin: Option<(Txid, LogPin)>,
    /// When the pin was last moved.
    moved: Instant,
    is_busy: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Following {
    async fn run(mut self, say_pinned: oneshot::Sender<()>) {
        let mut seen = 0;
        let mut say_pinned = Some(say_pinned);
        loop {
            let count = self.look_after_all().await;
            if let Some(say_pinned) = say_pinned.take() {
                let _ = say_pinned.send(());
            }
            // Many databases are not looked through at every single commit.
            time::sleep(Duration::from_micros(20) * u32::try_from(count).unwrap_or(u32::MAX)).await;
            let replica = self.replica.clone();
            let changed = std::pin::pin!(replica.changed(seen));
            let has_workers = !self.workers.is_empty();
            let finished =
                async { if has_workers { self.workers.next().await } else { futures::future::pending().await } };
            let finished = std::pin::pin!(finished);
            let event = select(changed, finished);
            match time::timeout(TICK, event).await {
                Ok(Either::Left((counter, _))) => seen = counter,
                Ok(Either::Right((Some((database, outcome)), _))) => self.finished(&database, outcome),
                Ok(Either::Right((None, _))) | Err(time::Elapsed) => {}
            }
        }
    }

    /// Gives work to every image that has some; answers how many databases there are.
    async fn look_after_all(&mut self) -> usize {
        let names = self.replica.databases();
        let count = names.len();
        let too_much = self.images.images().iter().map(|image| image.pending().bytes).sum::<usize>()
            > self.images.options().checkpoint_bytes;
        for name in names {
            if let Err(error) = self.look_after(&name, too_much).await {
                tracing::warn!(database = %name, %error, "cannot look after the image");
            }
        }
        count
    }

    async fn look_after(&mut self, name: &DatabaseName, too_much: bool) -> Result<(), ImageError> {
        let Some(view) = self.replica.database(name) else { return Ok(()) };
        let (lineage, head) = (Lineage(view.head.lineage), Txid(view.head.txid));
        if self.databases.get(name).is_none_or(|followed| followed.image.lineage() != lineage && !followed.is_busy) {
            let image = self.images.get_or_create(name, lineage).await?;
            let followed =
                Followed { image, pin: None, moved: Instant::now(), is_busy: false, failures: 0, retry_at: None };
            self.databases.insert(name.clone(), followed);
        }
        let Some(followed) = self.databases.get_mut(name) else { return Ok(()) };
        followed.move_pin(&self.replica, name);
        if followed.is_busy || followed.retry_at.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        let status = followed.image.status();
        let pending = followed.image.pending();
        let interval = self.images.options().checkpoint_interval;
        let is_due = pending.since.is_some_and(|since| since.elapsed() >= interval) || (too_much && pending.bytes > 0);
        if status.position.txid < head || status.quarantined.is_some() || is_due {
            followed.is_busy = true;
            let work =
                Work { replica: self.replica.clone(), images: self.images.clone(), image: followed.image.clone() };
            let name = name.clone();
            self.workers.push(Box::pin(async move { (name, work.run(interval, is_due).await) }));
        } else {
            followed.image.unload_if_idle(IDLE);
        }
        Ok(())
    }

    fn finished(&mut self, name: &DatabaseName, outcome: Result<(), ImageError>) {
        let Some(followed) = self.databases.get_mut(name) else { return };
        followed.is_busy = false;
        match outcome {
            Ok(()) => (followed.failures, followed.retry_at) = (0, None),
            Err(error) => {
                followed.failures += 1;
                let last = match &error {
                    ImageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => LAST_FULL_RETRY,
                    ImageError::Lost { .. } | ImageError::Io { .. } => LAST_PULL_RETRY,
                    _ => LAST_RETRY,
                };
                let wait = last.min(FIRST_RETRY * 2_u32.saturating_pow(followed.failures.min(16) - 1));
                followed.retry_at = Some(Instant::now() + wait);
                tracing::warn!(database = %name, %error, retry_in = ?wait, "cannot fold the log into the image");
            }
        }
        followed.move_pin(&self.replica, name);
        let status = followed.image.status();
        metrics::gauge!("seawall_image_txid", "database" => name.to_string()).set(status.position.txid.0 as f64);
        let is_wrong = f64::from(u8::from(status.quarantined.is_some()));
        metrics::gauge!("seawall_image_quarantined", "database" => name.to_string()).set(is_wrong);
    }
}

impl Followed {
    fn move_pin(&mut self, replica: &Replica, name: &DatabaseName) {
        let status = self.image.status();
        // A quarantined image is not continued: only a new one, which says itself what it needs.
        if status.quarantined.is_some() {
            self.pin = None;
            return;
        }
        let from = status.durable.next();
        match &mut self.pin {
            Some((pinned, pin)) if *pinned < from => {
                pin.advance(from);
                *pinned = from;
            }
            Some((pinned, _)) if *pinned == from && self.moved.elapsed() < MOVE_IDLE_EVERY => return,
            Some((pinned, pin)) if *pinned == from => pin.advance_within(self.image.lineage(), from),
            _ => self.pin = Some((from, replica.pin(name, "image", from))),
        }
        self.moved = Instant::now();
    }
}

/// Brings one image up to the head.
struct Work {
    replica: Replica,
    images: ImageStore,
    image: Image,
}

impl Work {
    async fn run(self, interval: Duration, checkpoint_first: bool) -> Result<(), ImageError> {
        if checkpoint_first {
            self.image.checkpoint().await?;
        }
        // Keeps what follows another node's image until the image is pinned itself.
        let mut pin = None;
        if let Some(reason) = self.image.status().quarantined {
            pin = self.rebuild(&reason).await?;
        }
        match self.fold_all(interval).await {
            Err(error @ ImageError::LogGone { until, .. }) if pin.is_none() => {
                if self.replica.cluster().members.len() == 1 {
                    process::halt(&hopeless(&error));
                }
                tracing::warn!(database = %self.image.database(), %error, "taking in another node's image");
                pin = Some(self.pull(&error.to_string(), until).await?);
                self.fold_all(interval).await?;
            }
            outcome => outcome?,
        }
        drop(pin);
        if self.image.status().durable > Txid::NONE {
            self.remove_older_lineages().await?;
        }
        Ok(())
    }

    /// Folds until the image is at the head.
    async fn fold_all(&self, interval: Duration) -> Result<(), ImageError> {
        let (database, lineage) = (self.image.database(), self.image.lineage());
        loop {
            let folded = self.image.status().position.txid;
            let records = self.replica.segments(database, lineage, folded, SEGMENTS_AT_ONCE);
            let Some(first) = records.first() else { return Ok(()) };
            if first.first > folded.next() {
                return Err(ImageError::LogGone { image: self.name(), folded, until: Txid(first.first.0 - 1) });
            }
            self.commit(&records).await?;
            for record in records {
                self.fold(record).await?;
                if self.image.pending().since.is_some_and(|since| since.elapsed() >= interval) {
                    self.image.checkpoint().await?;
                }
            }
        }
    }

    /// An image never gets ahead of what a restart of this node alone knows to be committed: a fold that a crash
    /// interrupts has to be repeated before the image can be given to a peer, and that peer may be the one without
    /// which nothing is committed.
    async fn commit(&self, records: &[SegmentRecord]) -> Result<(), ImageError> {
        let last = records.iter().filter_map(|record| record.entries.last()).max();
        let synced = match last {
            Some(index) => self.replica.sync_committed(*index).await,
            None => Ok(()),
        };
        let image = || format!("{}@{}", self.image.database(), self.image.lineage());
        synced.map_err(|source| ImageError::Io { image: image(), source })
    }

    async fn fold(&self, record: SegmentRecord) -> Result<(), ImageError> {
        let after = Position { lineage: record.lineage, txid: record.last, checksum: record.checksum_after };
        let status = self.image.fold(segment(&self.replica, &self.image, record)).await?;
        if status.position == after {
            return Ok(());
        }
        let cause = format!("it ends at {}, the position log says {after}", status.position);
        Err(ImageError::Segment { image: self.name(), cause })
    }

    /// Puts a sound image in the place of a quarantined one: an empty one where the log still holds everything, else
    /// another node's.
    async fn rebuild(&self, reason: &str) -> Result<Option<LogPin>, ImageError> {
        let first =
            self.replica.segments(self.image.database(), self.image.lineage(), Txid::NONE, 1).into_iter().next();
        let is_whole = match first {
            Some(record) if record.first == Txid::NONE.next() => {
                segment(&self.replica, &self.image, record).next().await.is_some_and(|piece| piece.is_ok())
            }
            _ => false,
        };
        if !is_whole {
            return self
                .pull(&format!("the image of {} is quarantined: {reason}", self.name()), Txid::NONE)
                .await
                .map(Some);
        }
        sometimes("image rebuilt from the log");
        tracing::info!(database = %self.image.database(), "rebuilding a quarantined image from the log");
        self.image.reset().await?;
        Ok(None)
    }

    /// Takes in another node's image, which holds `until` and from which the log here goes on. The log is kept while
    /// the answer is.
    async fn pull(&self, reason: &str, until: Txid) -> Result<LogPin, ImageError> {
        let (database, lineage) = (self.image.database(), self.image.lineage());
        let pin = self.replica.pin(database, "image", Txid::NONE.next());
        let txid = self.replica.held_after(database, lineage).max(until).max(Txid::NONE.next());
        let pulled = self.replica.pull_image(Need { database: database.clone(), lineage, txid }).await;
        pulled.map_err(|error| ImageError::Lost { reason: reason.to_owned(), cause: error.to_string() })?;
        sometimes("image taken from a peer in place of an unusable one");
        tracing::info!(%database, %lineage, "took in another node's image in place of one that cannot be used");
        Ok(pin)
    }

    fn name(&self) -> String {
        format!("{}@{}", self.image.database(), self.image.lineage())
    }

    async fn remove_older_lineages(&self) -> Result<(), ImageError> {
        let older: BTreeSet<Lineage> = self
            .images
            .images()
            .iter()
            .filter(|other| other.database() == self.image.database() && other.lineage() < self.image.lineage())
            .map(Image::lineage)
            .collect();
        for lineage in older {
            self.images.remove(self.image.database(), lineage).await?;
        }
        Ok(())
    }
}

/// The last word of a node that is alone and cannot go on.
fn hopeless(error: &ImageError) -> String {
    format!(
        "{error}, but there is no other node. Check the disk; nothing on it gives this database's newest state back. Move \
         the node's whole data directory away, start the node with an empty one, and let the agents ship the databases \
         anew, or restore them from a destination"
    )
}

/// The bytes of a segment from this node's log, a few parts at a time.
fn segment(replica: &Replica, image: &Image, record: SegmentRecord) -> BoxStream<'static, Result<Bytes, ImageError>> {
    let name = format!("{}@{}", image.database(), image.lineage());
    let (folded, until) = (Txid(record.first.0.saturating_sub(1)), record.last);
    let pieces: Vec<SegmentRecord> = record
        .entries
        .chunks(PARTS_AT_ONCE)
        .map(|entries| SegmentRecord { entries: entries.to_vec(), ..record.clone() })
        .collect();
    let replica = replica.clone();
    stream::iter(pieces)
        .then(move |piece| {
            let (replica, name) = (replica.clone(), name.clone());
            async move {
                match replica.segment_bytes(&piece).await {
                    Ok(Some(parts)) => Ok(parts),
                    Ok(None) => Err(ImageError::LogGone { image: name, folded, until }),
                    Err(source) => Err(ImageError::Io { image: name, source }),
                }
            }
        })
        .map(|parts| match parts {
            Ok(parts) => stream::iter(parts).map(Ok).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .flatten()
        .boxed()
}
