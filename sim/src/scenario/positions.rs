//! Watches what every node's position log says of every database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seawall_node::replica::SegmentRecord;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::ObjectName;
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::v1::DestinationProgress;

use super::retention_watch::RetentionWatch;
use super::times_watch::TimesWatch;
use crate::fault_family::FaultFamily;
use crate::oracles::one_checksum::Positions;
use crate::oracles::one_writer::Claims;
use crate::oracles::{chain, history_is_source, watermark};
use crate::stage::Stage;
use crate::world::{self, Machine};

/// What a leader does for a destination that lacks what the leader does not have.
const GAP: &str = "history at a destination gone on from a snapshot";
/// How a node comes to have no log of what it has.
const NO_LOG: &str = "snapshot installed";
/// What lets the log go without a destination.
const DETACHED: &str = "destination detached";

/// Records looked at in one turn of one node and database.
const TURN: usize = 500;

/// What was seen of the databases so far.
#[derive(Default)]
pub(super) struct PositionWatch {
    state: Mutex<Watched>,
    pub(super) times: TimesWatch,
}

#[derive(Default)]
struct Watched {
    positions: Positions,
    /// How far each life of each node was read.
    read: BTreeMap<(usize, u32, DatabaseName), chain::End>,
    claims: Claims,
    /// The watermark of each destination that each life of each node last knew.
    known: BTreeMap<(usize, u32, DatabaseName, String), (Lineage, Txid)>,
    /// The newest watermark of each destination that was looked at.
    watermarks: BTreeMap<(DatabaseName, String), (Lineage, Txid)>,
}

impl PositionWatch {
    fn state(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every position of a database that was seen, in order.
    pub(super) fn of(&self, name: &DatabaseName) -> Vec<Position> {
        self.state().positions.of(name).collect()
    }

    /// The checksums of every txid of a database that was seen.
    pub(super) fn checksums(&self, name: &DatabaseName) -> BTreeMap<(Lineage, Txid), Checksum> {
        self.of(name).iter().map(|position| ((position.lineage, position.txid), position.checksum)).collect()
    }

    /// Takes in a position that somebody saw.
    pub(super) fn observe(&self, name: &DatabaseName, position: &Position, observer: &str) {
        if let Err(error) = self.state().positions.observe(name, position, observer) {
            world::current().violate("one checksum for each database, lineage and txid", error);
        }
    }

    /// Reads what is new on every running node.
    pub(super) fn look(&self, stage: &Stage, retention: &RetentionWatch) {
        for (index, it) in stage.cluster.nodes().iter().enumerate() {
            let Some(node) = it.node() else { continue };
            let world = world::current();
            let life = world.life_of(it.machine);
            let Some(names) = world.within(it.machine, || node.replica().databases()) else { continue };
            for name in names {
                let place = (index, life, name.clone());
                let end = self.state().read.get(&place).copied();
                let read = world.within(it.machine, || {
                    let view = node.replica().database(&name)?;
                    let lineage = Lineage(view.head.lineage);
                    let end = end.filter(|end| end.lineage == lineage);
                    let after = end.map_or(Txid::NONE, |end| end.txid);
                    let records = node.replica().segments(&name, lineage, after, TURN);
                    Some((view, end, records))
                });
                let Some(Some((view, end, records))) = read else { continue };
                let claimed = self.state().claims.observe(&name, view.epoch, view.claimed_at);
                if let Err(error) = claimed.and_then(|()| self.check_writers(&name, &records)) {
                    world.violate("one writer", format!("on node {}: {error}", index + 1));
                }
                for progress in view.destinations.values() {
                    self.check_rises((index, life), &name, progress);
                    self.check_watermark(stage, retention, &name, progress);
                }
                self.times.take(stage, &name, &records, &format!("node {}", index + 1));
                let head = view.head;
                let forgets = stage.configuration.has(FaultFamily::ShortHistory);
                match self.take(&format!("node {}", index + 1), &name, end, &records, forgets) {
                    Err(error) => world.violate("no gap or fork in a database's history", error),
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        self.state().read.insert(place, end);
                    }
                }
                if head.txid > 0 {
                    let (txid, checksum) = (Txid(head.txid), Checksum(head.checksum));
                    let head = Position { lineage: Lineage(head.lineage), txid, checksum };
                    self.observe(&name, &head, &format!("the head of node {}", index + 1));
                }
            }
        }
    }

    fn check_writers(&self, name: &DatabaseName, records: &[SegmentRecord]) -> Result<(), String> {
        let state = self.state();
        records.iter().try_for_each(|it| state.claims.check(name, it.first, it.epoch, &it.entries))
    }

