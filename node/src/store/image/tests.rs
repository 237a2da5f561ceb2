//! Images against a naive model, through crashes, damage and moves between nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use proptest::prelude::*;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::task;
use seawall_host::time;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageNumber, Position, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent};

use super::testing::{Change, Model, change};
use super::{Image, ImageError, ImageOptions, ImageStore};

const LIMIT: Duration = Duration::from_secs(60);
/// What a disk writes whole.
const SECTOR: usize = 512;

fn database() -> DatabaseName {
    "tenants/app".parse().unwrap()
}

async fn open(root: &Path) -> Image {
    let options = ImageOptions { fold_bytes: 4096, ..ImageOptions::default() };
    let store = ImageStore::open(root.to_owned(), options).await.unwrap();
    store.get_or_create(&database(), Lineage(1)).await.unwrap()
}

async fn fold(image: &Image, parts: &[Bytes]) -> Result<(), ImageError> {
    image.fold(stream::iter(parts.to_vec()).map(Ok)).await.map(|_| ())
}

/// Every page and hash of an image, which must be at `model`.
async fn assert_is(image: &Image, model: &Model) {
    let hold = image.hold(LIMIT).await.unwrap();
    assert_eq!(hold.manifest().position, model.position());
    assert_eq!(hold.page_hashes(PageNumber(1), 1000).await.unwrap(), model.hashes());
    let parts: Vec<Bytes> = hold.snapshot().try_collect().await.unwrap();
    assert_eq!(&Model::from_snapshot(parts), model);
}

fn directory(root: &Path) -> PathBuf {
    root.join("tenants+app/@1")
}

async fn read(path: &Path) -> Vec<u8> {
    match disk::read_file(path, 1 << 30).await {
        Ok(bytes) => bytes.to_vec(),
        Err(_) => Vec::new(),
    }
}

async fn overwrite(path: &Path, contents: Vec<u8>) {
    let file = File::open(path, OpenMode::OpenOrCreate).await.unwrap();
    file.set_len(0).await.unwrap();
    file.write_at(0, vec![contents.into()]).await.unwrap();
}

/// The large files as of the last sync.
#[derive(Default)]
struct Synced([Vec<u8>; 2]);

const LARGE: [&str; 2] = ["image.0", "vector.0"];

impl Synced {
    async fn now(root: &Path) -> Self {
        Self([read(&directory(root).join(LARGE[0])).await, read(&directory(root).join(LARGE[1])).await])
    }

