//! A committed log without a cluster.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use seawall_host::time::UnixMillis;
use seawall_node::fanout::{CommittedLog, ImageSource, Merged, Pin};
use seawall_node::replica::{Applied, DatabaseView, Leadership, ProposeError, SegmentRecord};
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};
use seawall_proto::v1;
use tokio::sync::Notify;

const PAGE_SIZE: u32 = 512;
const LINEAGE: Lineage = Lineage(1);

#[derive(Default)]
struct Database {
    pages: BTreeMap<u32, Vec<u8>>,
    /// Which transaction last wrote each page.
    changed: BTreeMap<u32, Txid>,
    checksums: Vec<Checksum>,
    records: Vec<SegmentRecord>,
    destinations: BTreeMap<String, v1::DestinationProgress>,
    pins: BTreeMap<u64, Txid>,
}

#[derive(Default)]
struct State {
    databases: BTreeMap<DatabaseName, Database>,
    entries: BTreeMap<u64, Bytes>,
    next: u64,
    changes: u64,
    leads: bool,
    lost_proposals: u32,
    proposals: u32,
    largest_read: usize,
    destination_limit: Option<u64>,
    cluster_time: Option<UnixMillis>,
    begun: Option<Instant>,
}

/// Databases whose every commit is at once committed by everyone.
#[derive(Clone, Default)]
pub struct TestLog {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl TestLog {
    /// A log of which this node is the leader.
    pub fn leader() -> Self {
        let log = Self::default();
        log.state().leads = true;
        log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        state.changes += 1;
        drop(state);
        self.changed.notify_waiters();
        result
    }

    pub fn lead(&self, leads: bool) {
        self.change(|state| state.leads = leads);
    }

    /// The next proposals are taken in, but their proposer does not learn of it … nor are they applied.
    pub fn lose_proposals(&self, count: u32) {
        self.state().lost_proposals = count;
    }

    pub fn proposals(&self) -> u32 {
        self.state().proposals
    }

    /// The largest piece of the log that was asked for at a time.
    pub fn largest_read(&self) -> usize {
        self.state().largest_read
    }

    /// Forgets what destinations reported, as a leader that takes over from one that died before reporting.
    pub fn forget_progress(&self) {
        self.change(|state| state.databases.values_mut().for_each(|database| database.destinations.clear()));
    }

    /// Commits a segment of as many transactions, each writing some of `pages` pages.
    pub fn commit(&self, database: &DatabaseName, transactions: u64, pages: u32) -> Txid {
        self.change(|state| state.commit(database, transactions, pages))
    }

    /// Loses the bytes (not the records) of everything up to `txid`.
    pub fn drop_bytes(&self, database: &DatabaseName, txid: Txid) {
        self.change(|state| {
            let gone = state.databases[database].records.iter().filter(|record| record.last <= txid);
            let gone: Vec<u64> = gone.flat_map(|record| record.entries.clone()).collect();
            gone.iter().for_each(|entry| _ = state.entries.remove(entry));
        });
    }

    /// Loses bytes and records of everything up to `txid`.
    pub fn drop_records(&self, database: &DatabaseName, txid: Txid) {
        self.drop_bytes(database, txid);
        self.change(|state| {
            state.databases.get_mut(database).unwrap().records.retain(|record| record.last > txid);
        });
    }

    /// Puts the bytes of one segment in the place of those of another.
    pub fn confuse(&self, database: &DatabaseName, from: usize, to: usize) {
        self.change(|state| {
            let entry = |index: usize| state.databases[database].records[index].entries[0];
            let (from, to) = (entry(from), entry(to));
            let bytes = state.entries[&from].clone();
            state.entries.insert(to, bytes);
        });
    }

    /// What the database's checksum was after a transaction.
    pub fn checksum(&self, database: &DatabaseName, txid: Txid) -> Checksum {
        self.state().databases[database].checksums[txid.0 as usize]
    }

    pub fn watermark(&self, database: &DatabaseName, destination: &str) -> Txid {
        self.progress(database, destination).map_or(Txid::NONE, |progress| Txid(progress.watermark))
    }

    pub fn progress(&self, database: &DatabaseName, destination: &str) -> Option<v1::DestinationProgress> {
        self.state().databases.get(database)?.destinations.get(destination).cloned()
    }

    /// Bytes of log that a destination may keep; without it, any.
    pub fn limit_destinations(&self, bytes: u64) {
        self.change(|state| state.destination_limit = Some(bytes));
    }

    /// Stops the cluster's time there; it runs from two seconds after 1970 on, when commits are made.
    pub fn set_time(&self, ms: i64) {
        self.change(|state| state.cluster_time = Some(UnixMillis(ms)));
    }

