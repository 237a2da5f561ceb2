//! No gap or fork in a database's history; no append of a fenced epoch.
//!
//! Source: Seawall's design, "checked appends": when applied, the epoch is current, the first txid is the head's next,
//! the checksum before is the head's; and promise 3, "one writer".

use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Epoch, Lineage, Txid};

/// A record of a position log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The history.
    pub lineage: Lineage,
    /// The epoch it was accepted under.
    pub epoch: Epoch,
    /// Its first transaction.
    pub first: Txid,
    /// Its last transaction.
    pub last: Txid,
    /// The checksum before the first.
    pub before: Checksum,
    /// The checksum after the last.
    pub after: Checksum,
}

/// Where a chain of links ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The history.
    pub lineage: Lineage,
    /// The newest epoch in it.
    pub epoch: Epoch,
    /// The last transaction.
    pub txid: Txid,
    /// The checksum after it.
    pub checksum: Checksum,
}

/// Hangs `link` to the chain that ends at `end` (`None`: it may begin anywhere).
///
/// # Errors
/// What does not fit, in words.
pub fn check(end: Option<&End>, link: &Link) -> Result<End, String> {
    let Link { lineage, epoch, first, last, before, after } = *link;
    if first > last || first == Txid::NONE {
        return Err(format!("a record has the transactions {first} to {last}"));
    }
    if let Some(end) = end {
        if first.0 != end.txid.0 + 1 {
            return Err(format!("transaction {first} follows {}", end.txid));
        }
        if before != end.checksum {
            return Err(format!("transaction {first} goes on from {before}, but {} left {}", end.txid, end.checksum));
        }
        if epoch < end.epoch {
            return Err(format!("transaction {first} is of epoch {epoch}, after one of epoch {}", end.epoch));
        }
    }
    Ok(End { lineage, epoch, txid: last, checksum: after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(epoch: u64, first: u64, last: u64, before: u64, after: u64) -> Link {
        Link {
            lineage: Lineage(1),
            epoch: Epoch(epoch),
            first: Txid(first),
            last: Txid(last),
            before: Checksum(before),
            after: Checksum(after),
        }
    }

    #[test]
    fn takes_what_fits() {
        let end = check(None, &link(1, 1, 3, 0, 7)).unwrap();
        let end = check(Some(&end), &link(1, 4, 4, 7, 8)).unwrap();
        assert!(check(Some(&end), &link(5, 5, 9, 8, 2)).is_ok());
    }

    #[test]
    fn refuses_gaps_forks_and_old_epochs() {
        let end = check(None, &link(2, 1, 3, 0, 7)).unwrap();
        for (bad, why) in [
            (link(2, 5, 6, 7, 8), "follows"),
            (link(2, 3, 6, 7, 8), "follows"),
            (link(2, 4, 6, 9, 8), "goes on from"),
            (link(1, 4, 6, 7, 8), "epoch"),
            (link(2, 6, 4, 7, 8), "has the transactions"),
        ] {
            let error = check(Some(&end), &bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
