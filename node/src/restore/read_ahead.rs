//! Reading the objects of a plan ahead of their use: several parts at a time, decoded and given in order, in bounded
//! memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use seawall_host::task::{self, OwnedTask};
use seawall_proto::segment::{SegmentDecoder, SegmentError, SegmentEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::source::{ByteStream, PartRead, RestoreSource, SourceError, SourceObject};

/// Decoded bytes handed over at a time; a frame more at most.
const BATCH_BYTES: usize = 4 << 20;

/// Decoded batches that wait to be applied.
const BATCHES_WAITING: usize = 2;

/// A part up to this size is decoded at once; going to another thread for it would take longer.
const SMALL_BYTES: usize = 64 << 10;

/// How much is read at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadLimits {
    /// Parts that are being read or wait to be decoded, at most.
    pub(super) parts: usize,
    /// The length of a part, in bytes.
    pub(super) part_bytes: u64,
}

/// Why the rest of an object does not come.
#[derive(Debug)]
pub(super) enum Broken {
    /// It could not be read.
    Source(SourceError),
    /// It is no segment.
    Content(SegmentError),
}

/// The next of an object's content.
#[derive(Debug)]
pub(super) struct Batch {
    object: usize,
    /// Bytes read for it.
    pub(super) read: usize,
    pub(super) events: Vec<SegmentEvent>,
    /// Nothing more comes of this object: it is whole, or broken behind `events`.
    pub(super) end: Option<Result<(), Broken>>,
}

/// Part of an object as it was read; holds its room until it is decoded.
struct Part {
    object: usize,
    pieces: Result<Vec<Bytes>, SourceError>,
    is_last: bool,
    _room: OwnedSemaphorePermit,
}

/// The objects of a plan on their way.
pub(super) struct ReadAhead {
    batches: mpsc::Receiver<Batch>,
    _fetching: OwnedTask,
    _decoding: OwnedTask,
}

impl ReadAhead {
    /// Begins to read `objects`, in this order.
    pub(super) fn start<'a>(
        source: &dyn RestoreSource,
        objects: impl Iterator<Item = &'a SourceObject>,
        limits: ReadLimits,
    ) -> Self {
        let room = Arc::new(Semaphore::new(limits.parts.max(1)));
        let contents: Vec<Content> = objects.map(|object| Content::of(source, object, limits.part_bytes)).collect();
        // Room is taken in the order of use, so that what is needed first never waits for what comes later.
        let reads = stream::iter(contents)
            .enumerate()
            .flat_map(move |(object, content)| content.reads(object, Arc::clone(&room), limits.part_bytes));
        let (to_decode, parts) = mpsc::channel(limits.parts.max(1));
        let fetching = task::spawn_owned(fetch(reads.buffered(limits.parts.max(1)), to_decode));
        let (to_apply, batches) = mpsc::channel(BATCHES_WAITING);
        let decoding = task::spawn_owned(decode(parts, to_apply));
        Self { batches, _fetching: fetching, _decoding: decoding }
    }

    /// The next of the object with this number; what is left of those before it is skipped. `None` if nothing more
    /// comes.
    pub(super) async fn next(&mut self, object: usize) -> Option<Batch> {
        loop {
            let batch = self.batches.recv().await?;
            if batch.object >= object {
                return Some(batch);
            }
        }
    }
}

/// How an object comes.
enum Content {
    Parts(Vec<PartRead>),
    Stream(ByteStream),
}

impl Content {
    fn of(source: &dyn RestoreSource, object: &SourceObject, part_bytes: u64) -> Self {
        let part_bytes = part_bytes.max(1);
        let starts = (0..object.size.div_ceil(part_bytes)).map(|part| part * part_bytes);
        let parts = starts.map(|start| source.read_part(object, start, part_bytes.min(object.size - start)));
        match parts.collect::<Option<Vec<_>>>() {
            Some(parts) if !parts.is_empty() => Self::Parts(parts),
            _ => Self::Stream(source.read(object)),
        }
    }

