//! One verification of one database at one destination.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use seawall_host::probe::sometimes;
use seawall_host::{random, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use super::context::Context;
use super::expected::{Expected, Hole, first_transaction, lost};
use super::findings::Findings;
use super::healer::{Healer, Kind, NotPut, Put, snapshot_name};
use super::integrity;
use super::pace::PacedSource;
use super::proof::Unproven;
use super::sources::{Source, fill, sources};
use crate::replica::SegmentRecord;
use crate::restore::plan::{self, Goal};
use crate::restore::{
    Breadth, DestinationSource, FaultCause, Reached, RestoreSource, SourceError, SourceObject, list_segments,
    prove_chain,
};
use crate::state::is_below;

/// Earlier states that are proven beside the newest one.
const EARLIER: usize = 2;
/// Objects beyond the watermark that are read by themselves.
const AHEAD: usize = 4;
/// Records of the position log looked at in one turn.
const RECORDS: usize = 5_000;
/// What is not listed is looked for once more after this long: a listing may be of the past.
const LIST_AGAIN: Duration = Duration::from_secs(2);
/// Another destination that has not listed its objects after this long has nothing to give.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// Names remembered at most, for each database.
const REMEMBERED: usize = 4_096;

/// What is remembered between verifications, as long as this node leads.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Objects that were proven since all of them were: the next states are picked elsewhere.
    proven: BTreeSet<String>,
    /// Objects that are damaged and could not be replaced.
    damaged: Vec<ObjectName>,
}

/// Why a verification came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unverified {
    /// The destination could not be listed or read.
    #[error("{0}")]
    Place(String),
    /// Another node leads.
    #[error("this node no longer leads")]
    NotLeader,
}

impl From<SourceError> for Unverified {
    fn from(error: SourceError) -> Self {
        Self::Place(error.to_string())
    }
}

/// Verifies a database at the destination with this number, and heals what it can; `None` if nothing is there, nor
/// should be.
pub(super) async fn verify(
    context: &Context,
    database: &DatabaseName,
    place: usize,
    memory: &mut Memory,
) -> Result<Option<v1::VerificationResult>, Unverified> {
    let named = &context.places[place].named;
    let Some(view) = context.replica.database(database) else { return Ok(None) };
    let lineage = Lineage(view.head.lineage);
    // Before the first upload is agreed on there may be objects all the same, one of which may be in its way.
    let progress = view.destinations.get(&named.name).filter(|progress| progress.lineage == lineage.0);
    let promised = |number: fn(&v1::DestinationProgress) -> u64| Txid(progress.map_or(0, number));
    let floor = progress.and_then(|progress| progress.floors.iter().find(|floors| floors.lineage == lineage.0));
    let before = view.verifications.get(&named.name);
    let known = before.filter(|before| before.lineage == lineage.0);
    let expected = Expected {
        lineage,
        watermark: promised(|progress| progress.watermark),
        snapshot: promised(|progress| progress.snapshot),
        first: Txid(known.map_or(0, |known| known.first_txid)),
        floor: Txid(floor.map_or(0, |floors| floors.level_zero)),
    };
    let source = PacedSource {
        inner: DestinationSource::new(Arc::clone(&named.destination), database.clone()),
        pace: Arc::clone(&context.places[place].pace),
    };
    let mut visit = Visit {
        context,
        database,
        place,
        source: &source,
        healer: Healer { context, database, place },
        expected,
        objects: Vec::new(),
        others: None,
        bad: BTreeSet::new(),
        replaced: BTreeSet::new(),
        wants_snapshot: false,
        findings: Findings::new(database, &named.name),
    };
    visit.run(memory, known.map_or(0, |known| known.lost_transactions)).await?;
    if visit.wants_snapshot {
        sometimes("fresh snapshot because the newest was lost");
        (context.request_snapshot)(database, &named.name);
    }
    let names = visit.names();
    let first =
        [expected.first, first_transaction(&names, lineage)].into_iter().filter(|txid| *txid > Txid::NONE).min();
    let findings = &visit.findings;
    Ok(Some(v1::VerificationResult {
        database: database.to_string(),
        destination: named.name.clone(),
        lineage: lineage.0,
        txid: findings.proven.0,
        time_ms: time::UnixMillis::now().0.max(before.map_or(i64::MIN, |before| before.time_ms.saturating_add(1))),
        problems: findings.problems(),
        text: findings.text(),
        damaged: visit.bad.len() as u64,
        healed: before.map_or(0, |before| before.healed) + findings.healed,
        lost_transactions: findings.lost_transactions,
        first_txid: first.unwrap_or_default().0,
    }))
}

