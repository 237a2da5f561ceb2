//! Promise 3, "one writer".
//!
//! Source: Seawall's design, promise 3: nothing of an older epoch that is ordered after a newer claim is ever
//! acknowledged, and so nothing of it may become history.

use std::collections::BTreeMap;

use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Txid};

/// Every claim that was seen in a position log.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The index of the log entry that made it.
    indexes: BTreeMap<DatabaseName, BTreeMap<Epoch, u64>>,
}

impl Claims {
    /// Takes in the newest claim that a node knows.
    ///
    /// # Errors
    /// If another entry was seen to make it, in words.
    pub fn observe(&mut self, database: &DatabaseName, epoch: Epoch, index: u64) -> Result<(), String> {
        let claims = self.indexes.entry(database.clone()).or_default();
        match *claims.entry(epoch).or_insert(index) {
            known if known == index => Ok(()),
            known => Err(format!("`{database}` was claimed with epoch {epoch} by the entries {known} and {index}")),
        }
    }

    /// Checks the segment that begins at `first`, accepted under `epoch` from the log's `entries`.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check(&self, database: &DatabaseName, first: Txid, epoch: Epoch, entries: &[u64]) -> Result<(), String> {
        for (claimed, index) in self.indexes.get(database).into_iter().flatten() {
            let fits = |entry: &u64| if *claimed > epoch { entry < index } else { entry > index };
            if let Some(entry) = entries.iter().find(|entry| !fits(entry)) {
                return Err(format!(
                    "`{database}`: transaction {first} is of epoch {epoch} and from entry {entry}, but entry {index} is \
                     the claim with epoch {claimed}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_between_their_claim_and_the_next() {
        let (mut claims, app) = (Claims::default(), "app".parse().unwrap());
        for (epoch, index) in [(1, 3), (2, 10), (1, 3)] {
            claims.observe(&app, Epoch(epoch), index).unwrap();
        }
        let check = |epoch, entries: &[u64]| claims.check(&app, Txid(7), Epoch(epoch), entries);
        assert_eq!(check(1, &[4, 9]), Ok(()));
        assert_eq!(check(2, &[11]), Ok(()));
        assert!(check(1, &[9, 11]).unwrap_err().contains("epoch 2"));
        assert!(check(2, &[9]).is_err() && check(1, &[2]).is_err());
        assert_eq!(claims.check(&"other".parse().unwrap(), Txid(7), Epoch(1), &[1]), Ok(()));
    }

    #[test]
    fn an_epoch_belongs_to_one_claim() {
        let (mut claims, app) = (Claims::default(), "app".parse().unwrap());
        claims.observe(&app, Epoch(1), 3).unwrap();
        assert!(claims.observe(&app, Epoch(1), 4).is_err());
    }
}