    /// Loses power: each sector written since the sync is there or not, and so are the lengths.
    async fn lose_power(&self, root: &Path, mut choice: u64) {
        let mut flip = || {
            choice = choice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            choice >> 63 == 1
        };
        for (name, synced) in LARGE.iter().zip(&self.0) {
            let path = directory(root).join(name);
            let current = read(&path).await;
            let len = if flip() { synced.len() } else { current.len() };
            let mut mixed = Vec::new();
            while mixed.len() < len {
                let source = if flip() { synced } else { &current };
                let sector = source.get(mixed.len()..).unwrap_or_default();
                let sector = &sector[..sector.len().min(SECTOR)];
                mixed.extend_from_slice(sector);
                mixed.resize(
                    mixed.len().next_multiple_of(SECTOR).max(mixed.len() + SECTOR * usize::from(sector.is_empty())),
                    0,
                );
            }
            mixed.truncate(len);
            overwrite(&path, mixed).await;
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Fold(Vec<Change>),
    Write,
    Checkpoint,
    Unload,
    LosePower(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => proptest::collection::vec(change(), 1..5).prop_map(Action::Fold),
        3 => Just(Action::Write),
        1 => Just(Action::Checkpoint),
        1 => Just(Action::Unload),
        3 => any::<u64>().prop_map(Action::LosePower),
    ]
}

/// Whatever may be read while a fold is done again is right; what was folded up to `reached` must be readable there.
async fn assert_is_or_recovers(image: &Image, model: &Model, reached: Txid) {
    match image.hold(LIMIT).await {
        Ok(hold) => {
            assert_eq!(hold.manifest().position, model.position());
            assert_eq!(hold.page_hashes(PageNumber(1), 1000).await.unwrap(), model.hashes());
            if let Ok(parts) = hold.snapshot().try_collect::<Vec<Bytes>>().await {
                assert_eq!(&Model::from_snapshot(parts), model);
            }
        }
        Err(ImageError::Recovering { .. }) => assert!(model.txid < reached),
        Err(error) => panic!("{error}"),
    }
}

async fn check_against_model(actions: Vec<Action>) {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut image = open(root).await;
    let mut synced = Synced::default();
    // What the log holds: the segments, and the state after each.
    let mut log: Vec<(Vec<Bytes>, Model)> = Vec::new();
    let mut model = Model::new();
    for action in actions.into_iter().chain([Action::LosePower(7)]) {
        match action {
            Action::Fold(changes) => {
                let segment = model.segment(&changes);
                fold(&image, &segment).await.unwrap();
                log.push((segment, model.clone()));
                assert_eq!(image.status().position, model.position());
            }
            Action::Write => {
                let mut state = image.shared.state.lock().await;
                image.shared.load_written(&mut state).await.unwrap();
            }
            Action::Checkpoint => {
                assert_eq!(image.checkpoint().await.unwrap().durable, model.txid);
                synced = Synced::now(root).await;
            }
            Action::Unload => image.unload_if_idle(Duration::ZERO),
            Action::LosePower(choice) => {
                // Folding again is interrupted once or twice too, before or after it became durable in part.
                for round in 0..=choice % 3 {
                    drop(image);
                    synced.lose_power(root, choice.rotate_left(round as u32)).await;
                    synced = Synced::now(root).await;
                    image = open(root).await;
                    let durable = image.status().durable;
                    let left: Vec<_> = log.iter().filter(|(_, after)| after.txid > durable).collect();
                    let is_last = round == choice % 3;
                    let count = if is_last { left.len() } else { (choice >> 8) as usize % (left.len() + 1) };
                    for (segment, after) in &left[..count] {
                        fold(&image, segment).await.unwrap();
                        assert_is_or_recovers(&image, after, model.txid).await;
                    }
                    if !is_last && choice & 16 == 0 {
                        image.checkpoint().await.unwrap();
                        synced = Synced::now(root).await;
                    }
                }
                if model.txid > Txid::NONE {
                    assert_is(&image, &model).await;
                }
            }
        }
    }
    assert_eq!(image.status().quarantined, None);
}

fn block_on(future: impl Future<Output = ()>) {
    seawall_host::real::install();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn is_exact_again_after_any_loss_of_power(actions in proptest::collection::vec(action(), 1..14)) {
        block_on(check_against_model(actions));
    }

    #[test]
    fn changes_since_an_earlier_position_bring_that_state_to_the_image(
        before in proptest::collection::vec(change(), 1..5), after in proptest::collection::vec(change(), 1..5)
    ) {
        block_on(async {
            let root = tempfile::tempdir().unwrap();
            let image = open(root.path()).await;
            let mut model = Model::new();
            fold(&image, &model.segment(&before)).await.unwrap();
            let earlier = model.clone();
            fold(&image, &model.segment(&after)).await.unwrap();
            let parts: Vec<Bytes> =
                image.hold(LIMIT).await.unwrap().changes_since(earlier.position()).try_collect().await.unwrap();
            let mut pages = if earlier.page_size == model.page_size { earlier.pages } else { Vec::new() };
            let mut decoder = SegmentDecoder::new();
            parts.into_iter().for_each(|part| decoder.push(part));
            while let Some(event) = decoder.next().unwrap() {
                match event {
                    SegmentEvent::Header(header) => {
                        assert_eq!((header.first, header.last), (earlier.txid.next(), model.txid));
                    }
                    SegmentEvent::Page { page, bytes, .. } => {
                        pages.resize((page.0 as usize).max(pages.len()), Vec::new());
                        pages[page.0 as usize - 1] = bytes.to_vec();
                    }
                    SegmentEvent::Commit(transaction) => pages.truncate(transaction.page_count as usize),
                    SegmentEvent::End(_) => break,
                }
            }
            assert_eq!(pages, model.pages);
        });
    }
}

fn grow(size: u32) -> Change {
    Change { size, writes: vec![(0, 1), (3, 9)], other_page_size: false }
}

/// An image with two segments, durable.
async fn two_segments(root: &Path) -> (Image, Model, Vec<Vec<Bytes>>) {
    let image = open(root).await;
    let mut model = Model::new();
    let segments = vec![model.segment(&[grow(20), grow(12)]), model.segment(&[grow(15)])];
    for segment in &segments {
        fold(&image, segment).await.unwrap();
    }
    image.checkpoint().await.unwrap();
    (image, model, segments)
}

async fn flip(path: &Path, offset: usize) {
    let mut bytes = read(path).await;
    bytes[offset] ^= 0x10;
    overwrite(path, bytes).await;
}

async fn assert_quarantined_and_rebuilt(root: &Path, image: Image, model: &Model, segments: &[Vec<Bytes>]) {
    assert!(image.status().quarantined.is_some());
    assert!(matches!(image.hold(LIMIT).await, Err(ImageError::Quarantined { .. })));
    assert!(matches!(fold(&image, &segments[0]).await, Err(ImageError::Quarantined { .. })));
    drop(image);
    let image = open(root).await;
    assert!(image.status().quarantined.is_some(), "it is known after a restart");
    image.reset().await.unwrap();
    for segment in segments {
        fold(&image, segment).await.unwrap();
    }
    assert_is(&image, model).await;
}

/// What was written beyond a checkpoint that was made while folding again is still known after the next crash.
#[tokio::test]
async fn a_checkpoint_in_the_middle_of_a_recovery_does_not_end_it() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, mut model, _) = two_segments(root.path()).await;
    let write = |page| Change { size: 15, writes: vec![(page, 1)], other_page_size: false };
    let (middle, end) = (model.segment(&[write(2)]), model.segment(&[write(5)]));
    fold(&image, &middle).await.unwrap();
    fold(&image, &end).await.unwrap();
    image.shared.load_written(&mut *image.shared.state.lock().await).await.unwrap();
    drop(image);
    for _ in 0..2 {
        let image = open(root.path()).await;
        // The first time it is folded, the second time it is there.
        fold(&image, &middle).await.unwrap();
        assert!(matches!(image.hold(LIMIT).await, Err(ImageError::Recovering { .. })));
        image.checkpoint().await.unwrap();
    }
    let image = open(root.path()).await;
    fold(&image, &end).await.unwrap();
    assert_is(&image, &model).await;
}

