//! Proving every state that one place leads to, from the hashes of its pages.

use std::collections::{BTreeMap, BTreeSet};

use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::Level;
use seawall_proto::position::{PageSize, Txid};
use seawall_proto::segment::{SegmentEvent, SegmentHeader, SegmentKind, Transaction};

use super::super::outcome::Progress;
use super::super::plan::{is_snapshot, keeps_transactions};
use super::super::read_ahead::{Broken, ReadAhead, ReadLimits};
use super::super::source::{RestoreSource, SourceError, SourceObject};
use super::report::{Finding, Report};
use crate::store::image::PageVector;

/// Why what an object says is not proven, though it is whole.
const UNPROVEN: &str = "it is whole, but nothing there leads to the state it continues";

/// Why an object was not read to its end.
enum Fault {
    /// It is not what it should be.
    Damaged(String),
    /// It could not be read, or is not there any more: a node's image or log that went on.
    Source(SourceError),
}

impl From<String> for Fault {
    fn from(cause: String) -> Self {
        Self::Damaged(cause)
    }
}

/// A database at one txid, as the hashes of its pages; none at txid 0.
#[derive(Clone)]
pub(super) struct State {
    txid: Txid,
    pages: Option<(PageSize, PageVector<Checksum>)>,
}

impl State {
    pub(super) const EMPTY: Self = Self { txid: Txid::NONE, pages: None };

    fn checksum(&self) -> Checksum {
        self.pages.as_ref().map_or(Checksum::EMPTY, |(_, vector)| vector.sum())
    }

    /// The pages, which begin anew where the page size changes.
    fn pages_of(&mut self, page_size: PageSize) -> &mut PageVector<Checksum> {
        let kept = self.pages.take().filter(|(size, _)| *size == page_size);
        &mut self.pages.insert(kept.unwrap_or_else(|| (page_size, PageVector::new(page_size)))).1
    }
}

/// Proves the objects of one lineage in one place.
///
/// It goes from state to state in the order of txids: along the log while that goes on, else to the nearest state that
/// a merged object or a snapshot gives. Merged objects are proven from the state they continue when that is passed.
pub(super) struct Prover<'a> {
    source: &'a dyn RestoreSource,
    progress: &'a dyn Progress,
    limits: ReadLimits,
    objects: &'a [SourceObject],
    report: &'a mut Report,
    /// Objects of the log that were not read yet: first, last, index.
    logs: BTreeSet<(Txid, Txid, usize)>,
    /// Merged objects that were not read yet: the state they continue, index.
    merged: BTreeSet<(Txid, usize)>,
    /// Snapshots that were not read yet: their state, index.
    snapshots: BTreeSet<(Txid, usize)>,
    /// States that snapshots and merged objects name.
    landmarks: BTreeSet<Txid>,
    /// The checksums of states that were proven and that an object may yet name.
    proven: BTreeMap<Txid, Checksum>,
    /// The newest state that was proven along the way.
    at: Txid,
    /// States beyond it that merged objects give.
    ahead: BTreeMap<Txid, State>,
}

impl<'a> Prover<'a> {
    /// For the objects with the indexes in `group`.
    pub(super) fn new(
        source: &'a dyn RestoreSource,
        progress: &'a dyn Progress,
        limits: ReadLimits,
        objects: &'a [SourceObject],
        group: &[usize],
        report: &'a mut Report,
    ) -> Self {
        let mut prover = Self {
            source,
            progress,
            limits,
            objects,
            report,
            logs: BTreeSet::new(),
            merged: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            landmarks: BTreeSet::new(),
            proven: BTreeMap::new(),
            at: Txid::NONE,
            ahead: BTreeMap::new(),
        };
        for index in group.iter().copied() {
            let (object, name) = (&objects[index], &objects[index].name);
            if keeps_transactions(object) {
                prover.logs.insert((name.first, name.last, index));
                continue;
            }
            prover.landmarks.insert(name.last);
            if is_snapshot(object) {
                prover.snapshots.insert((name.last, index));
            } else {
                prover.merged.insert((Txid(name.first.0 - 1), index));
            }
        }
        prover
    }

    /// Reads them all.
    pub(super) async fn run(mut self) {
        let mut state = Some(State::EMPTY);
        loop {
            self.follow_log(&mut state).await;
            state = self.jump().await;
            if state.is_none() {
                break;
            }
        }
        for (_, _, index) in std::mem::take(&mut self.logs) {
            self.read_alone(index).await;
        }
        for (_, index) in std::mem::take(&mut self.merged) {
            self.read_alone(index).await;
        }
        for (_, index) in std::mem::take(&mut self.snapshots) {
            drop(self.read(index, State::EMPTY, false).await);
        }
    }