    /// From where on the log is kept.
    pub fn pinned(&self, database: &DatabaseName) -> Vec<Txid> {
        self.state().databases[database].pins.values().copied().collect()
    }
}

impl State {
    fn commit(&mut self, name: &DatabaseName, transactions: u64, pages: u32) -> Txid {
        let database = self.databases.entry(name.clone()).or_default();
        if database.checksums.is_empty() {
            database.checksums.push(Checksum::EMPTY);
        }
        let first = Txid(database.checksums.len() as u64);
        let last = Txid(first.0 + transactions - 1);
        let before = *database.checksums.last().unwrap();
        let page_size = PageSize::new(PAGE_SIZE).unwrap();
        let header =
            SegmentHeader { page_size, lineage: LINEAGE, first, last, checksum_before: before, kind: SegmentKind::Log };
        let mut encoder = SegmentEncoder::new(header);
        let mut checksum = before;
        for txid in first.0..=last.0 {
            for number in (1..=pages).filter(|number| u64::from(*number) % 3 == txid % 3 || txid == first.0) {
                // Hard to compress, so that sizes mean something.
                let content: Vec<u8> = (0..PAGE_SIZE / 8)
                    .flat_map(|at| {
                        let seed = txid << 40 | u64::from(number) << 16 | u64::from(at);
                        Checksum::of_page(PageNumber(7), &seed.to_le_bytes()).0.to_le_bytes()
                    })
                    .collect();
                encoder.page(PageNumber(number), &content).unwrap();
                checksum ^= Checksum::of_page(PageNumber(number), &content);
                database.changed.insert(number, Txid(txid));
                if let Some(old) = database.pages.insert(number, content) {
                    checksum ^= Checksum::of_page(PageNumber(number), &old);
                }
            }
            let page_count = *database.pages.last_key_value().unwrap().0;
            encoder.commit(page_count, 1000 + txid as i64, checksum).unwrap();
            database.checksums.push(checksum);
        }
        let (parts, summary) = encoder.finish().unwrap();
        let whole = Bytes::from(parts.concat());
        let mut entries = Vec::new();
        for at in (0..whole.len()).step_by(512 << 10) {
            self.next += 1;
            self.entries.insert(self.next, whole.slice(at..whole.len().min(at + (512 << 10))));
            entries.push(self.next);
        }
        database.records.push(SegmentRecord {
            lineage: LINEAGE,
            epoch: Epoch(1),
            first,
            last,
            checksum_before: before,
            checksum_after: checksum,
            commit_time_ms: 1000 + last.0 as i64,
            page_size,
            page_count: summary.page_count,
            bytes: whole.len() as u64,
            entries,
        });
        last
    }
}

struct TestPin {
    log: TestLog,
    database: DatabaseName,
    id: u64,
}

impl Pin for TestPin {
    fn advance(&self, from: Txid) {
        let mut state = self.log.state();
        let pins = &mut state.databases.get_mut(&self.database).unwrap().pins;
        let pin = pins.get_mut(&self.id).unwrap();
        *pin = from.max(*pin);
    }

    fn bytes(&self) -> u64 {
        let state = self.log.state();
        let database = &state.databases[&self.database];
        let from = database.pins[&self.id];
        database.records.iter().filter(|record| record.last >= from).map(|record| record.bytes).sum()
    }
}

impl Drop for TestPin {
    fn drop(&mut self) {
        let mut state = self.log.state();
        state.databases.get_mut(&self.database).unwrap().pins.remove(&self.id);
    }
}

impl CommittedLog for TestLog {
    fn databases(&self) -> Vec<DatabaseName> {
        self.state().databases.keys().cloned().collect()
    }

    fn database(&self, name: &DatabaseName) -> Option<DatabaseView> {
        let state = self.state();
        let database = state.databases.get(name)?;
        let head = v1::Head {
            lineage: LINEAGE.0,
            txid: database.checksums.len() as u64 - 1,
            checksum: database.checksums.last()?.0,
            page_size: PAGE_SIZE,
            page_count: *database.pages.last_key_value()?.0,
            commit_time_ms: 0,
            wal: None,
        };
        let destinations = database.destinations.clone();
        Some(DatabaseView {
            head,
            epoch: Epoch(1),
            agent_id: 1,
            agent_label: String::new(),
            claimed_at: 0,
            destinations,
            verifications: BTreeMap::new(),
        })
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        async move {
            loop {
                let notified = self.changed.notified();
                let changes = self.state().changes;
                if changes != seen {
                    return changes;
                }
                notified.await;
            }
        }
        .boxed()
    }

    fn segments(&self, name: &DatabaseName, _: Lineage, after: Txid, limit: usize) -> Vec<SegmentRecord> {
        let state = self.state();
        let records = state.databases[name].records.iter();
        records.filter(|record| record.last > after).take(limit).cloned().collect()
    }

