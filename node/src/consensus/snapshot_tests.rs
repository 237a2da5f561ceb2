use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Epoch, PageSize};

use super::*;
use crate::store::sled_kv::SledKv;

fn record(txid: u64) -> SegmentRecord {
    SegmentRecord {
        lineage: Lineage(1),
        epoch: Epoch(1),
        first: Txid(txid),
        last: Txid(txid),
        checksum_before: Checksum(txid - 1),
        checksum_after: Checksum(txid),
        commit_time_ms: 7,
        page_size: PageSize::new(4096).unwrap(),
        page_count: 1,
        bytes: 100,
        entries: vec![txid + 100],
    }
}

#[tokio::test]
async fn a_manifest_does_not_grow_with_the_whole_history() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let positions = PositionLog::open(directory.path(), &SledKv::opener()).await.unwrap();
    let name: DatabaseName = "app".parse().unwrap();
    for txid in 1..=30 {
        positions.insert(&name, record(txid), txid + 100);
    }
    let head = v1::Head { lineage: 1, txid: 25, ..v1::Head::default() };
    let database = v1::DatabaseManifest { name: name.to_string(), head: Some(head), ..v1::DatabaseManifest::default() };
    let cluster = ClusterState::from_manifest(vec![database]).unwrap();
    for (held_from, expected) in [(0, 1..26), (111, 1..26), (112, 12..26), (200, 26..26)] {
        let data = encode(125, cluster.clone(), positions.clone(), held_from).await.unwrap();
        let records = decode(data).unwrap().records;
        let firsts: Vec<u64> = records.iter().map(|(_, record)| record.first.0).collect();
        assert_eq!(firsts, expected.collect::<Vec<_>>(), "the log begins at {held_from}");
    }
}

#[tokio::test]
async fn a_manifest_says_who_was_removed() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let positions = PositionLog::open(directory.path(), &SledKv::opener()).await.unwrap();
    let mut cluster = ClusterState::default();
    cluster.retire([7, 3]);
    let data = encode(1, cluster.clone(), positions, 0).await.unwrap();
    assert_eq!(decode(data).unwrap().cluster, cluster);
}

#[tokio::test]
async fn a_bit_that_rots_anywhere_is_noticed() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let file = SnapshotFile::new(directory.path());
    let membership = openraft::Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
    let last_log_id = Some(LogId { term: 2, node: 1, index: 9 }.into());
    let meta = openraft::storage::SnapshotMeta {
        last_log_id,
        last_membership: openraft::StoredMembership::new(last_log_id, membership),
    };
    let manifest = Bytes::from_static(b"what was agreed on");
    assert!(file.save(&meta, &manifest).await.unwrap());
    assert_eq!(file.covered(), last_log_id.map(LogId::from));
    let there = file.load().await.unwrap().unwrap();
    assert_eq!((there.meta, there.snapshot), (meta, manifest));

    let path = directory.path().join(FILE);
    let whole = disk::read_file(&path, 4096).await.unwrap();
    for bit in 0..whole.len() * 8 {
        let mut rotten = whole.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        disk::replace_file(&path, rotten.into()).await.unwrap();
        assert!(file.load().await.is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        disk::replace_file(&path, whole.slice(..length)).await.unwrap();
        assert!(file.load().await.is_err(), "{length} bytes");
    }
}

#[tokio::test]
async fn what_has_rotted_is_replaced_unless_it_is_newer() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let file = SnapshotFile::new(directory.path());
    let meta = |index| openraft::storage::SnapshotMeta {
        last_log_id: Some(LogId { term: 2, node: 1, index }.into()),
        ..Default::default()
    };
    let manifest = Bytes::from_static(b"what was agreed on");
    let rot = async || disk::replace_file(&directory.path().join(FILE), Bytes::from_static(b"?")).await.unwrap();
    assert!(file.save(&meta(9), &manifest).await.unwrap());
    assert!(!file.save(&meta(9), &manifest).await.unwrap());
    rot().await;
    assert!(file.save(&meta(10), &manifest).await.unwrap());
    assert_eq!(file.load().await.unwrap().unwrap().meta, meta(10));
    rot().await;
    assert!(!file.replace(&meta(9), &manifest).await.unwrap());
    assert!(file.load().await.is_err());
    assert!(file.replace(&meta(10), &manifest).await.unwrap());
    assert_eq!(file.load().await.unwrap().unwrap().meta, meta(10));
}
