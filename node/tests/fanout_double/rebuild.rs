//! What a destination's objects give when they are put together, without any of the product's own planning.

use std::collections::BTreeMap;

use bytes::Bytes;
use seawall_node::destination::Destination;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{PageNumber, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent};

/// The newest state that the objects of `database` give, and how many objects of level 0 there are. Fails on any
/// object that is damaged or is not what its name says.
pub async fn rebuild(destination: &dyn Destination, database: &DatabaseName) -> (Txid, Checksum, usize) {
    let prefix = format!("{database}/");
    let mut objects = Vec::new();
    for object in destination.list(&format!("{prefix}@")).await.unwrap() {
        let name: ObjectName = object.name.strip_prefix(&prefix).unwrap().parse().unwrap();
        let bytes = destination.read(&object.name, 0, object.size).await.unwrap();
        objects.push((name, bytes));
    }
    let log_objects = objects.iter().filter(|(name, _)| name.level == Level::Log).count();
    let mut pages = BTreeMap::new();
    let mut at = Txid::NONE;
    loop {
        let continues = |name: &ObjectName| name.first <= at.next() && at < name.last;
        let log = objects.iter().find(|(name, _)| name.level == Level::Log && continues(name));
        let snapshot = objects.iter().rfind(|(name, _)| name.level == Level::Snapshot && name.last > at);
        let Some((name, bytes)) = log.or(snapshot) else { break };
        apply(name, bytes, &mut pages);
        at = name.last;
        assert_eq!(checksum(&pages), name.checksum_after, "{name}");
    }
    (at, checksum(&pages), log_objects)
}

fn checksum(pages: &BTreeMap<PageNumber, Bytes>) -> Checksum {
    let pages = pages.iter().map(|(number, bytes)| Checksum::of_page(*number, bytes));
    pages.fold(Checksum::EMPTY, |all, page| all ^ page)
}

fn apply(name: &ObjectName, bytes: &Bytes, pages: &mut BTreeMap<PageNumber, Bytes>) {
    let mut decoder = SegmentDecoder::new();
    decoder.push(bytes.clone());
    while let Some(event) = decoder.next().unwrap() {
        match event {
            SegmentEvent::Page { page, bytes, .. } => _ = pages.insert(page, bytes),
            SegmentEvent::End(summary) => {
                assert_eq!((summary.header.first, summary.header.last), (name.first, name.last));
                break;
            }
            SegmentEvent::Header(_) | SegmentEvent::Commit(_) => {}
        }
    }
    decoder.finish().unwrap();
}
