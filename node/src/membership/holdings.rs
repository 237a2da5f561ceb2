//! Whether a node holds enough to vote, and to lead.

use std::collections::BTreeMap;

use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};

/// What the cluster has of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseNeed {
    /// Its newest history.
    pub lineage: Lineage,
    /// The newest state.
    pub head: Txid,
    /// The leader's log holds everything after this state.
    pub held_after: Txid,
    /// How far each destination is that is not detached, by name.
    pub watermarks: BTreeMap<String, Txid>,
}

/// What a node says that it holds of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The newest history that it knows of.
    pub lineage: Lineage,
    /// How far its image is folded.
    pub image: Txid,
    /// Its log holds everything after this state.
    pub held_after: Txid,
}

/// What a node lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// Databases that it cannot rebuild, in words.
    pub missing: Vec<String>,
    /// What destinations still need that it does not hold, in words.
    pub gaps: Vec<String>,
    /// How many databases it can rebuild.
    pub held: usize,
}

/// What a node lacks of `needs`.
///
/// A database can be rebuilt from an image and the log behind it; how far the image is folded by now does not matter. A
/// destination goes on from its watermark: whoever leads should hold the log from there on, unless the leader does not
/// either.
pub fn lacks(needs: &BTreeMap<DatabaseName, DatabaseNeed>, held: &BTreeMap<DatabaseName, Held>) -> Lacks {
    let mut lacks = Lacks::default();
    for (name, need) in needs {
        let Some(held) = held.get(name).filter(|held| held.lineage == need.lineage) else {
            lacks.missing.push(format!("{name}: it does not know of it yet"));
            continue;
        };
        if held.image < held.held_after && need.head > Txid::NONE {
            let (image, after) = (held.image, held.held_after);
            lacks.missing.push(format!("{name}: its image is at txid {image}, and its log begins after {after}"));
        } else {
            lacks.held += 1;
        }
        for (destination, watermark) in &need.watermarks {
            let needed = (*watermark).max(need.held_after);
            if held.held_after > needed && need.head > needed {
                lacks.gaps.push(format!(
                    "{name}: destination {destination} is at txid {watermark}, and the node's log begins after {}",
                    held.held_after
                ));
            }
        }
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks_of(image: u64, held_after: u64, watermark: u64, leader_after: u64) -> Lacks {
        let name: DatabaseName = "app".parse().unwrap();
        let need = DatabaseNeed {
            lineage: Lineage(1),
            head: Txid(100),
            held_after: Txid(leader_after),
            watermarks: BTreeMap::from([("s3".to_owned(), Txid(watermark))]),
        };
        let held = Held { lineage: Lineage(1), image: Txid(image), held_after: Txid(held_after) };
        lacks(&BTreeMap::from([(name.clone(), need)]), &BTreeMap::from([(name, held)]))
    }

    #[test]
    fn an_image_and_the_log_behind_it_are_a_database() {
        assert_eq!(lacks_of(60, 60, 100, 0), Lacks { held: 1, ..Lacks::default() });
        assert_eq!(lacks_of(0, 0, 100, 0), Lacks { held: 1, ..Lacks::default() });
        let behind = lacks_of(59, 60, 100, 0);
        assert_eq!((behind.held, behind.missing.len(), behind.gaps.len()), (0, 1, 0));
    }

    #[test]
    fn a_destination_that_is_behind_needs_the_log_from_its_watermark_on() {
        assert_eq!(lacks_of(60, 60, 60, 0).gaps, Vec::<String>::new());
        assert_eq!(lacks_of(60, 60, 59, 0).gaps.len(), 1);
        // The leader does not hold it either.
        assert_eq!(lacks_of(60, 60, 59, 60).gaps, Vec::<String>::new());
    }

    #[test]
    fn a_database_of_an_older_history_is_missing() {
        let name: DatabaseName = "app".parse().unwrap();
        let need =
            DatabaseNeed { lineage: Lineage(2), head: Txid::NONE, held_after: Txid::NONE, watermarks: BTreeMap::new() };
        let held = Held { lineage: Lineage(1), image: Txid(9), held_after: Txid::NONE };
        let needs = BTreeMap::from([(name.clone(), need)]);
        assert_eq!(lacks(&needs, &BTreeMap::from([(name.clone(), held)])).missing.len(), 1);
        let held = Held { lineage: Lineage(2), image: Txid::NONE, ..held };
        assert_eq!(lacks(&needs, &BTreeMap::from([(name, held)])), Lacks { held: 1, ..Lacks::default() });
        assert_eq!(lacks(&needs, &BTreeMap::new()).missing.len(), 1);
    }
}
