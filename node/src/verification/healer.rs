//! Putting proven objects in the place of lost and damaged ones.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::{task, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::segment::concat;

use super::context::Context;
use super::pace::read_object;
use super::proof::{Claim, Unproven, prove, prove_replacement};
use super::sources::{Source, WINDOW_BYTES};
use crate::destination::{ByteStream, Creation, Destination, DestinationError};
use crate::replica::SegmentRecord;

/// Objects up to this size are in memory between their proof and their upload; larger ones are read twice, in bytes.
const KEPT_BYTES: u64 = 16 << 20;
/// How long an image may be kept from folding for one pass over it.
const HOLD_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long the others may take to confirm that this node leads.
const LEADERSHIP_TIMEOUT: Duration = Duration::from_secs(5);
/// What was deleted is created within so many attempts; what then fails is found lost the next time.
const ATTEMPTS: u32 = 4;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// What is wrong with an object that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is not there.
    Lost,
    /// It is not what its name says.
    Damaged,
}

impl Kind {
    /// As metrics and messages name it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Damaged => "damaged",
        }
    }
}

/// How putting an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was not there, or not whole, and is now.
    Replaced(ObjectName),
    /// It was there and is whole.
    WasThere(ObjectName),
}

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPut {
    /// This source does not give it; another may.
    #[error("{0}")]
    Source(String),
    /// The destination did not let go of the damaged one, or did not take the new one.
    #[error("{0}")]
    Place(String),
    /// This node does not lead any more, or cannot tell: nothing was touched.
    #[error("this node no longer leads")]
    NotLeader,
}

/// Heals one database at one destination.
pub(super) struct Healer<'a> {
    pub(super) context: &'a Context,
    pub(super) database: &'a DatabaseName,
    /// The destination's number.
    pub(super) place: usize,
}

