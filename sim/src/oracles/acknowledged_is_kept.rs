//! Promise 1, "no acknowledged write is lost".
//!
//! Source: Seawall's design, promise 1, and the meaning of a receipt: what was committed when `sync` was called is on
//! the disks of a majority of nodes when it returns.

use std::collections::BTreeMap;
use std::time::Duration;

use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};

use crate::application::history::SourceHistory;

/// A receipt that an application got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// For which database.
    pub database: DatabaseName,
    /// The number of the source's newest state when it asked.
    pub state: usize,
    /// What the receipt says.
    pub position: Position,
    /// When it was asked for, in true virtual time.
    pub asked: Duration,
    /// When it came, in true virtual time.
    pub time: Duration,
}

/// Checks a receipt as it comes: it must name a state of the source, at or after the one that was asked for.
///
/// # Errors
/// What does not hold, in words.
pub fn check_receipt(acknowledged: &Acknowledgement, source: &SourceHistory) -> Result<(), String> {
    let Acknowledgement { database, state, position, .. } = acknowledged;
    if source.holds_at_or_after(position.checksum, *state) {
        return Ok(());
    }
    let numbers = source.find(position.checksum);
    let newest = source.newest().map_or(0, |(number, _)| number);
    Err(format!(
        "a sync of `{database}`, asked for at state {state} of the source (now {newest}), was answered with {position}, \
         which is the source's state {numbers:?}"
    ))
}

/// Checks the receipts of one database against what can be restored: the newest state there, and the checksums of the
/// txids of which one is known.
///
/// # Errors
/// What does not hold, in words.
pub fn check<'a>(
    acknowledged: impl IntoIterator<Item = &'a Acknowledgement>,
    newest: &Position,
    checksums: &BTreeMap<(Lineage, Txid), Checksum>,
) -> Result<(), String> {
    for Acknowledgement { database, state, position, time, .. } in acknowledged {
        let place = (position.lineage, position.txid);
        let said = format!("{position} of `{database}` (state {state}) was acknowledged at {time:?}");
        if (newest.lineage, newest.txid) < place {
            return Err(format!("{said}, but nothing newer than {newest} can be restored"));
        }
        let here = (newest.lineage, newest.txid) == place;
        let known = checksums.get(&place).copied().or(here.then_some(newest.checksum));
        if let Some(checksum) = known.filter(|checksum| *checksum != position.checksum) {
            return Err(format!("{said}, but that transaction has the checksum {checksum} now"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::testing::{content, history, position};

    fn acknowledged(state: usize, position: Position) -> Acknowledgement {
        let (asked, time) = (Duration::from_secs(2), Duration::from_secs(3));
        Acknowledgement { database: "app".parse().unwrap(), state, position, asked, time }
    }

    #[test]
    fn a_receipt_names_a_state_at_or_after_the_one_asked_for() {
        let source = history(&[1, 2, 3, 2]);
        assert_eq!(check_receipt(&acknowledged(1, position(1, 5, 2)), &source), Ok(()));
        assert_eq!(check_receipt(&acknowledged(3, position(1, 5, 2)), &source), Ok(()));
        assert!(check_receipt(&acknowledged(3, position(1, 5, 3)), &source).is_err());
        assert!(check_receipt(&acknowledged(0, position(1, 5, 9)), &source).is_err());
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        let all = [acknowledged(0, position(1, 1, 1)), acknowledged(2, position(1, 3, 3))];
        let checksums = BTreeMap::from([((Lineage(1), Txid(1)), content(1).checksum)]);
        assert_eq!(check(&all, &position(1, 3, 3), &checksums), Ok(()));
        assert_eq!(check(&all, &position(2, 1, 4), &checksums), Ok(()));
    }

    #[test]
    fn an_older_newest_state_is_a_loss() {
        let all = [acknowledged(2, position(1, 3, 3))];
        assert!(check(&all, &position(1, 2, 2), &BTreeMap::new()).unwrap_err().contains("nothing newer"));
    }

    #[test]
    fn another_checksum_under_the_txid_is_a_loss() {
        let all = [acknowledged(2, position(1, 3, 3))];
        assert!(check(&all, &position(1, 3, 2), &BTreeMap::new()).unwrap_err().contains("has the checksum"));
        let checksums = BTreeMap::from([((Lineage(1), Txid(3)), content(2).checksum)]);
        assert!(check(&all, &position(1, 9, 9), &checksums).unwrap_err().contains("has the checksum"));
    }
}
