//! Watches whether nodes take in only what they have room for.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_node::node::Node;

use crate::fault_family::FaultFamily;
use crate::oracles::budget::{Budget, Seen};
use crate::stage::{SimNode, Stage};
use crate::world;

const LOOK: Duration = Duration::from_millis(250);

/// Why pieces of a log stay for the sake of destinations.
const DESTINATIONS: &str = "destination";
/// A transaction whose parts still arrive keeps the log whatever destinations do, and they cannot take it yet.
const OPEN: &str = "a segment in parts";

/// Looks until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    // A leader may not hear what others say of their room though it replicates to them, or not get on with a decree
    // though it commits.
    if FaultFamily::DELAYING.iter().any(|family| stage.configuration.has(*family)) {
        return;
    }
    let mut budget = Budget::default();
    loop {
        time::sleep(LOOK).await;
        if let Err((property, text)) = budget.observe(look(&stage)) {
            world::current().violate(property, text);
        }
    }
}

fn look(stage: &Stage) -> Option<Seen> {
    let world = world::current();
    let leader = stage.cluster.newest_leader()?;
    let nodes = stage.cluster.nodes();
    let node = nodes[leader].node()?;
    let seen = world.within(nodes[leader].machine, || {
        let replica = node.replica();
        let views = replica.databases().into_iter().filter_map(|name| replica.database(&name));
        Seen {
            at: world.time(),
            leader: (leader, replica.leadership().term),
            txids: views.map(|view| view.head.txid).sum(),
            kept: kept(&node),
            limit: replica.space().own.said.destination_limit,
            no_majority_has_room: false,
            leader_has_no_room: false,
        }
    })?;
    let own = |it: &SimNode| world.within(it.machine, || it.node().map(|node| node.replica().space().own.said))?;
    let others = || nodes.iter().enumerate().filter(|(index, _)| *index != leader).filter_map(|(_, it)| own(it));
    let lacking = others().filter(|own| own.free < own.reserve).count();
    let with_room = others().count() - lacking;
    // One that is lost, though it may run, votes for nobody.
    let voters = nodes.iter().enumerate().filter(|(index, it)| *index != leader && it.lost().is_none());
    let with_plenty = voters.filter_map(|(_, it)| own(it)).filter(|own| own.free > 2 * own.reserve).count();
    let leader_lacks = own(&nodes[leader]).is_some_and(|own| own.free < own.reserve);
    Some(Seen {
        no_majority_has_room: with_room < nodes.len() / 2 && lacking > 0,
        leader_has_no_room: leader_lacks && with_plenty > nodes.len() / 2,
        ..seen
    })
}

/// Bytes of log that only destinations keep.
fn kept(node: &Node) -> u64 {
    let pins = node.kept_log();
    let first = |reason| pins.iter().find(|(pin, _)| pin.reason == reason);
    match (first(DESTINATIONS), first(OPEN)) {
        (Some((_, bytes)), None) => *bytes,
        _ => 0,
    }
}