/// Pages behind a gap have no place in the vector's file until the gap is closed.
#[tokio::test]
async fn a_transaction_larger_than_memory_may_bring_its_pages_in_any_order() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let image = open(root.path()).await;
    let mut model = Model::new();
    fold(&image, &model.segment(&[Change { size: 1000, writes: Vec::new(), other_page_size: false }])).await.unwrap();
    image.checkpoint().await.unwrap();
    drop(image);
    assert_is(&open(root.path()).await, &model).await;
}

#[tokio::test]
async fn a_rotten_page_quarantines_the_image_before_it_goes_out() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, model, segments) = two_segments(root.path()).await;
    flip(&directory(root.path()).join("image.0"), 1024 * 7 + 5).await;
    let snapshot: Result<Vec<Bytes>, _> = image.hold(LIMIT).await.unwrap().snapshot().try_collect().await;
    let error = snapshot.unwrap_err();
    assert!(matches!(error, ImageError::Quarantined { .. }) && error.to_string().contains("page 8"), "{error}");
    assert_quarantined_and_rebuilt(root.path(), image, &model, &segments).await;
}

#[tokio::test]
async fn a_rotten_vector_is_made_again_from_sound_pages() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, model, _) = two_segments(root.path()).await;
    drop(image);
    flip(&directory(root.path()).join("vector.0"), 16 * 3 + 1).await;
    flip(&directory(root.path()).join("vector.0"), 16 * 8 + 2).await;
    let image = open(root.path()).await;
    assert_is(&image, &model).await;
    // On the disk it is mended, too.
    image.checkpoint().await.unwrap();
    drop(image);
    let mended = read(&directory(root.path()).join("vector.0")).await;
    let hashes = mended.chunks(16).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap()));
    assert_eq!(hashes.collect::<Vec<_>>(), model.hashes());
    assert_is(&open(root.path()).await, &model).await;
}