    fn segment_bytes<'a>(&'a self, record: &'a SegmentRecord) -> BoxFuture<'a, io::Result<Option<Vec<Bytes>>>> {
        async move {
            let mut state = self.state();
            let parts: Option<Vec<Bytes>> =
                record.entries.iter().map(|entry| state.entries.get(entry).cloned()).collect();
            let length = parts.iter().flatten().map(Bytes::len).sum();
            state.largest_read = state.largest_read.max(length);
            Ok(parts)
        }
        .boxed()
    }

    fn segment_part<'a>(&'a self, record: &'a SegmentRecord, part: usize) -> BoxFuture<'a, io::Result<Option<Bytes>>> {
        async move { Ok(self.state().entries.get(&record.entries[part]).cloned()) }.boxed()
    }

    fn propose(&self, command: v1::Command) -> BoxFuture<'static, Result<Applied, ProposeError>> {
        let log = self.clone();
        async move {
            let Some(v1::command::Command::Progress(progress)) = command.command else { panic!("{command:?}") };
            let mut state = log.state();
            state.proposals += 1;
            if !state.leads {
                return Err(ProposeError::NotLeader { leader_address: None });
            }
            if let Some(left) = state.lost_proposals.checked_sub(1) {
                state.lost_proposals = left;
                return Err(ProposeError::Unknown("the majority is away".to_owned()));
            }
            drop(state);
            log.change(|state| {
                for news in progress.destinations {
                    let database = state.databases.get_mut(&news.database.parse().unwrap()).unwrap();
                    let known = database.destinations.get(&news.destination).cloned().unwrap_or_default();
                    if news.detached {
                        if news.watermark == known.watermark {
                            let detached = v1::DestinationProgress { lineage: LINEAGE.0, detached: true, ..known };
                            database.destinations.insert(news.destination, detached);
                        }
                        continue;
                    }
                    assert!(known.watermark <= news.watermark, "a watermark fell");
                    let detached = known.detached && news.watermark == known.watermark;
                    let (floors, due) = (known.floors, known.retention_due_ms);
                    let retention_due_ms = if due == 0 { news.retention_due_ms } else { due };
                    let progress = v1::DestinationProgress { detached, floors, retention_due_ms, ..news };
                    database.destinations.insert(progress.destination.clone(), progress);
                }
                for decree in progress.retention {
                    let database = state.databases.get_mut(&decree.database.parse().unwrap()).unwrap();
                    let known = database.destinations.get_mut(&decree.destination).unwrap();
                    known.retention_due_ms = decree.retention_due_ms;
                    if !decree.floors.is_empty() {
                        known.floors = decree.floors;
                    }
                }
            });
            Ok(Applied::Done)
        }
        .boxed()
    }

    fn leadership(&self) -> Leadership {
        Leadership { term: 1, is_leader: self.state().leads, leader_address: None }
    }

    fn cluster_time(&self) -> Option<UnixMillis> {
        let mut state = self.state();
        let running = *state.begun.get_or_insert_with(Instant::now);
        let running = UnixMillis(2_000 + running.elapsed().as_millis() as i64);
        Some(state.cluster_time.unwrap_or(running))
    }

    fn pin(&self, name: &DatabaseName, _: &'static str, from: Txid) -> Box<dyn Pin> {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.databases.get_mut(name).unwrap().pins.insert(id, from);
        drop(state);
        Box::new(TestPin { log: self.clone(), database: name.clone(), id })
    }

    fn destination_limit(&self) -> u64 {
        self.state().destination_limit.unwrap_or(u64::MAX)
    }
}

impl ImageSource for TestLog {
    fn wait_ready(&self, _: &DatabaseName, _: Lineage, _: Txid) -> BoxFuture<'static, io::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn merged(
        &self,
        database: &DatabaseName,
        after: Position,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<Merged>> {
        let state = self.state();
        let database = &state.databases[database];
        let last = Txid(database.checksums.len() as u64 - 1);
        assert!(last >= at_least);
        assert_eq!(after.checksum, database.checksums[after.txid.0 as usize]);
        let checksum = *database.checksums.last().unwrap();
        let mut encoder = SegmentEncoder::new(SegmentHeader {
            page_size: PageSize::new(PAGE_SIZE).unwrap(),
            lineage: after.lineage,
            first: after.txid.next(),
            last,
            checksum_before: after.checksum,
            kind: SegmentKind::Squashed,
        });
        for (number, content) in database.pages.iter().filter(|(number, _)| database.changed[number] > after.txid) {
            encoder.page(PageNumber(*number), content).unwrap();
        }
        encoder.commit(*database.pages.last_key_value().unwrap().0, 1000 + last.0 as i64, checksum).unwrap();
        let (parts, summary) = encoder.finish().unwrap();
        let content = stream::iter(parts.into_iter().map(Ok)).boxed();
        let position = Position { lineage: after.lineage, txid: last, checksum };
        let size_hint = (after.txid == Txid::NONE).then_some(summary.bytes);
        async move { Ok(Merged { position, size_hint, content }) }.boxed()
    }
}
