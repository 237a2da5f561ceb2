//! One checksum for each (database, lineage, txid), for ever, everywhere.
//!
//! Source: Seawall's design, "position: names one exact database state", and its demand that nothing forks.

use std::collections::BTreeMap;

use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};

/// Every position that anybody in the world was seen to hold.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    databases: BTreeMap<DatabaseName, BTreeMap<(Lineage, Txid), Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    checksum: Checksum,
    observer: String,
}

impl Positions {
    /// None seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `observer` holds `position` of `database`.
    ///
    /// # Errors
    /// Who held another checksum for the same transaction, in words.
    pub fn observe(&mut self, database: &DatabaseName, position: &Position, observer: &str) -> Result<(), String> {
        if !self.databases.contains_key(database) {
            self.databases.insert(database.clone(), BTreeMap::new());
        }
        let Some(positions) = self.databases.get_mut(database) else { return Ok(()) };
        let seen = positions
            .entry((position.lineage, position.txid))
            .or_insert_with(|| Seen { checksum: position.checksum, observer: observer.to_owned() });
        if seen.checksum == position.checksum {
            return Ok(());
        }
        Err(format!(
            "`{database}` has two states @{}/{}: {} at {}, {} at {observer}",
            position.lineage, position.txid, seen.checksum, seen.observer, position.checksum
        ))
    }

    /// The checksum that a transaction was seen with.
    pub fn checksum(&self, database: &DatabaseName, lineage: Lineage, txid: Txid) -> Option<Checksum> {
        self.databases.get(database)?.get(&(lineage, txid)).map(|seen| seen.checksum)
    }

    /// All positions seen of a database, in order.
    pub fn of(&self, database: &DatabaseName) -> impl Iterator<Item = Position> + '_ {
        let seen = self.databases.get(database).into_iter().flatten();
        seen.map(|((lineage, txid), seen)| Position { lineage: *lineage, txid: *txid, checksum: seen.checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::testing::position;

    #[test]
    fn takes_the_same_from_everybody_and_keeps_it() {
        let mut positions = Positions::new();
        let (app, other) = ("app".parse().unwrap(), "other".parse().unwrap());
        for observer in ["n1", "n2", "s3"] {
            positions.observe(&app, &position(1, 1, 1), observer).unwrap();
        }
        positions.observe(&app, &position(2, 1, 2), "n1").unwrap();
        positions.observe(&other, &position(1, 1, 3), "n1").unwrap();
        let kept: Vec<Position> = positions.of(&app).collect();
        assert_eq!(kept, [position(1, 1, 1), position(2, 1, 2)]);
        assert_eq!(positions.checksum(&other, Lineage(1), Txid(1)), Some(position(1, 1, 3).checksum));
    }

    #[test]
    fn refuses_a_second_checksum_and_names_both_observers() {
        let mut positions = Positions::new();
        let app = "app".parse().unwrap();
        positions.observe(&app, &position(1, 4, 1), "n1").unwrap();
        let error = positions.observe(&app, &position(1, 4, 2), "n2").unwrap_err();
        assert!(error.contains("n1") && error.contains("n2"), "{error}");
        // The first stays the truth.
        assert!(positions.observe(&app, &position(1, 4, 1), "n3").is_ok());
    }
}