    /// What a node knows of a destination never gets less.
    fn check_rises(&self, (node, life): (usize, u32), name: &DatabaseName, progress: &DestinationProgress) {
        let reached = (Lineage(progress.lineage), Txid(progress.watermark));
        let key = (node, life, name.clone(), progress.destination.clone());
        let before = self.state().known.insert(key, reached);
        if let Some(before) = before.filter(|before| *before > reached) {
            let text =
                format!("`{name}` at {} on node {}: {before:?}, then {reached:?}", progress.destination, node + 1);
            world::current().violate("a watermark never falls", text);
        }
    }

    /// Looks whether a destination has what its watermark says, if that is news.
    fn check_watermark(
        &self,
        stage: &Stage,
        retention: &RetentionWatch,
        name: &DatabaseName,
        progress: &DestinationProgress,
    ) {
        let mut places = stage.cluster.places().iter().enumerate();
        let Some((index, place)) = places.find(|(_, place)| place.name() == progress.destination) else { return };
        let reached = (Lineage(progress.lineage), Txid(progress.watermark));
        if stage.is_liar(index) || reached.1 == Txid::NONE {
            return;
        }
        let key = (name.clone(), progress.destination.clone());
        if self.state().watermarks.get(&key).is_some_and(|known| *known >= reached) {
            return;
        }
        self.state().watermarks.insert(key, reached);
        let floor = Txid(retention.floors(name, place.name(), reached.0).level_zero);
        if reached.1 < floor {
            return;
        }
        let prefix = format!("{name}/");
        // Of what rots all counts that ever was there: what became of it is nobody's fault.
        let names: Vec<String> = if stage.configuration.has(FaultFamily::RottingPlaces) {
            place.created().into_iter().collect()
        } else {
            place.objects_below(&prefix).into_iter().map(|object| object.name).collect()
        };
        let objects = names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse::<ObjectName>().ok());
        let objects: Vec<ObjectName> = objects.collect();
        let violate = |property, error| {
            world::current().violate(property, format!("`{name}` at {}: {error}", place.name()));
        };
        if let Err(error) = watermark::check(objects.iter().copied(), reached.0, reached.1) {
            violate("a destination has what its watermark says", error);
        } else if let Err(error) = watermark::check_history(objects, reached.0, floor, reached.1)
            && !has_excused_gap(stage)
        {
            violate("the log keeps what a destination lacks", error);
        }
    }

    /// Hangs records to the chain. Where nodes forget those of what no destination has any more (`forgets`), some may
    /// be missing, in the middle too: who is given the state gets no more of them than the giver has.
    fn take(
        &self,
        observer: &str,
        name: &DatabaseName,
        mut end: Option<chain::End>,
        records: &[SegmentRecord],
        forgets: bool,
    ) -> Result<Option<chain::End>, String> {
        for record in records {
            let link = chain::Link {
                lineage: record.lineage,
                epoch: record.epoch,
                first: record.first,
                last: record.last,
                before: record.checksum_before,
                after: record.checksum_after,
            };
            end = end.filter(|end| !forgets || link.first <= end.txid.next());
            let next = chain::check(end.as_ref(), &link).map_err(|error| format!("`{name}` on {observer}: {error}"))?;
            let position = Position { lineage: next.lineage, txid: next.txid, checksum: next.checksum };
            self.observe(name, &position, observer);
            end = Some(next);
        }
        Ok(end)
    }

    /// Compares everything seen with what the sources truly were.
    pub(super) fn compare_with_sources(&self, stage: &Stage) {
        for host in &stage.hosts {
            for source in host.application.sources() {
                let history = self.of(source.name());
                if let Err(error) = source.with_history(|truth| history_is_source::check(&history, truth)) {
                    let text = format!("`{}`: {error}", source.name());
                    world::current().violate("a database's history is its source's, in order", text);
                }
            }
        }
    }
}

/// Whether a destination may have a gap: a leader that got its state from another node never had the log that the
/// destination still lacked, and none is kept for one that was detached. Nothing else excuses one.
pub(super) fn has_excused_gap(stage: &Stage) -> bool {
    let world = world::current();
    let nodes = || stage.cluster.nodes().iter().map(|node| node.machine);
    let has_gone_on = |machine: &Machine| world.has_reached(*machine, GAP);
    let is_detached = nodes().any(|machine| world.has_reached(machine, DETACHED));
    nodes().filter(has_gone_on).any(|machine| is_detached || world.has_reached(machine, NO_LOG))
}