    /// What is to be awaited, in order, for all of it.
    fn reads(
        self,
        object: usize,
        room: Arc<Semaphore>,
        part_bytes: u64,
    ) -> BoxStream<'static, BoxFuture<'static, Part>> {
        match self {
            Self::Parts(parts) => {
                let last = parts.len() - 1;
                let parts = stream::iter(parts).enumerate();
                let reads = parts.then(move |(index, part)| {
                    let room = Arc::clone(&room);
                    take(room).map(move |room| {
                        let is_last = index == last;
                        let read = part.map(move |bytes| {
                            let pieces = bytes.map(|bytes| vec![bytes]);
                            Part { object, pieces, is_last, _room: room }
                        });
                        read.boxed()
                    })
                });
                reads.boxed()
            }
            Self::Stream(bytes) => {
                let reads = stream::unfold(Some(bytes), move |bytes| {
                    let room = Arc::clone(&room);
                    async move {
                        let mut bytes = bytes?;
                        let room = take(room).await;
                        let (pieces, is_last) = gather(&mut bytes, part_bytes).await;
                        let part = Part { object, pieces, is_last, _room: room };
                        Some((futures::future::ready(part).boxed(), (!is_last).then_some(bytes)))
                    }
                });
                reads.boxed()
            }
        }
    }
}

async fn take(room: Arc<Semaphore>) -> OwnedSemaphorePermit {
    room.acquire_owned().await.expect("nobody closes it")
}

/// Collects about `part_bytes` of a stream. Whether it ended, well or not.
async fn gather(bytes: &mut ByteStream, part_bytes: u64) -> (Result<Vec<Bytes>, SourceError>, bool) {
    let mut pieces = Vec::new();
    let mut gathered = 0;
    while gathered < part_bytes {
        match bytes.next().await {
            Some(Ok(piece)) => {
                gathered += piece.len() as u64;
                pieces.push(piece);
            }
            Some(Err(error)) => return (Err(error), true),
            None => return (Ok(pieces), true),
        }
    }
    (Ok(pieces), false)
}

async fn fetch(parts: impl Stream<Item = Part>, to_decode: mpsc::Sender<Part>) {
    let mut parts = std::pin::pin!(parts);
    while let Some(part) = parts.next().await {
        if to_decode.send(part).await.is_err() {
            return;
        }
    }
}

async fn decode(mut parts: mpsc::Receiver<Part>, to_apply: mpsc::Sender<Batch>) {
    let mut decoder = SegmentDecoder::new();
    // A failure may lie behind all that is wanted of its object: the next ones come all the same.
    let mut broken = None;
    while let Some(Part { object, pieces, is_last, _room }) = parts.recv().await {
        if broken == Some(object) {
            continue;
        }
        let mut batch = Batch { object, read: 0, events: Vec::new(), end: None };
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(error) => {
                batch.end = Some(Err(Broken::Source(error)));
                broken = Some(object);
                decoder = SegmentDecoder::new();
                if to_apply.send(batch).await.is_err() {
                    return;
                }
                continue;
            }
        };
        for piece in pieces {
            batch.read += piece.len();
            decoder.push(piece);
        }
        let small = batch.read <= SMALL_BYTES;
        loop {
            // A job that was lost says nothing about the bytes: the receiver notices that nothing more comes.
            let Some((returned, decoded)) = decode_some(decoder, small).await else { return };
            decoder = returned;
            batch.events = decoded.events;
            batch.end = match decoded.error {
                Some(error) => Some(Err(Broken::Content(error))),
                None if is_last && !decoded.more => {
                    let end = std::mem::take(&mut decoder).finish();
                    Some(end.map(drop).map_err(Broken::Content))
                }
                None => None,
            };
            if matches!(batch.end, Some(Err(_))) {
                broken = Some(object);
                decoder = SegmentDecoder::new();
            }
            let is_done = batch.end.is_some() || !decoded.more;
            if to_apply.send(batch).await.is_err() {
                return;
            }
            if is_done {
                break;
            }
            batch = Batch { object, read: 0, events: Vec::new(), end: None };
        }
    }
}

struct Decoded {
    events: Vec<SegmentEvent>,
    error: Option<SegmentError>,
    more: bool,
}

/// Takes up to [`BATCH_BYTES`] out of the decoder; `None` if that panicked.
async fn decode_some(mut decoder: SegmentDecoder, small: bool) -> Option<(SegmentDecoder, Decoded)> {
    let job = move || {
        let mut decoded = Decoded { events: Vec::new(), error: None, more: true };
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            match decoder.next() {
                Ok(Some(event)) => {
                    if let SegmentEvent::Page { bytes: page, .. } = &event {
                        bytes += page.len();
                    }
                    decoded.events.push(event);
                }
                Ok(None) => {
                    decoded.more = false;
                    break;
                }
                Err(error) => {
                    decoded.error = Some(error);
                    break;
                }
            }
        }
        (decoder, decoded)
    };
    if small { Some(job()) } else { task::blocking(job).await.ok() }
}

#[cfg(test)]
#[path = "read_ahead_tests.rs"]
mod tests;
