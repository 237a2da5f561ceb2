use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use openraft_rt::Oneshot;
use openraft_rt_tokio::TokioOneshot;
use seawall_proto::v1;

use super::{LogStore, READ_BYTES, decode_head};
use crate::consensus::live_state::LiveState;
use crate::consensus::payloads::Payloads;
use crate::consensus::snapshot::SnapshotFile;
use crate::consensus::state_machine::StateMachine;
use crate::consensus::types::{Entry, Member, Membership, Payload, Request, TypeConfig};
use crate::store::log::{LogFile, LogId, LogOptions};
use crate::store::position_log::PositionLog;
use crate::store::sled_kv::SledKv;

/// Pieces of a few entries, and no payload in memory.
const SMALL: LogOptions = LogOptions { piece_bytes: 600, cache_bytes: 0 };

fn store(dir: &Path, log: LogFile) -> LogStore {
    LogStore::new(log.clone(), Payloads::new(dir, log, None))
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(&dir.path().join("log"), SMALL).await.unwrap();
        let positions = PositionLog::open(dir.path(), &SledKv::opener()).await.unwrap();
        let live = Arc::new(LiveState::new(positions, log.clone()));
        let file = Arc::new(SnapshotFile::new(dir.path()));
        let store = store(dir.path(), log);
        Ok((dir, store, StateMachine::new(live, file)))
    }
}

#[tokio::test]
async fn keeps_openrafts_contract_of_log_and_state_machine() {
    seawall_host::real::install();
    Suite::test_all(Builder).await.unwrap();
}

fn entry(index: u64, payload: EntryPayload<Request, u64, Member>) -> Entry {
    let id = LogId { term: 3, node: u64::MAX, index };
    <Entry as openraft::entry::RaftEntry>::new(id.into(), payload)
}

async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    let (sender, done) = TokioOneshot::channel();
    store.append(entries, IOFlushed::signal(sender)).await.unwrap();
    done.await.unwrap().unwrap();
}

fn claim(database: &str) -> v1::Command {
    let claim = v1::ClaimCommand { database: database.to_owned(), ..Default::default() };
    v1::Command { command: Some(v1::command::Command::Claim(claim)) }
}

fn request(payload: &'static [u8]) -> EntryPayload<Request, u64, Member> {
    let payload = if payload.is_empty() { Payload::Empty } else { Payload::Bytes(Bytes::from_static(payload)) };
    EntryPayload::Normal(Request { command: claim("app"), payload })
}

#[tokio::test]
async fn entries_are_applied_without_payload_and_replicated_with_it() {
    seawall_host::real::install();
    let dir = tempfile::tempdir().unwrap();
    let member = |configured_id| Member { configured_id, address: format!("node{configured_id}:7400") };
    let nodes: BTreeMap<u64, Member> = [(7, member(1)), (u64::MAX, member(2)), (9, member(3))].into();
    let membership = Membership::new(vec![[7, u64::MAX].into(), [7, 9].into()], nodes).unwrap();
    let entries = || {
        vec![
            entry(0, EntryPayload::Membership(membership.clone())),
            entry(1, EntryPayload::Blank),
            entry(2, request(b"the payload")),
            entry(3, request(b"")),
        ]
    };
    for is_reopened in [false, true] {
        let mut store = self::store(dir.path(), LogFile::open(dir.path(), SMALL).await.unwrap());
        if !is_reopened {
            append(&mut store, entries()).await;
        }
        assert_eq!(store.limited_get_log_entries(0, 4).await.unwrap(), entries());
        assert_eq!(store.limited_get_log_entries(2, 9).await.unwrap(), entries()[2..]);
        let mut expected = entries();
        expected[2] =
            entry(2, EntryPayload::Normal(Request { command: claim("app"), payload: Payload::Elsewhere { len: 11 } }));
        assert_eq!(store.try_get_log_entries(..).await.unwrap(), expected);
        assert_eq!(store.try_get_log_entries(1..=2).await.unwrap(), expected[1..=2]);
    }
}

#[tokio::test]
async fn replication_reads_a_bounded_number_of_bytes() {
    seawall_host::real::install();
    let dir = tempfile::tempdir().unwrap();
    let mut store = self::store(dir.path(), LogFile::open(dir.path(), SMALL).await.unwrap());
    static PART: [u8; 512 << 10] = [1; 512 << 10];
    append(&mut store, (0..10).map(|index| entry(index, request(&PART))).collect()).await;
    let some = store.limited_get_log_entries(4, 10).await.unwrap();
    assert!((1..=READ_BYTES / PART.len()).contains(&some.len()), "{}", some.len());
    assert_eq!(store.try_get_log_entries(4..10).await.unwrap().len(), 6);
}

#[tokio::test]
async fn an_entry_under_another_id_is_refused() {
    seawall_host::real::install();
    let dir = tempfile::tempdir().unwrap();
    let log = LogFile::open(dir.path(), SMALL).await.unwrap();
    let mut store = self::store(dir.path(), log.clone());
    append(&mut store, vec![entry(0, EntryPayload::Blank)]).await;
    let mut other = log.heads(0..1).remove(0);
    other.id.term += 1;
    assert!(decode_head(other).is_err());
}
