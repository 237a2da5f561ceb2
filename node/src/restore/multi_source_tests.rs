use std::sync::Arc;

use proptest::prelude::*;
use seawall_proto::object_name::{Level, ObjectName};

use super::*;

fn position(lineage: u64, txid: u64) -> Position {
    Position { lineage: Lineage(lineage), txid: Txid(txid), checksum: Checksum(txid) }
}

fn object(route: u32, lineage: u64, first: u64, last: u64) -> SourceObject {
    let (lineage, first, last, checksum_after) = (Lineage(lineage), Txid(first), Txid(last), Checksum(last));
    let name = ObjectName { lineage, level: Level::Log, first, last, checksum_after };
    SourceObject { origin: Arc::from("x"), route, name, size: 1, commit_time_ms: None }
}

fn listing(head: Option<Position>, stale: bool, objects: Vec<SourceObject>) -> Listing {
    Listing { objects, head, head_is_stale: stale, warnings: Vec::new() }
}

fn merged(listings: Vec<Listing>) -> Listing {
    let count = listings.len() as u32;
    merge(listings.into_iter().enumerate().collect(), |number| ["a", "b", "c"][number], count)
}

#[test]
fn the_newest_head_that_is_certain_is_taken() {
    let certain = |txid| listing(Some(position(1, txid)), false, vec![object(0, 1, 1, txid)]);
    let stale = |txid| listing(Some(position(1, txid)), true, vec![object(0, 1, 1, txid)]);
    let nothing = || listing(None, false, vec![object(0, 1, 1, 3)]);
    let found = merged(vec![certain(5), nothing(), certain(7)]);
    assert_eq!((found.head, found.head_is_stale, found.warnings.len()), (Some(position(1, 7)), false, 0));
    let found = merged(vec![stale(5), nothing()]);
    assert_eq!((found.head, found.head_is_stale), (Some(position(1, 5)), true));
    // A node without a leader is not believed where somebody else has more.
    let found = merged(vec![stale(2), nothing()]);
    assert_eq!((found.head, found.warnings.len()), (None, 0));
    let found = merged(vec![certain(2), nothing()]);
    assert_eq!(found.head, Some(position(1, 2)));
    assert!(found.warnings[0].contains("b has lineage 1 txid 3, beyond"), "{:?}", found.warnings);
    assert_eq!(merged(vec![nothing(), nothing()]).head, None);
}

#[test]
fn sources_that_contradict_each_other_are_named_once() {
    let mut other = object(0, 1, 1, 3);
    other.name.checksum_after = Checksum(99);
    let found = merged(vec![
        listing(None, false, vec![object(0, 1, 1, 3)]),
        listing(None, false, vec![other.clone(), SourceObject { size: 2, ..other }]),
    ]);
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].starts_with("a and b name different states for lineage 1 txid 3"));
}

proptest! {
    #[test]
    fn every_object_finds_its_source_again(routes in prop::collection::vec(prop::collection::vec(0..1000_u32, 0..5), 1..4)) {
        let count = routes.len() as u32;
        let listings = routes.iter().map(|routes| {
            listing(None, false, routes.iter().map(|route| object(*route, 1, 1, 1)).collect())
        });
        let found = merged(listings.collect());
        let expected: Vec<(usize, u32)> =
            routes.iter().enumerate().flat_map(|(source, routes)| routes.iter().map(move |route| (source, *route))).collect();
        let back: Vec<(usize, u32)> =
            found.objects.iter().map(|object| ((object.route % count) as usize, object.route / count)).collect();
        prop_assert_eq!(back, expected);
    }
}
