use std::sync::Mutex;

use futures::future::BoxFuture;
use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};

use super::super::source::{Breadth, Listing};
use super::*;

#[derive(Default)]
struct Counts {
    now: usize,
    most: usize,
}

/// Objects in memory, given part by part or as streams; reading fails at a byte of one of them.
struct Memory {
    objects: Vec<Bytes>,
    streamed: bool,
    fails_at: Option<(usize, usize)>,
    reads: Arc<Mutex<Counts>>,
}

impl Memory {
    fn described(&self) -> Vec<SourceObject> {
        let describe = |(route, bytes): (usize, &Bytes)| SourceObject {
            origin: Arc::from("memory"),
            route: route as u32,
            name: name(route),
            size: bytes.len() as u64,
            commit_time_ms: None,
        };
        self.objects.iter().enumerate().map(describe).collect()
    }

    fn failure() -> SourceError {
        SourceError::Unusable { origin: "memory".to_owned(), cause: "gone".to_owned() }
    }
}

fn name(number: usize) -> ObjectName {
    let txid = Txid(number as u64 + 1);
    let checksum_after = Checksum::EMPTY;
    ObjectName { lineage: Lineage(1), level: Level::Log, first: txid, last: txid, checksum_after }
}

impl RestoreSource for Memory {
    fn describe(&self) -> &str {
        "memory"
    }

    fn list(&self, _: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        async { Ok(Listing::default()) }.boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        let bytes = &self.objects[object.route as usize];
        let end = self.fails_at.filter(|(failing, _)| *failing == object.route as usize).map(|(_, at)| at);
        let whole = &bytes[..end.unwrap_or(bytes.len())];
        let mut pieces: Vec<_> = whole.chunks(700).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        pieces.extend(end.map(|_| Err(Self::failure())));
        stream::iter(pieces).boxed()
    }

    fn read_part(&self, object: &SourceObject, offset: u64, length: u64) -> Option<PartRead> {
        if self.streamed {
            return None;
        }
        let end = (offset + length) as usize;
        let fails = self
            .fails_at
            .is_some_and(|(failing, at)| failing == object.route as usize && (offset as usize..end).contains(&at));
        let bytes = self.objects[object.route as usize].slice(offset as usize..end);
        let reads = Arc::clone(&self.reads);
        let read = async move {
            {
                let mut reads = reads.lock().unwrap();
                reads.now += 1;
                reads.most = reads.most.max(reads.now);
            }
            // Later parts are often there first.
            for _ in 0..offset % 5 {
                tokio::task::yield_now().await;
            }
            reads.lock().unwrap().now -= 1;
            if fails { Err(Self::failure()) } else { Ok(bytes) }
        };
        Some(read.boxed())
    }
}

fn segment(number: usize, pages: u32) -> Bytes {
    let txid = name(number).first;
    let mut encoder = SegmentEncoder::new(SegmentHeader {
        page_size: PageSize::new(512).unwrap(),
        lineage: Lineage(1),
        first: txid,
        last: txid,
        checksum_before: Checksum::EMPTY,
        kind: SegmentKind::Log,
    });
    for page in 1..=pages {
        let bytes: Vec<u8> = (0..512_u32).map(|at| ((at * page * (number as u32 + 3)) >> 3) as u8).collect();
        encoder.page(PageNumber(page), &bytes).unwrap();
    }
    encoder.commit(pages, 0, Checksum::EMPTY).unwrap();
    encoder.finish().unwrap().0.concat().into()
}