struct Visit<'a> {
    context: &'a Context,
    database: &'a DatabaseName,
    place: usize,
    source: &'a dyn RestoreSource,
    healer: Healer<'a>,
    expected: Expected,
    /// What is there.
    objects: Vec<SourceObject>,
    /// What the other destinations list, once it was asked for.
    others: Option<Vec<(usize, Vec<ObjectName>)>>,
    /// Objects, by their names, that are no part of any chain: damaged, and not to be replaced.
    bad: BTreeSet<String>,
    /// Objects, by their names, that were put during this verification: none is put twice.
    replaced: BTreeSet<String>,
    wants_snapshot: bool,
    findings: Findings,
}

impl Visit<'_> {
    async fn run(&mut self, memory: &mut Memory, known_lost: u64) -> Result<(), Unverified> {
        self.list().await?;
        self.look_again(memory).await?;
        self.look_ahead(memory).await?;
        let mut lost_now = lost(&self.names(), &self.expected);
        if !lost_now.is_nothing() {
            time::sleep(LIST_AGAIN).await;
            self.list().await?;
            lost_now = lost(&self.names(), &self.expected);
        }
        let mut unfilled = Vec::new();
        for hole in lost_now.holes {
            unfilled.extend(self.fill(hole).await?);
        }
        self.findings.lost_history(&unfilled, known_lost);
        if lost_now.snapshot {
            self.replace_newest_snapshot().await?;
        }
        let Expected { lineage, watermark, .. } = self.expected;
        if watermark == Txid::NONE {
            // Nothing is promised yet.
        } else if self.prove(lineage, watermark, memory).await?.is_some() {
            self.findings.proven = watermark;
            if let Some(problem) = integrity::check(self.context, self.database, self.place, lineage, watermark).await {
                self.findings.problem(problem);
            }
        } else {
            self.findings.problem(format!("txid {watermark} cannot be rebuilt: a fresh snapshot was asked for"));
            self.wants_snapshot = true;
        }
        for _ in 0..EARLIER {
            let Some((lineage, txid)) = self.pick(memory) else { break };
            let reached = self.prove(lineage, txid, memory).await?;
            if reached.is_some() && lineage == self.expected.lineage {
                self.findings.proven = self.findings.proven.max(txid);
            }
        }
        memory.damaged = self.names().into_iter().filter(|name| self.bad.contains(&name.to_string())).collect();
        Ok(())
    }

    fn names(&self) -> Vec<ObjectName> {
        self.objects.iter().map(|object| object.name).collect()
    }

    async fn list(&mut self) -> Result<(), Unverified> {
        self.objects = self.source.list(Breadth::Wide).await?.objects;
        // What may be deleted any moment is neither proven nor missed.
        let view = self.context.replica.database(self.database);
        let name = &self.context.places[self.place].named.name;
        let progress = view.as_ref().and_then(|view| view.destinations.get(name));
        let floors = progress.map(|progress| progress.floors.as_slice()).unwrap_or_default();
        self.objects.retain(|object| !floors.iter().any(|floors| is_below(floors, &object.name)));
        Ok(())
    }

    /// Looks once more at what was damaged the last time.
    async fn look_again(&mut self, memory: &mut Memory) -> Result<(), Unverified> {
        for name in std::mem::take(&mut memory.damaged) {
            if let Some(index) = self.objects.iter().position(|object| object.name == name) {
                self.judge(index, "it was damaged before").await?;
            }
        }
        Ok(())
    }

    /// Looks at the next objects of level 0 that nobody has promised yet: whoever uploads one again finds it there, and
    /// waits until it is whole, whether anything leads to it or not.
    async fn look_ahead(&mut self, memory: &mut Memory) -> Result<(), Unverified> {
        let Expected { lineage, watermark, .. } = self.expected;
        let mut ahead = self.names();
        ahead.retain(|name| {
            name.level == Level::Log
                && name.lineage == lineage
                && name.last > watermark
                && !memory.proven.contains(&name.to_string())
        });
        ahead.sort_by_key(|name| name.first);
        for name in ahead.into_iter().take(AHEAD) {
            if let Some(index) = self.objects.iter().position(|object| object.name == name)
                && !self.judge(index, "it cannot be read to its end").await?
            {
                memory.proven.insert(name.to_string());
            }
        }
        Ok(())
    }

    /// What the other destinations list.
    async fn others(&mut self) -> Vec<(usize, Vec<ObjectName>)> {
        if let Some(others) = &self.others {
            return others.clone();
        }
        let mut others = Vec::new();
        for (number, place) in self.context.places.iter().enumerate().filter(|(number, _)| *number != self.place) {
            let listed = list_segments(&*place.named.destination, self.database);
            match time::timeout(LIST_TIMEOUT, listed).await {
                Ok(Ok(listed)) => others.push((number, listed.into_iter().map(|(name, _)| name).collect())),
                Ok(Err(error)) => tracing::warn!(%error, "another destination has nothing to heal with"),
                Err(_) => tracing::warn!(destination = place.named.name, "listing it took too long to heal with"),
            }
        }
        self.others = Some(others.clone());
        others
    }

    /// The records from the one that holds `first` on whose segments this node's log file has.
    fn held_records(&self, lineage: Lineage, first: Txid) -> Vec<SegmentRecord> {
        let replica = &self.context.replica;
        let after = replica.held_after(self.database, lineage).max(Txid(first.0.saturating_sub(1)));
        replica.segments(self.database, lineage, after, RECORDS)
    }

    /// Fills what can be filled of a hole; answers what cannot.
    async fn fill(&mut self, hole: Hole) -> Result<Vec<Hole>, Unverified> {
        let lineage = self.expected.lineage;
        let mut unfilled = Vec::new();
        let mut next = hole.first;
        while next <= hole.last {
            let records = self.held_records(lineage, next);
            // A part of the records says nothing of what follows them.
            let seen = if records.len() < RECORDS { None } else { records.last().map(|record| record.last) };
            let part = Hole { first: next, last: seen.map_or(hole.last, |seen| seen.min(hole.last)) };
            let others = self.others().await;
            let filling = fill(part, lineage, &records, &others);
            unfilled.extend(filling.unfilled);
            for source in filling.objects {
                match self.put(&source, Kind::Lost).await? {
                    Ok(()) => {}
                    Err(cause) => self.findings.problem(format!("lost transactions are not replaced yet: {cause}")),
                }
            }
            next = part.last.next();
        }
        self.list().await?;
        Ok(unfilled)
    }

    /// Puts an object; `Err` says why that was not possible.
    async fn put(&mut self, source: &Source, kind: Kind) -> Result<Result<(), String>, Unverified> {
        let name = match self.healer.put(source, kind).await {
            Ok(Put::Replaced(name)) => {
                let from = match source {
                    Source::Log(_) => "the log",
                    Source::Image(_) => "the image",
                    Source::Place(number, _) => &self.context.places[*number].named.name,
                };
                self.findings.healed(&name, kind, from);
                name
            }
            Ok(Put::WasThere(name)) => name,
            Err(NotPut::NotLeader) => return Err(Unverified::NotLeader),
            Err(NotPut::Source(cause) | NotPut::Place(cause)) => return Ok(Err(cause)),
        };
        self.bad.remove(&name.to_string());
        Ok(Ok(()))
    }

    async fn replace_newest_snapshot(&mut self) -> Result<(), Unverified> {
        let Expected { lineage, snapshot, .. } = self.expected;
        let image = self.healer.image_position();
        let mut found: Vec<Source> = Vec::new();
        found.extend(
            image.filter(|at| at.lineage == lineage && at.txid == snapshot).map(|at| Source::Image(snapshot_name(at))),
        );
        let is_it =
            |name: &&ObjectName| name.lineage == lineage && name.level == Level::Snapshot && name.last == snapshot;
        let others = self.others().await;
        for (place, names) in &others {
            found.extend(names.iter().filter(is_it).map(|name| Source::Place(*place, *name)));
        }
        for source in found {
            if self.put(&source, Kind::Lost).await?.is_ok() {
                return self.list().await;
            }
        }
        self.findings.problem(format!("the snapshot at txid {snapshot} is lost: a fresh one was asked for"));
        self.wants_snapshot = true;
        Ok(())
    }

    /// Proves a state, healing what is in the way; `None` if nothing leads there.
    async fn prove(
        &mut self,
        lineage: Lineage,
        txid: Txid,
        memory: &mut Memory,
    ) -> Result<Option<Reached>, Unverified> {
        let mut doubted = BTreeSet::new();
        loop {
            let usable = |index: usize| !self.bad.contains(&self.objects[index].name.to_string());
            let Ok(plan) = plan::plan(&self.objects, usable, lineage, None, Goal::Exactly(txid)) else {
                return Ok(None);
            };
            let replica = self.context.replica.clone();
            let database = self.database.clone();
            let logged = move |lineage: Lineage, txid: Txid| replica.checksum_at(&database, lineage, txid);
            let fault = match prove_chain(self.source, &self.objects, &plan, &logged).await {
                Ok(reached) => {
                    let whole = reached.whole.iter().map(|index| self.objects[*index].name.to_string());
                    memory.proven.extend(whole);
                    return Ok(Some(reached));
                }
                Err(fault) => fault,
            };
            let name = self.objects[fault.object].name;
            match fault.cause {
                FaultCause::Damaged(cause) => {
                    let is_damaged = self.judge(fault.object, &cause).await?;
                    if !is_damaged && !doubted.insert(name.to_string()) {
                        // Twice it did not fit, and by itself it is whole: nothing says that another copy is better.
                        self.findings.damaged(&name, &cause);
                        self.findings.problem(format!("{name} does not fit what it continues: {cause}"));
                        self.bad.insert(name.to_string());
                    }
                }
                FaultCause::Source(error) => {
                    let is_gone = matches!(self.healer.look_at(&name, self.objects[fault.object].size).await,
                        Err(Unproven::Unread(error)) if error.kind() == std::io::ErrorKind::NotFound);
                    if !is_gone || !doubted.insert(name.to_string()) {
                        return Err(error.into());
                    }
                    // Listed, and not there: lost a moment ago, or a listing of the past.
                    if let Err(cause) = self.replace(&name, Kind::Lost).await? {
                        self.findings.problem(format!("{name} is lost and not replaced: {cause}"));
                        self.list().await?;
                    }
                }
            }
        }
    }

    /// Reads an object alone that seemed damaged, and replaces it if it is; answers whether it was.
    async fn judge(&mut self, index: usize, cause: &str) -> Result<bool, Unverified> {
        let SourceObject { name, size, .. } = self.objects[index].clone();
        match self.healer.look_at(&name, size).await {
            Ok(()) => return Ok(false),
            Err(Unproven::Unread(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                self.list().await?;
                return Ok(false);
            }
            Err(Unproven::Unread(error)) => return Err(Unverified::Place(error.to_string())),
            Err(Unproven::Damaged(_)) => {}
        }
        self.findings.damaged(&name, cause);
        if let Err(cause) = self.replace(&name, Kind::Damaged).await? {
            self.findings.problem(format!("{name} is damaged and not replaced: {cause}"));
            self.bad.insert(name.to_string());
        }
        Ok(true)
    }

    /// Replaces an object from the first source that proves to have it.
    async fn replace(&mut self, name: &ObjectName, kind: Kind) -> Result<Result<(), String>, Unverified> {
        if !self.replaced.insert(name.to_string()) {
            return Ok(Err("it was replaced a moment ago, and is not whole again".to_owned()));
        }
        let records = if name.level == Level::Log { self.held_records(name.lineage, name.first) } else { Vec::new() };
        let others = self.others().await;
        let mut causes = Vec::new();
        for source in sources(name, &records, self.healer.image_position(), &others) {
            match self.put(&source, kind).await? {
                Ok(()) => {
                    self.list().await?;
                    return Ok(Ok(()));
                }
                Err(cause) => causes.push(cause),
            }
        }
        let none = "neither the nodes nor another destination has it";
        Ok(Err(if causes.is_empty() { none.to_owned() } else { causes.join(", ") }))
    }

    /// A state that can be rebuilt, at random, of an object that was not proven yet.
    fn pick(&self, memory: &mut Memory) -> Option<(Lineage, Txid)> {
        let usable = |index: usize| !self.bad.contains(&self.objects[index].name.to_string());
        let lineages: BTreeSet<Lineage> = self.objects.iter().map(|object| object.name.lineage).collect();
        let reaches: Vec<_> = lineages
            .into_iter()
            .flat_map(|lineage| {
                plan::reachable(&self.objects, &usable, lineage).into_iter().map(move |it| (lineage, it))
            })
            .collect();
        let is_new = |object: usize, memory: &Memory| !memory.proven.contains(&self.objects[object].name.to_string());
        if memory.proven.len() > REMEMBERED || !reaches.iter().any(|(_, reach)| is_new(reach.object, memory)) {
            memory.proven.clear();
        }
        let mut new: Vec<_> = reaches.into_iter().filter(|(_, reach)| is_new(reach.object, memory)).collect();
        // What is not agreed on yet comes first: whoever uploads it again finds it there, and waits until it is whole.
        let unpromised = |(lineage, reach): &(Lineage, plan::Reach)| {
            *lineage == self.expected.lineage && *reach.txids.end() > self.expected.watermark
        };
        if new.iter().any(unpromised) {
            new.retain(unpromised);
        }
        let (lineage, reach) = new.get(usize::try_from(random::below(new.len() as u64)).ok()?)?;
        // Whatever chain leads there: it was tried.
        memory.proven.insert(self.objects[reach.object].name.to_string());
        let (first, last) = (reach.txids.start().0, reach.txids.end().0);
        Some((*lineage, Txid(first + random::below(last - first + 1))))
    }
}