    /// Goes along the log as far as it leads.
    async fn follow_log(&mut self, state: &mut Option<State>) {
        while let Some(&(first, last, index)) = self.logs.first() {
            if last <= self.at {
                self.logs.pop_first();
                self.read_alone(index).await;
            } else if first <= self.at.next()
                && let Some(start) = state.take()
            {
                self.logs.pop_first();
                *state = self.read(index, start, true).await;
            } else {
                return;
            }
        }
    }

    /// The nearest state beyond this one that something gives.
    async fn jump(&mut self) -> Option<State> {
        loop {
            let snapshot = self.snapshots.range((self.at.next(), 0)..).next().copied();
            let merged = self.ahead.keys().next().copied();
            match snapshot {
                Some((txid, index)) if merged.is_none_or(|merged| txid < merged) => {
                    self.snapshots.remove(&(txid, index));
                    if let Some(state) = self.read(index, State::EMPTY, true).await {
                        return Some(state);
                    }
                }
                _ => {
                    let (txid, state) = self.ahead.pop_first()?;
                    self.report.states += 1;
                    self.passed(txid);
                    let mut branches = Vec::new();
                    self.branch_off(&state, &mut branches);
                    self.prove_branches(branches).await;
                    return Some(state);
                }
            }
        }
    }

    /// Takes note that the state at `txid` is reached.
    fn passed(&mut self, txid: Txid) {
        self.at = txid;
        self.ahead = self.ahead.split_off(&txid.next());
    }

    /// Adds the merged objects that continue `state`.
    fn branch_off(&mut self, state: &State, branches: &mut Vec<(usize, State)>) {
        while let Some(&(from, index)) = self.merged.range((state.txid, 0)..).next()
            && from == state.txid
        {
            self.merged.remove(&(from, index));
            branches.push((index, state.clone()));
        }
    }

    async fn prove_branches(&mut self, branches: Vec<(usize, State)>) {
        for (index, state) in branches {
            if let Some(state) = self.read(index, state, false).await
                && state.txid > self.at
            {
                self.ahead.insert(state.txid, state);
            }
        }
    }

    /// Proves an object from the state that it continues, which is `on_the_way` or off it; answers where it leads.
    async fn read(&mut self, index: usize, start: State, on_the_way: bool) -> Option<State> {
        let mut branches = Vec::new();
        let mut reading = Reading { header: None, state: Some(start), is_proven: true };
        let read = self.read_all(index, &mut reading, on_the_way.then_some(&mut branches)).await;
        if let Err(fault) = read {
            self.blame(index, fault);
            reading.state = None;
        }
        // Off the way, so that they come back here without going further.
        Box::pin(self.prove_branches(branches)).await;
        reading.state
    }

    /// Reads an object of which only what is known already can be proven.
    async fn read_alone(&mut self, index: usize) {
        let mut reading = Reading { header: None, state: None, is_proven: true };
        let read = self.read_all(index, &mut reading, None).await;
        match read {
            Err(fault) => self.blame(index, fault),
            Ok(()) if !reading.is_proven => {
                self.report.unproven.push(Finding::new(&self.objects[index], UNPROVEN));
            }
            Ok(()) => {}
        }
    }

    fn blame(&mut self, index: usize, fault: Fault) {
        let object = &self.objects[index];
        match fault {
            Fault::Damaged(cause) => self.report.damaged.push(Finding::new(object, cause)),
            Fault::Source(error @ SourceError::Changed { .. }) => {
                self.report.unproven.push(Finding::unread(object, error));
            }
            Fault::Source(error) => self.report.unreadable.push(Finding::unread(object, error)),
        }
    }