#[tokio::test]
async fn a_rotten_vector_whose_sum_is_right_is_made_again_when_its_pages_are_read() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, model, _) = two_segments(root.path()).await;
    drop(image);
    for entry in [3, 8] {
        flip(&directory(root.path()).join("vector.0"), 16 * entry + 1).await;
    }
    let image = open(root.path()).await;
    let snapshot: Result<Vec<Bytes>, _> = image.hold(LIMIT).await.unwrap().snapshot().try_collect().await;
    assert!(matches!(snapshot, Err(ImageError::HoldExpired { .. })), "{snapshot:?}");
    assert_is(&image, &model).await;
}

#[tokio::test]
async fn a_rotten_vector_beside_a_rotten_page_quarantines_the_image_when_it_is_loaded() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, model, segments) = two_segments(root.path()).await;
    drop(image);
    flip(&directory(root.path()).join("vector.0"), 16 * 3 + 1).await;
    flip(&directory(root.path()).join("image.0"), 1024 * 7 + 5).await;
    let image = open(root.path()).await;
    assert!(matches!(image.hold(LIMIT).await, Err(ImageError::Quarantined { .. })));
    assert_quarantined_and_rebuilt(root.path(), image, &model, &segments).await;
}

#[tokio::test]
async fn a_rotten_meta_file_quarantines_the_image() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, model, segments) = two_segments(root.path()).await;
    drop(image);
    flip(&directory(root.path()).join("meta"), 30).await;
    assert_quarantined_and_rebuilt(root.path(), open(root.path()).await, &model, &segments).await;
}

#[tokio::test]
async fn a_segment_that_contradicts_its_pages_quarantines_the_image() {
    seawall_host::real::install();
    for is_gap in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (image, model, segments) = two_segments(root.path()).await;
        let poison = if is_gap {
            // It grows to 17 pages but brings only the last; a page that is absent and one that hashes to nothing
            // would have one checksum.
            let hash = Checksum::of_page(PageNumber(17), &vec![5; model.page_size.bytes() as usize]);
            model.claim(&[(17, 5)], 17, model.checksum() ^ hash)
        } else {
            model.claim(&[(2, 5)], 15, Checksum(99))
        };
        assert!(matches!(fold(&image, &poison).await, Err(ImageError::Quarantined { .. })), "{is_gap}");
        assert_quarantined_and_rebuilt(root.path(), image, &model, &segments).await;
    }
}

#[tokio::test]
async fn damaged_bytes_from_the_log_leave_the_image_as_it_was() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, mut model, _) = two_segments(root.path()).await;
    let before = model.clone();
    let segment = model.segment(&[grow(40)]);
    let whole: Vec<u8> = segment.iter().flatten().copied().collect();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(matches!(fold(&image, &[damaged.into()]).await, Err(ImageError::Segment { .. })), "{at}");
        let cut = Bytes::copy_from_slice(&whole[..at]);
        assert!(matches!(fold(&image, &[cut]).await, Err(ImageError::Segment { .. })), "{at}");
    }
    // Parts of it may be in the files by now, and nothing else is lost.
    assert_eq!(image.status().durable, before.txid);
    fold(&image, &segment).await.unwrap();
    assert_is(&image, &model).await;
}

