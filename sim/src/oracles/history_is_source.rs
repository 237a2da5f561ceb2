//! Promise 2, "never a wrong database", for every txid at once; and "no gap or fork in a database's history".
//!
//! Source: Seawall's design, promises 1 and 2: every captured commit, resyncs included, is a state in which the source
//! truly was, and the cluster has them in the order in which the source had them.

use seawall_proto::position::{Position, Txid};

use crate::application::history::SourceHistory;

/// Checks the cluster's history of a database, which must be in its own order: by lineage, then by txid.
///
/// Several neighbouring txids may be the same state; txid 0, the empty database, is nobody's state.
///
/// # Errors
/// What does not hold, in words.
pub fn check(history: &[Position], source: &SourceHistory) -> Result<(), String> {
    let mut before: Option<&Position> = None;
    for position in history {
        if let Some(before) = before
            && (before.lineage, before.txid) >= (position.lineage, position.txid)
        {
            return Err(format!("{position} follows {before} in the cluster's history"));
        }
        before = Some(position);
    }
    let captured: Vec<&Position> = history.iter().filter(|position| position.txid > Txid::NONE).collect();
    source.is_subsequence(captured.iter().map(|position| position.checksum)).map_err(|place| {
        let position = captured[place];
        let numbers = source.find(position.checksum);
        let states = source.states().len();
        if numbers.is_empty() {
            format!("{position} is none of the {states} states that the source was in")
        } else {
            let before = captured[place - 1];
            let earlier = source.find(before.checksum);
            format!("{position} is the source's state {numbers:?}, but comes after {before}, its state {earlier:?}")
        }
    })
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;
    use seawall_proto::position::Lineage;

    use super::*;
    use crate::oracles::testing::{history, position};

    #[test]
    fn takes_a_history_that_leaves_states_out() {
        let source = history(&[1, 2, 3, 2, 4]);
        let taken = [position(1, 1, 1), position(1, 2, 2), position(1, 3, 2), position(2, 1, 4)];
        assert_eq!(check(&taken, &source), Ok(()));
        let empty = Position { lineage: Lineage(1), txid: Txid::NONE, checksum: Checksum::EMPTY };
        assert_eq!(check(&[empty, position(1, 1, 3)], &source), Ok(()));
    }

    #[test]
    fn refuses_a_state_that_never_was() {
        let error = check(&[position(1, 1, 1), position(1, 2, 9)], &history(&[1, 2])).unwrap_err();
        assert!(error.contains("none of the 2 states"), "{error}");
    }

    #[test]
    fn refuses_states_in_another_order() {
        let error = check(&[position(1, 1, 3), position(1, 2, 1)], &history(&[1, 2, 3])).unwrap_err();
        assert!(error.contains("but comes after"), "{error}");
    }

    #[test]
    fn refuses_a_history_that_is_not_in_order_itself() {
        let source = history(&[1, 1, 2]);
        assert!(check(&[position(1, 2, 1), position(1, 2, 1)], &source).is_err());
        assert!(check(&[position(2, 1, 1), position(1, 2, 2)], &source).is_err());
    }
}