    async fn read_all(
        &mut self,
        index: usize,
        reading: &mut Reading,
        mut branches: Option<&mut Vec<(usize, State)>>,
    ) -> Result<(), Fault> {
        let object = &self.objects[index];
        let mut ahead = ReadAhead::start(self.source, std::iter::once(object), self.limits);
        while let Some(batch) = ahead.next(0).await {
            self.report.bytes += batch.read as u64;
            self.progress.read(batch.read as u64);
            for event in batch.events {
                let Some(transaction) = reading.take(object, event)? else { continue };
                self.compare(reading, &transaction)?;
                if let (Some(branches), Some(state)) = (&mut branches, &reading.state)
                    && state.txid == transaction.txid
                    && state.txid > self.at
                {
                    self.report.states += 1;
                    self.passed(transaction.txid);
                    self.branch_off(state, branches);
                }
            }
            match batch.end {
                None => {}
                Some(Ok(())) => return Ok(()),
                Some(Err(Broken::Source(error))) => return Err(Fault::Source(error)),
                Some(Err(Broken::Content(error))) => return Err(Fault::Damaged(error.to_string())),
            }
        }
        Err(Fault::Damaged("reading it ended for no known reason".to_owned()))
    }

    /// Compares a transaction with what is known, and notes it if it is proven.
    fn compare(&mut self, reading: &mut Reading, transaction: &Transaction) -> Result<(), String> {
        let Transaction { txid, checksum_after, .. } = *transaction;
        match self.proven.get(&txid) {
            Some(known) if *known != checksum_after => {
                return Err(format!("it has checksum {checksum_after} after txid {txid}, where {known} was proven"));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let is_proven = reading.state.as_ref().is_some_and(|state| state.txid == txid);
        let is_named_again =
            self.landmarks.contains(&txid) || self.logs.first().is_some_and(|(first, _, _)| *first <= txid);
        if is_proven && is_named_again {
            self.proven.insert(txid, checksum_after);
        }
        reading.is_proven &= is_proven;
        Ok(())
    }
}

/// An object that is being read.
pub(super) struct Reading {
    header: Option<SegmentHeader>,
    /// The state that its transactions are proven from.
    state: Option<State>,
    /// Every transaction so far was.
    is_proven: bool,
}

impl Reading {
    /// Of an object that continues `state`.
    pub(super) fn of(state: State) -> Self {
        Self { header: None, state: Some(state), is_proven: true }
    }

    /// The state that was reached.
    pub(super) fn into_state(self) -> Option<State> {
        self.state
    }

    /// Takes the next event; answers the transaction that it ends.
    pub(super) fn take(&mut self, object: &SourceObject, event: SegmentEvent) -> Result<Option<Transaction>, String> {
        match event {
            SegmentEvent::Header(header) => {
                self.check_header(object, &header)?;
                self.header = Some(header);
                Ok(None)
            }
            SegmentEvent::Page { txid, page, bytes } => {
                let (Some(header), Some(state)) = (&self.header, &mut self.state) else { return Ok(None) };
                if txid > state.txid {
                    let pages = state.pages_of(header.page_size);
                    pages.put(page, Checksum::of_page(page, &bytes)).map_err(|error| error.to_string())?;
                }
                Ok(None)
            }
            SegmentEvent::Commit(transaction) => self.commit(object, &transaction).map(|()| Some(transaction)),
            SegmentEvent::End(_) => Ok(None),
        }
    }

    fn check_header(&self, object: &SourceObject, header: &SegmentHeader) -> Result<(), String> {
        let (name, SegmentHeader { lineage, first, last, kind, checksum_before, .. }) = (&object.name, *header);
        if (lineage, first, last) != (name.lineage, name.first, name.last) {
            return Err(format!("its content is that of @{lineage} {first}-{last}"));
        }
        if (kind == SegmentKind::Squashed) == (name.level == Level::Log) {
            return Err(format!("its content is not of level {}", name.level));
        }
        match &self.state {
            Some(state) if state.txid.next() == first && state.checksum() != checksum_before => {
                let (txid, reached) = (state.txid, state.checksum());
                Err(format!("it continues checksum {checksum_before}, txid {txid} has {reached}"))
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, object: &SourceObject, transaction: &Transaction) -> Result<(), String> {
        let Transaction { txid, page_count, checksum_after, .. } = *transaction;
        if txid == object.name.last && checksum_after != object.name.checksum_after {
            let named = object.name.checksum_after;
            return Err(format!("it has checksum {checksum_after} after txid {txid}, its name says {named}"));
        }
        let (Some(header), Some(state)) = (&self.header, &mut self.state) else { return Ok(()) };
        if txid <= state.txid {
            return Ok(());
        }
        let pages = state.pages_of(header.page_size);
        pages.commit(page_count).map_err(|error| error.to_string())?;
        if pages.sum() != checksum_after {
            return Err(format!("txid {txid} gives checksum {}, not {checksum_after}", pages.sum()));
        }
        state.txid = txid;
        Ok(())
    }
}