#[tokio::test]
async fn an_image_moves_to_another_node() {
    seawall_host::real::install();
    let (root, other_root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (image, model, _) = two_segments(root.path()).await;
    let store = ImageStore::open(root.path().to_owned(), ImageOptions::default()).await.unwrap();
    let other = ImageStore::open(other_root.path().to_owned(), ImageOptions::default()).await.unwrap();
    drop(image);
    let (manifest, bytes) = store.export(&database(), Lineage(1), LIMIT).await.unwrap();
    let whole: Vec<Bytes> = bytes.try_collect().await.unwrap();
    let pieces = |parts: Vec<Bytes>| stream::iter(parts).map(Ok);

    let mut cut = whole.clone();
    cut.pop();
    assert!(matches!(other.import(&database(), manifest, pieces(cut)).await, Err(ImageError::Segment { .. })));
    let elsewhere = Position { checksum: Checksum(1), ..manifest.position };
    let wrong = super::ImageManifest { position: elsewhere, ..manifest };
    assert!(other.import(&database(), wrong, pieces(whole.clone())).await.is_err());
    assert_eq!(other.get(&database(), Lineage(1)).unwrap().status().position.txid, Txid::NONE);

    let imported = other.import(&database(), manifest, pieces(whole)).await.unwrap();
    assert_is(&imported, &model).await;
    assert_eq!(imported.status().durable, model.txid);
    drop((imported, other));
    // It goes on from there, after a restart too.
    let image = open(other_root.path()).await;
    let mut model = model;
    fold(&image, &model.segment(&[grow(30)])).await.unwrap();
    assert_is(&image, &model).await;
}

#[tokio::test]
async fn a_hold_stops_folding_until_it_is_dropped_or_its_limit_has_passed() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, mut model, _) = two_segments(root.path()).await;
    let held = model.clone();
    let hold = image.hold(LIMIT).await.unwrap();
    let folding = {
        let (image, segment) = (image.clone(), model.segment(&[grow(30)]));
        task::spawn(async move { fold(&image, &segment).await })
    };
    let early = time::timeout(Duration::from_millis(30), image.wait_folded(model.txid, LIMIT)).await;
    assert!(early.is_err());
    assert_eq!(hold.page_hashes(PageNumber(1), 1000).await.unwrap(), held.hashes());
    drop(hold);
    folding.await.unwrap().unwrap();
    assert_is(&image, &model).await;

    let hold = image.hold(Duration::from_millis(20)).await.unwrap();
    fold(&image, &model.segment(&[grow(31)])).await.unwrap();
    assert!(matches!(hold.page_hashes(PageNumber(1), 1).await, Err(ImageError::HoldExpired { .. })));
    assert_is(&image, &model).await;
}

#[tokio::test]
async fn who_was_told_of_a_held_position_finds_it_though_a_fold_waits() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, mut model, _) = two_segments(root.path()).await;
    let told = image.hold(Duration::from_secs(20)).await.unwrap();
    let position = told.manifest().position;
    let folding = {
        let (image, segment) = (image.clone(), model.segment(&[grow(30)]));
        task::spawn(async move { fold(&image, &segment).await })
    };
    let early = time::timeout(Duration::from_millis(30), image.wait_folded(model.txid, LIMIT)).await;
    assert!(early.is_err());
    // Longer than the first, so that it would have to let the fold go first.
    let outlasting = Duration::from_secs(100);
    assert!(time::timeout(Duration::from_millis(30), image.hold(outlasting)).await.is_err());
    let found = time::timeout(LIMIT, image.hold_at(position, outlasting)).await.unwrap().unwrap();
    let beside = time::timeout(LIMIT, image.hold_alongside(outlasting)).await.unwrap().unwrap();
    assert_eq!([&found, &beside].map(|hold| hold.manifest().position), [position; 2]);
    drop((told, found, beside));
    folding.await.unwrap().unwrap();
    assert_is(&image, &model).await;
}

#[tokio::test]
async fn waiting_for_a_txid_ends_at_the_fold_or_at_its_limit() {
    seawall_host::real::install();
    let root = tempfile::tempdir().unwrap();
    let (image, mut model, _) = two_segments(root.path()).await;
    let next = model.txid.next();
    let late = image.wait_folded(next, Duration::from_millis(20)).await;
    assert!(matches!(late, Err(ImageError::Behind { wanted, .. }) if wanted == next));
    let waiting = {
        let image = image.clone();
        task::spawn(async move { image.wait_folded(next, LIMIT).await })
    };
    fold(&image, &model.segment(&[grow(3)])).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().position, model.position());
}
