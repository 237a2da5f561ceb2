//! Watches whether destinations that are well, and acknowledgements, suffer from those in trouble.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use crate::destination::LONGEST_TRANSFER;
use crate::fault_family::FaultFamily;
use crate::oracles::independence::{Independence, Lane};
use crate::stage::{Host, Stage};
use crate::world;

const LOOK: Duration = Duration::from_millis(250);
/// After this long a node or an agent that began anew has what it needs: images pulled, pages compared.
const SETTLING: Duration = Duration::from_secs(15);
/// What was begun while a place was slow is over after this long, and what waited for a retry is through.
const AFTERMATH: Duration = LONGEST_TRANSFER.saturating_add(Duration::from_secs(10));
const PROPERTY: &str = "a destination in trouble delays nobody else";

/// Where these are, acknowledgements take time for other reasons, and they do not show: agents that take the database from
/// each other, or begin anew, and nodes that do.
const AGENTS: [FaultFamily; 4] =
    [FaultFamily::Agents, FaultFamily::Machines, FaultFamily::Applications, FaultFamily::Snapshots];

/// Looks until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    let delaying = FaultFamily::DELAYING.iter().chain(&[FaultFamily::RottingPlaces]);
    if delaying.copied().any(|family| stage.configuration.has(family)) {
        return;
    }
    let agents_are_calm = !AGENTS.iter().any(|family| stage.configuration.has(*family));
    let mut independence = Independence::default();
    let mut seen = vec![0; stage.hosts.len()];
    let mut quiet_since = None;
    let mut ill = vec![None; stage.cluster.places().len()];
    loop {
        time::sleep(LOOK).await;
        let world = world::current();
        let now = world.time();
        for (host, seen) in stage.hosts.iter().zip(&mut seen) {
            let new = host.acknowledgements.since(*seen);
            *seen += new.len();
            for it in new.iter().filter(|_| agents_are_calm) {
                if let Err(error) = independence.acknowledged(it.asked, it.time) {
                    world.violate(PROPERTY, format!("`{}`: {error}", it.database));
                }
            }
        }
        quiet_since = quiet_since.filter(|_| is_quiet(&stage)).or_else(|| is_quiet(&stage).then_some(now));
        independence.is_calm(quiet_since.is_some_and(|since| now >= since + SETTLING), now);
        for (place, ill) in stage.cluster.places().iter().zip(&mut ill) {
            let faults = place.faults();
            if faults != faults.healed() {
                *ill = Some(now);
            }
        }
        let is_well = |index: usize| ill[index].is_none_or(|at| now > at + AFTERMATH) && !stage.is_liar(index);
        look(&stage, &mut independence, now, is_well);
    }
}

/// Whether every node that is not lost for good runs and has room, and every agent runs.
fn is_quiet(stage: &Stage) -> bool {
    let world = world::current();
    let reserve = stage.configuration.disk.reserve.unwrap_or(0);
    let has_agent = |host: &Host| host.application.sources().iter().all(|source| host.handle(source.name()).is_some());
    stage.cluster.newest_leader().is_some()
        && stage.hosts.iter().all(|host| has_agent(host))
        && stage.cluster.nodes().iter().filter(|it| it.lost().is_none()).all(|it| {
            let own = it.node().and_then(|node| world.within(it.machine, || node.replica().space().own.said));
            // By what it knows itself: its budget counts as well as the disk.
            own.is_some_and(|own| own.free > 2 * reserve)
        })
}

fn look(stage: &Stage, independence: &mut Independence, now: Duration, is_well: impl Fn(usize) -> bool) {
    let world = world::current();
    let Some(leader) = stage.cluster.newest_leader() else { return };
    let it = &stage.cluster.nodes()[leader];
    let Some(node) = it.node() else { return };
    let views = world.within(it.machine, || {
        let replica = node.replica();
        let term = replica.leadership().term;
        let names = replica.databases().into_iter();
        (term, names.filter_map(|name| Some((replica.database(&name)?, name))).collect::<Vec<_>>())
    });
    let Some((term, views)) = views else { return };
    for (view, name) in views {
        for (index, place) in stage.cluster.places().iter().enumerate() {
            let known = view.destinations.get(place.name());
            let watermark = known.map_or((0, 0), |known| (known.lineage, known.watermark));
            let lane = Lane { leader: (leader, term), head: (view.head.lineage, view.head.txid), watermark };
            let key = (name.clone(), place.name().to_owned());
            if let Err(error) = independence.observe(key, is_well(index).then_some(lane), now) {
                world.violate(PROPERTY, error);
            }
        }
    }
}