impl Healer<'_> {
    fn destination(&self) -> &Arc<dyn Destination> {
        &self.context.places[self.place].named.destination
    }

    fn path(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.database)
    }

    /// What an object has to be, by its name and the position log.
    pub(super) fn claim(&self, name: &ObjectName) -> Claim {
        let replica = &self.context.replica;
        let begins = replica.segments(self.database, name.lineage, Txid(name.first.0 - 1), 1).into_iter().next();
        let begins = begins.filter(|record| record.first == name.first && name.level != Level::Snapshot);
        let (before, after) =
            (begins.map(|record| record.checksum_before), replica.checksum_at(self.database, name.lineage, name.last));
        Claim { name: *name, before, after }
    }

    /// Reads an object of the destination alone and proves it.
    pub(super) async fn look_at(&self, name: &ObjectName, size: u64) -> Result<(), Unproven> {
        let place = &self.context.places[self.place];
        let content = read_object(Arc::clone(&place.named.destination), self.path(name), size, Arc::clone(&place.pace));
        prove(content, &self.claim(name), 0).await.map(drop)
    }

    /// Puts what `source` gives. A damaged object of that name goes right before, when the replacement is proven.
    pub(super) async fn put(&self, source: &Source, kind: Kind) -> Result<Put, NotPut> {
        let name = self.name_of(source)?;
        let claim = self.claim(&name);
        let unproven = |error: Unproven| NotPut::Source(error.to_string());
        let (content, size) = self.open(source).await?;
        let kept = prove_replacement(content, &claim, KEPT_BYTES).await.map_err(unproven)?;
        if kind == Kind::Damaged {
            self.confirm_leadership().await?;
            let deleted = self.destination().delete(&self.path(&name)).await;
            deleted.map_err(|error| NotPut::Place(format!("the damaged object cannot be deleted: {error}")))?;
        }
        let is_whole = kept.is_some();
        let creation = self.create(&name, source, size, kept).await?;
        if creation == Creation::AlreadyExists || !is_whole {
            let listed =
                self.destination().list(&self.path(&name)).await.map_err(|error| NotPut::Place(error.to_string()))?;
            let size = listed.first().map_or(0, |object| object.size);
            if !mutant("healing-from-a-damaged-source") {
                let cause = |error: Unproven| NotPut::Place(format!("what is there now is not whole: {error}"));
                self.look_at(&name, size).await.map_err(cause)?;
            }
        }
        let was_there = kind == Kind::Lost && creation == Creation::AlreadyExists;
        if was_there {
            return Ok(Put::WasThere(name));
        }
        match (kind, source) {
            (Kind::Lost, Source::Log(_)) => sometimes("lost object replaced from the log"),
            (Kind::Lost, Source::Place(..)) => sometimes("lost object replaced from another destination"),
            (Kind::Damaged, Source::Log(_)) => sometimes("damaged object replaced from the log"),
            (Kind::Damaged, Source::Place(..)) => sometimes("damaged object replaced from another destination"),
            (_, Source::Image(_)) => sometimes("snapshot at a destination replaced from the image"),
        }
        Ok(Put::Replaced(name))
    }

    /// Creates the object, more than once if need be: what was damaged is gone already.
    async fn create(
        &self,
        name: &ObjectName,
        source: &Source,
        size: u64,
        kept: Option<Vec<Bytes>>,
    ) -> Result<Creation, NotPut> {
        let path = self.path(name);
        let mut attempt = 1;
        loop {
            let created = match &kept {
                Some(parts) => self.destination().create(&path, parts.clone()).await,
                None => {
                    let (content, _) = self.open(source).await?;
                    self.destination().create_streaming(&path, Some(size), content).await
                }
            };
            match created {
                Ok(creation) => return Ok(creation),
                Err(DestinationError::Unavailable { .. } | DestinationError::Source { .. }) if attempt < ATTEMPTS => {
                    time::sleep(ATTEMPT_PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(NotPut::Place(format!("it cannot be created: {error}"))),
            }
        }
    }

    /// Asks the others whether this node still leads: another may have replaced the object already.
    async fn confirm_leadership(&self) -> Result<(), NotPut> {
        let replica = &self.context.replica;
        let before = replica.leadership();
        if !before.is_leader || replica.read_index(LEADERSHIP_TIMEOUT).await.is_err() {
            return Err(NotPut::NotLeader);
        }
        let after = replica.leadership();
        if after.is_leader && after.term == before.term { Ok(()) } else { Err(NotPut::NotLeader) }
    }

    fn name_of(&self, source: &Source) -> Result<ObjectName, NotPut> {
        match source {
            Source::Place(_, name) | Source::Image(name) => Ok(*name),
            Source::Log(records) => {
                let ends = records.first().zip(records.last());
                let (first, last) = ends.ok_or_else(|| NotPut::Source("no records".to_owned()))?;
                Ok(ObjectName {
                    lineage: last.lineage,
                    level: Level::Log,
                    first: first.first,
                    last: last.last,
                    checksum_after: last.checksum_after,
                })
            }
        }
    }

    /// Where this node's image of the current lineage is.
    pub(super) fn image_position(&self) -> Option<Position> {
        let lineage = Lineage(self.context.replica.database(self.database)?.head.lineage);
        let status = self.context.images.get(self.database, lineage)?.status();
        (status.quarantined.is_none() && status.position.txid > Txid::NONE).then_some(status.position)
    }

    /// The bytes that `source` gives, and roughly how many.
    async fn open(&self, source: &Source) -> Result<(ByteStream, u64), NotPut> {
        let failed = |cause: String| NotPut::Source(cause);
        match source {
            Source::Place(number, name) => {
                let place = &self.context.places[*number];
                let path = self.path(name);
                let listed = place.named.destination.list(&path).await.map_err(|error| failed(error.to_string()))?;
                let object = listed.into_iter().find(|object| object.name == path);
                let size = object.ok_or_else(|| failed(format!("{path} is not there any more")))?.size;
                let destination = Arc::clone(&place.named.destination);
                Ok((read_object(destination, path, size, Arc::clone(&place.pace)), size))
            }
            Source::Image(name) => {
                let image = self.context.images.get(self.database, name.lineage);
                let image = image.ok_or_else(|| failed("there is no image".to_owned()))?;
                let hold = image.hold(HOLD_LIMIT).await.map_err(|error| failed(error.to_string()))?;
                let manifest = hold.manifest();
                if snapshot_name(manifest.position) != *name {
                    return Err(failed("the image has gone on".to_owned()));
                }
                let size = u64::from(manifest.page_count) * u64::from(manifest.page_size.bytes());
                Ok((hold.snapshot().map_err(io::Error::other).boxed(), size))
            }
            Source::Log(records) => {
                let bytes = records.iter().map(|record| record.bytes).sum();
                match records.as_slice() {
                    [large] if large.bytes > WINDOW_BYTES => Ok((self.stream_record(large.clone()), bytes)),
                    records => {
                        let parts = self.join(records).await.map_err(|error| failed(error.to_string()))?;
                        Ok((stream::iter(parts.into_iter().map(Ok)).boxed(), bytes))
                    }
                }
            }
        }
    }

    /// The segments of `records`, joined.
    async fn join(&self, records: &[SegmentRecord]) -> io::Result<Vec<Bytes>> {
        let mut contents = Vec::with_capacity(records.len());
        for record in records {
            let content = self.context.replica.segment_bytes(record).await?;
            contents.push(content.ok_or_else(gone)?);
        }
        let joined = task::blocking(move || concat(contents)).await.map_err(io::Error::other)?;
        joined.map(|(parts, _)| parts).map_err(io::Error::other)
    }

    /// The parts of one large segment, read one by one.
    fn stream_record(&self, record: SegmentRecord) -> ByteStream {
        let replica = self.context.replica.clone();
        let parts = stream::iter(record.entries.clone()).then(move |entry| {
            let one = SegmentRecord { entries: vec![entry], ..record.clone() };
            let replica = replica.clone();
            async move {
                let parts = replica.segment_bytes(&one).await?;
                Ok(parts.ok_or_else(gone)?.into_iter().next().unwrap_or_default())
            }
            .boxed()
        });
        parts.boxed()
    }
}

/// The name of the snapshot of a state.
pub(super) fn snapshot_name(at: Position) -> ObjectName {
    ObjectName {
        lineage: at.lineage,
        level: Level::Snapshot,
        first: Txid(1),
        last: at.txid,
        checksum_after: at.checksum,
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the log no longer has it")
}
