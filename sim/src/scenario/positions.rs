//! Watches what every node's position log says of every database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seawall_node::replica::SegmentRecord;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};

use super::stage::Stage;
use crate::oracles::one_checksum::Positions;
use crate::oracles::{chain, history_is_source};
use crate::world;

/// Records looked at in one turn of one node and database.
const TURN: usize = 500;

/// What was seen of the databases so far.
#[derive(Default)]
pub struct PositionWatch {
    state: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    positions: Positions,
    /// How far each life of each node was read.
    read: BTreeMap<(usize, u32, DatabaseName), chain::End>,
}

impl PositionWatch {
    fn state(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every position of a database that was seen, in order.
    pub fn of(&self, name: &DatabaseName) -> Vec<Position> {
        self.state().positions.of(name).collect()
    }

    /// The checksums of every txid of a database that was seen.
    pub fn checksums(&self, name: &DatabaseName) -> BTreeMap<(Lineage, Txid), Checksum> {
        self.of(name).iter().map(|position| ((position.lineage, position.txid), position.checksum)).collect()
    }

    /// Takes in a position that somebody saw.
    pub fn observe(&self, name: &DatabaseName, position: &Position, observer: &str) {
        if let Err(error) = self.state().positions.observe(name, position, observer) {
            world::current().violate("one checksum for each database, lineage and txid", error);
        }
    }

    /// Reads what is new on every running node.
    pub fn look(&self, stage: &Stage) {
        for (index, it) in stage.cluster.nodes().iter().enumerate() {
            let Some(node) = it.node() else { continue };
            let life = world::current().life_of(it.machine);
            for name in node.replica().databases() {
                let Some(view) = node.replica().database(&name) else { continue };
                let lineage = Lineage(view.head.lineage);
                let end = self.state().read.get(&(index, life, name.clone())).copied();
                let end = end.filter(|end| end.lineage == lineage);
                let after = end.map_or(Txid::NONE, |end| end.txid);
                let records = node.replica().segments(&name, lineage, after, TURN);
                self.take(&format!("node {}", index + 1), &name, end, &records).map_or_else(
                    |error| world::current().violate("no gap or fork in a database's history", error),
                    |end| {
                        if let Some(end) = end {
                            self.state().read.insert((index, life, name.clone()), end);
                        }
                    },
                );
                let head = Position { lineage, txid: Txid(view.head.txid), checksum: Checksum(view.head.checksum) };
                if head.txid > Txid::NONE {
                    self.observe(&name, &head, &format!("the head of node {}", index + 1));
                }
            }
        }
    }

    fn take(
        &self,
        observer: &str,
        name: &DatabaseName,
        mut end: Option<chain::End>,
        records: &[SegmentRecord],
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
            let next = chain::check(end.as_ref(), &link).map_err(|error| format!("`{name}` on {observer}: {error}"))?;
            let position = Position { lineage: next.lineage, txid: next.txid, checksum: next.checksum };
            self.observe(name, &position, observer);
            end = Some(next);
        }
        Ok(end)
    }

    /// Compares everything seen with what the sources truly were.
    pub fn compare_with_sources(&self, stage: &Stage) {
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
