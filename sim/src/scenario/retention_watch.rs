//! Watches what the cluster decrees about what destinations need not keep, and what goes from them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seawall_node::replica::Replica;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::v1::Floors;

use crate::destination::Change;
use crate::oracles::retention::{self, Raised, floor_of};
use crate::stage::Stage;
use crate::world;

const LEVELS: [Level; 4] = [Level::Log, Level::One, Level::Two, Level::Snapshot];

/// The floors that were seen so far, and the deletions that none of them explains yet.
#[derive(Default)]
pub(super) struct RetentionWatch {
    state: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    floors: BTreeMap<(DatabaseName, String, Lineage), Floors>,
    /// Entries of each place's journal that were read.
    read: BTreeMap<usize, usize>,
    /// Objects of each place that are not what was uploaded: whoever mends them may put others in their stead.
    damaged: BTreeMap<usize, Vec<String>>,
    unexplained: Vec<(DatabaseName, String, ObjectName)>,
}

impl RetentionWatch {
    fn state(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest floors that anybody was seen to know.
    pub(super) fn floors(&self, name: &DatabaseName, place: &str, lineage: Lineage) -> Floors {
        let key = (name.clone(), place.to_owned(), lineage);
        self.state().floors.get(&key).copied().unwrap_or_default()
    }

    /// Whether a state need not be there any more, at some destination: nodes have old states from any of them.
    pub(super) fn has_expired(&self, stage: &Stage, name: &DatabaseName, position: &Position) -> bool {
        self.look(stage);
        stage
            .cluster
            .places()
            .iter()
            .any(|place| position.txid.0 + 1 < self.floors(name, place.name(), position.lineage).level_zero)
    }

    /// Looks at what every running node knows, and at what happened at every place.
    pub(super) fn look(&self, stage: &Stage) {
        let world = world::current();
        for it in stage.cluster.nodes() {
            let Some(node) = it.node() else { continue };
            world.within(it.machine, || self.look_at(stage, node.replica()));
        }
        self.read_journals(stage);
    }

    fn look_at(&self, stage: &Stage, replica: &Replica) {
        for name in replica.databases() {
            let Some(view) = replica.database(&name) else { continue };
            for progress in view.destinations.values() {
                for floors in &progress.floors {
                    self.take(stage, replica, &name, &progress.destination, floors);
                }
            }
        }
    }

    fn take(&self, stage: &Stage, replica: &Replica, name: &DatabaseName, place: &str, floors: &Floors) {
        let lineage = Lineage(floors.lineage);
        let known = self.floors(name, place, lineage);
        for level in LEVELS {
            let floor = floor_of(floors, level);
            // Below a floor of the other levels is the last state that those above lead to; a snapshot is it itself.
            let state = Txid(if level == Level::Snapshot { floor } else { floor.saturating_sub(1) });
            let record = replica.segments(name, lineage, Txid(state.0.saturating_sub(1)), 1);
            let Some(record) = record.into_iter().find(|record| record.last == state) else { continue };
            let raised = Raised { level, committed_ms: record.commit_time_ms, decreed_ms: floors.decreed_ms };
            if floor > floor_of(&known, level)
                && let Err(error) = retention::check_age(&raised, &stage.configuration.retention)
            {
                let text = format!("`{name}` at {place}: {error}");
                world::current().violate("nothing young is given up at a destination", text);
            }
        }
        let highest = Floors {
            lineage: floors.lineage,
            level_zero: floors.level_zero.max(known.level_zero),
            level_one: floors.level_one.max(known.level_one),
            level_two: floors.level_two.max(known.level_two),
            snapshot: floors.snapshot.max(known.snapshot),
            decreed_ms: floors.decreed_ms.max(known.decreed_ms),
        };
        self.state().floors.insert((name.clone(), place.to_owned(), lineage), highest);
    }

    fn read_journals(&self, stage: &Stage) {
        let mut state = self.state();
        let Watched { floors, read, damaged, unexplained } = &mut *state;
        for (index, place) in stage.cluster.places().iter().enumerate() {
            let read = read.entry(index).or_default();
            let damaged = damaged.entry(index).or_default();
            let entries = place.journal_since(*read);
            *read += entries.len();
            for entry in entries {
                match entry.change {
                    Change::Created { .. } | Change::Replaced { .. } => damaged.retain(|name| *name != entry.name),
                    Change::Corrupted { .. } => damaged.push(entry.name),
                    Change::Deleted { .. } if damaged.contains(&entry.name) => {}
                    Change::Deleted { .. } => {
                        let Some((name, object)) = entry.name.split_once("/@") else { continue };
                        if let (Ok(name), Ok(object)) = (name.parse(), format!("@{object}").parse()) {
                            unexplained.push((name, place.name().to_owned(), object));
                        }
                    }
                    Change::Forgotten { .. } => {}
                }
            }
        }
        unexplained.retain(|(name, place, object)| {
            let floors = floors.get(&(name.clone(), place.clone(), object.lineage)).copied().unwrap_or_default();
            retention::check_deletion(object, &floors).is_err()
        });
    }

    /// At the end everybody knows what was decreed, so that every deletion has its floor.
    pub(super) fn end(&self, stage: &Stage) {
        self.look(stage);
        let unexplained = self.state().unexplained.first().cloned();
        let Some((name, place, object)) = unexplained else { return };
        let floors = self.floors(&name, &place, object.lineage);
        if let Err(error) = retention::check_deletion(&object, &floors) {
            let text = format!("`{name}` at {place}: {error}");
            world::current().violate("only what lies below a decreed floor is deleted", text);
        }
    }
}
