//! Raft snapshots at bad moments: for a node that was away while the others purged what it lacks, made while a
//! transaction in parts is open, and on a way that breaks midway.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use super::{draw, strike, wait};
use crate::disk::Crash;
use crate::stage::{Host, Stage};
use crate::world::{self, NetworkFaults};

/// How long to wait until the others have purged what a node that is away lacks.
const PURGED: Duration = Duration::from_secs(12);
/// How long to wait for a transaction of which some parts are there.
const OPEN: Duration = Duration::from_secs(5);
/// How long to wait for an application that keeps its database locked.
const LOCKED: Duration = Duration::from_secs(2);
/// How long to wait for a snapshot that has it.
const COVERED: Duration = Duration::from_secs(4);
/// How long to wait for an image on its way.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// Leaves one follower after the other behind.
pub(super) async fn bad_moments(stage: Arc<Stage>) {
    let nodes = stage.cluster.nodes();
    while nodes.len() > 1 {
        wait(1_000..10_000).await;
        if draw(|random| random.chance(0.4)) {
            hold_open(&stage).await;
            continue;
        }
        let Some(leader) = stage.cluster.leader() else { continue };
        let index = draw(|random| if random.chance(0.4) { leader } else { random.index(nodes.len()) });
        if stage.cluster.is_held_down(index) || nodes[index].node().is_none() || nodes[index].lost().is_some() {
            continue;
        }
        let last = match index == leader {
            true => lead_alone(&stage, index).await,
            false => marks(&stage, index).map_or(0, |marks| marks.last),
        };
        leave_behind(&stage, index, last).await;
    }
}

/// Lets a leader write down what it will never commit, and takes it down; answers where its log ended.
async fn lead_alone(stage: &Stage, index: usize) -> u64 {
    strike(stage, "leader-alone", || format!("node {}", index + 1));
    let network = world::current().network().clone();
    let nodes = stage.cluster.nodes();
    let others = nodes.iter().enumerate().filter(|(other, _)| *other != index);
    let ways: Vec<_> = others.map(|(_, it)| (nodes[index].machine, it.machine)).collect();
    for (from, to) in &ways {
        network.cut(*from, *to);
        network.cut(*to, *from);
    }
    wait(200..1_500).await;
    // What it wrote is on its disk, and nowhere else.
    let last = marks(stage, index).map_or(0, |marks| marks.last);
    stage.cluster.hold_down(index, Crash::Process);
    for (from, to) in ways {
        network.heal(from, to);
        network.heal(to, from);
    }
    last
}

/// Keeps a node down, if it is not yet, until it needs a snapshot.
async fn leave_behind(stage: &Stage, index: usize, last: u64) {
    strike(stage, "left-behind", || format!("node {}", index + 1));
    stage.cluster.hold_down(index, Crash::Process);
    let leader = || marks(stage, stage.cluster.leader()?);
    let purged = until(PURGED, 200, || leader().is_some_and(|marks| marks.purged > last).then_some(())).await;
    let mut cut_off = None;
    if purged.is_some() && draw(|random| random.chance(0.6)) {
        cut_off = leave_open(stage).await;
        if cut_off.is_some() {
            let applied = leader().map_or(0, |marks| marks.applied);
            until(COVERED, 50, || leader().is_some_and(|marks| marks.snapshot >= applied).then_some(())).await;
        }
    }
    stage.cluster.bring_up(index);
    if draw(|random| random.chance(0.7)) {
        break_transfers(stage, index).await;
    }
    if let Some(host) = cut_off {
        wait(0..3_000).await;
        host.start_agent(draw(|random| random.chance(0.3)));
    }
}