fn events(bytes: &Bytes) -> Vec<SegmentEvent> {
    let mut decoder = SegmentDecoder::new();
    decoder.push(bytes.clone());
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

async fn read_all(memory: &Memory, limits: ReadLimits) -> (Vec<Vec<SegmentEvent>>, Option<Broken>, usize) {
    let described = memory.described();
    let mut reading = ReadAhead::start(memory, described.iter(), limits);
    let mut found = Vec::new();
    let mut read = 0;
    for object in 0..memory.objects.len() {
        found.push(Vec::new());
        loop {
            let batch = reading.next(object).await.expect("an object ends before its content does");
            assert_eq!(batch.object, object);
            read += batch.read;
            found.last_mut().unwrap().extend(batch.events);
            match batch.end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(broken)) => return (found, Some(broken), read),
            }
        }
    }
    (found, None, read)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    seawall_host::real::install();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_content_comes_whatever_the_parts(
        pages in prop::collection::vec(1..40_u32, 1..6),
        streamed: bool,
        part_bytes in 1..5000_u64,
        parts in 1..9_usize,
    ) {
        let objects: Vec<Bytes> = pages.iter().enumerate().map(|(number, pages)| segment(number, *pages)).collect();
        let memory = Memory { objects, streamed, fails_at: None, reads: Arc::default() };
        let (found, broken, read) = run(read_all(&memory, ReadLimits { parts, part_bytes }));
        prop_assert!(broken.is_none(), "{broken:?}");
        prop_assert!(found == memory.objects.iter().map(events).collect::<Vec<_>>());
        prop_assert_eq!(read, memory.objects.iter().map(Bytes::len).sum::<usize>());
        prop_assert!(memory.reads.lock().unwrap().most <= parts);
    }

    #[test]
    fn a_failure_ends_it_with_an_error_behind_what_is_right(
        pages in prop::collection::vec(1..40_u32, 1..6),
        streamed: bool,
        damaged: bool,
        part_bytes in 1..5000_u64,
        parts in 1..9_usize,
        object: prop::sample::Index,
        at: prop::sample::Index,
    ) {
        let objects: Vec<Bytes> = pages.iter().enumerate().map(|(number, pages)| segment(number, *pages)).collect();
        let object = object.index(objects.len());
        let at = at.index(objects[object].len());
        let right: Vec<_> = objects.iter().map(events).collect();
        let mut memory = Memory { objects, streamed, fails_at: None, reads: Arc::default() };
        if damaged {
            let mut bytes = memory.objects[object].to_vec();
            bytes[at] ^= 1;
            memory.objects[object] = bytes.into();
        } else {
            memory.fails_at = Some((object, at));
        }
        let (found, broken, _) = run(read_all(&memory, ReadLimits { parts, part_bytes }));
        let broken = broken.expect("the failure went unnoticed");
        prop_assert_eq!(matches!(broken, Broken::Source(_)), !damaged);
        prop_assert_eq!(found.len(), object + 1);
        for (found, right) in found.iter().zip(&right) {
            prop_assert!(right.starts_with(found));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_objects_behind_a_failed_one_come_whole(
        pages in prop::collection::vec(1..40_u32, 2..6),
        streamed: bool,
        damaged: bool,
        part_bytes in 1..5000_u64,
        parts in 1..9_usize,
        object: prop::sample::Index,
        at: prop::sample::Index,
    ) {
        let objects: Vec<Bytes> = pages.iter().enumerate().map(|(number, pages)| segment(number, *pages)).collect();
        let object = object.index(objects.len() - 1);
        let at = at.index(objects[object].len());
        let right: Vec<_> = objects.iter().map(events).collect();
        let mut memory = Memory { objects, streamed, fails_at: None, reads: Arc::default() };
        if damaged {
            let mut bytes = memory.objects[object].to_vec();
            bytes[at] ^= 1;
            memory.objects[object] = bytes.into();
        } else {
            memory.fails_at = Some((object, at));
        }
        let found = run(async {
            let described = memory.described();
            let mut reading = ReadAhead::start(&memory, described.iter(), ReadLimits { parts, part_bytes });
            let mut found: Vec<Vec<SegmentEvent>> = vec![Vec::new(); right.len()];
            let mut ends = vec![None; right.len()];
            while let Some(batch) = reading.next(0).await {
                assert!(ends[batch.object].is_none(), "something comes behind the end of an object");
                found[batch.object].extend(batch.events);
                ends[batch.object] = batch.end.map(|end| end.is_ok());
            }
            let expected: Vec<_> = (0..right.len()).map(|number| Some(number != object)).collect();
            assert_eq!(ends, expected);
            found
        });
        for (number, (found, right)) in found.iter().zip(&right).enumerate() {
            prop_assert!(if number == object { right.starts_with(found) } else { found == right }, "object {number}");
        }
    }
}

#[test]
fn what_is_left_of_an_object_is_skipped() {
    let objects: Vec<Bytes> = (0..3).map(|number| segment(number, 50)).collect();
    let memory = Memory { objects, streamed: false, fails_at: None, reads: Arc::default() };
    run(async {
        let described = memory.described();
        let limits = ReadLimits { parts: 2, part_bytes: 1000 };
        let mut reading = ReadAhead::start(&memory, described.iter(), limits);
        assert_eq!(reading.next(0).await.unwrap().object, 0);
        assert_eq!(reading.next(2).await.unwrap().object, 2);
    });
}

#[test]
fn no_more_is_read_than_there_is_room_for() {
    let memory = Memory { objects: vec![segment(0, 2000)], streamed: false, fails_at: None, reads: Arc::default() };
    run(async {
        let described = memory.described();
        let reading = ReadAhead::start(&memory, described.iter(), ReadLimits { parts: 3, part_bytes: 10_000 });
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let most = memory.reads.lock().unwrap().most;
        assert!((1..=3).contains(&most), "{most}");
        drop(reading);
    });
}