/// Lets an agent stand still of whose transaction only the first parts are there, until a snapshot has them and all that
/// is before them is folded and uploaded: then only the open transaction itself keeps its first parts in the log.
async fn hold_open(stage: &Stage) {
    let is_quiet = draw(|random| random.chance(0.6));
    if is_quiet {
        stage.hosts.iter().for_each(|host| host.application.pause());
    }
    if let Some(host) = stand_still(stage).await {
        strike(stage, "transaction-held-open", || host.agent_machine().to_string());
        // Less than what ends its stream.
        wait(1_500..if is_quiet { 9_000 } else { 4_000 }).await;
        // Nobody has uploaded the rest when the next snapshot has it, too.
        let places = if is_quiet { stage.cluster.places() } else { &[] };
        places.iter().for_each(|place| place.change_faults(|faults| faults.gone = true));
        world::current().resume(host.agent_machine());
        if is_quiet {
            wait(1_000..4_000).await;
        }
        places.iter().for_each(|place| place.change_faults(|faults| faults.gone = false));
    }
    if is_quiet {
        stage.hosts.iter().for_each(|host| host.application.resume());
    }
}

/// Kills an agent of whose transaction only the first parts are there.
pub(super) async fn leave_open(stage: &Stage) -> Option<Arc<Host>> {
    let host = stand_still(stage).await?;
    strike(stage, "transaction-left-open", || host.agent_machine().to_string());
    host.kill_agent();
    world::current().resume(host.agent_machine());
    Some(host)
}

/// Has an application change a database, and then all of it, and its agent stand still in the midst of shipping that: on a
/// bad network its messages come one by one.
async fn stand_still(stage: &Stage) -> Option<Arc<Host>> {
    let host = stage.hosts[draw(|random| random.index(stage.hosts.len()))].clone();
    let sources = host.application.sources();
    let source = sources[draw(|random| random.index(sources.len()))].clone();
    let world = world::current();
    if !world.is_alive(host.application.machine()) {
        return None;
    }
    world.network().set_faults(NetworkFaults { loss: 0.5, ..NetworkFaults::default() });
    // What is folded and uploaded while the transaction behind it is open lets go of the log up to there.
    let writing = async {
        host.application.write_once(&source).await?;
        host.application.rewrite_once(&source).await
    };
    // Somebody may keep the database locked for long.
    let rewritten = time::timeout(LOCKED, writing).await;
    let open_parts = || {
        let node = stage.cluster.nodes()[stage.cluster.leader()?].node()?;
        Some(node.replica().open_parts(source.name()))
    };
    // Many of them fill pieces of the log.
    let enough = draw(|random| random.range(1..30)) as usize;
    let limit = if rewritten.is_ok() { OPEN } else { Duration::ZERO };
    until(limit, 5, || open_parts().filter(|parts| *parts >= enough)).await;
    let is_open = open_parts().is_some_and(|parts| parts > 0);
    if is_open {
        world.pause(host.agent_machine());
    }
    world.network().set_faults(NetworkFaults::default());
    is_open.then_some(host)
}

/// Breaks the connections of a node whenever a part of an image has reached it.
async fn break_transfers(stage: &Stage, index: usize) {
    let machine = stage.cluster.nodes()[index].machine;
    let disk = world::current().disk_of(machine);
    for _ in 0..3 {
        let files = || disk.list_all().into_iter();
        let arrives = || files().any(|(path, len)| path.starts_with("/data/incoming") && len > 0).then_some(());
        if until(UNDER_WAY, 1, arrives).await.is_none() {
            return;
        }
        strike(stage, "transfer-broken", || format!("node {}", index + 1));
        world::current().network().reset(machine);
        wait(0..200).await;
    }
}

/// What a node says of its log.
struct Marks {
    last: u64,
    applied: u64,
    snapshot: u64,
    purged: u64,
}

fn marks(stage: &Stage, index: usize) -> Option<Marks> {
    let it = &stage.cluster.nodes()[index];
    let node = it.node()?;
    let seen = world::current().within(it.machine, || node.inspect(u64::MAX))?;
    let [last, applied, snapshot, purged] =
        [seen.last, seen.applied, seen.snapshot, seen.purged].map(|id| id.map_or(0, |id| id.index));
    Some(Marks { last, applied, snapshot, purged })
}

/// Looks every `pause` milliseconds until there is an answer, or the limit has passed.
async fn until<T>(limit: Duration, pause: u64, look: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = time::Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || time::Instant::now() >= deadline {
            return found;
        }
        time::sleep(Duration::from_millis(pause)).await;
    }
}
