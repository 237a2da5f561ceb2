//! Nodes that die, stand still, hand over, or lose everything.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use super::{draw, strike, wait};
use crate::disk::Crash;
use crate::stage::Stage;
use crate::world;

fn any_node(stage: &Stage) -> usize {
    let leader = stage.cluster.leader();
    let nodes = stage.cluster.nodes().len();
    // The leader's fate is the more interesting.
    draw(|random| match leader {
        Some(leader) if random.chance(0.4) => leader,
        _ => random.index(nodes),
    })
}

/// Single nodes die and come back, soon or later, some of them again while they recover.
pub(super) async fn crashes(stage: Arc<Stage>) {
    loop {
        wait(500..10_000).await;
        let index = any_node(&stage);
        if stage.cluster.is_held_down(index) {
            continue;
        }
        let power = draw(|random| random.chance(0.5));
        let crash = || if power { Crash::Power } else { Crash::Process };
        strike(&stage, if power { "power-loss" } else { "kill" }, || format!("node {}", index + 1));
        stage.cluster.hold_down(index, crash());
        let long = draw(|random| random.chance(0.2));
        if long {
            wait(5_000..20_000).await
        } else {
            wait(10..1_500).await
        }
        stage.cluster.bring_up(index);
        if draw(|random| random.chance(0.5)) {
            flapping_link(&stage, index).await;
        }
        if draw(|random| random.chance(0.3)) {
            wait(0..300).await;
            strike(&stage, "crash-during-recovery", || format!("node {}", index + 1));
            stage.cluster.hold_down(index, crash());
            wait(10..1_000).await;
            stage.cluster.bring_up(index);
        }
    }
}

/// The connections of a node that has just come back break again and again, whatever is on its way.
async fn flapping_link(stage: &Stage, index: usize) {
    let (times, pause) = draw(|random| (random.range(5..40), random.range(5..120)));
    strike(stage, "flapping-link", || format!("node {}, {times} times", index + 1));
    for _ in 0..times {
        wait(0..pause).await;
        world::current().network().reset(stage.cluster.nodes()[index].machine);
    }
}

/// The whole cluster loses its power at once.
pub(super) async fn power_cuts(stage: Arc<Stage>) {
    loop {
        wait(4_000..30_000).await;
        strike(&stage, "power-cut", || "all nodes".to_owned());
        let nodes = stage.cluster.nodes().len();
        let ours: Vec<usize> = (0..nodes).filter(|index| !stage.cluster.is_held_down(*index)).collect();
        for index in &ours {
            stage.cluster.hold_down(*index, Crash::Power);
        }
        for index in ours {
            wait(10..1_500).await;
            stage.cluster.bring_up(index);
        }
    }
}

/// Nodes stand still and go on as if nothing had been.
pub(super) async fn pauses(stage: Arc<Stage>) {
    loop {
        wait(500..8_000).await;
        let machine = stage.cluster.nodes()[any_node(&stage)].machine;
        strike(&stage, "pause", || machine.to_string());
        world::current().pause(machine);
        let range = draw(|random| if random.chance(0.3) { 3_000..12_000 } else { 20..2_500 });
        wait(range).await;
        world::current().resume(machine);
    }
}

/// Leadership moves: a node is stopped in order, and started again.
pub(super) async fn leader_moves(stage: Arc<Stage>) {
    loop {
        wait(2_000..15_000).await;
        let Some(leader) = stage.cluster.leader() else { continue };
        strike(&stage, "orderly-restart", || format!("node {}", leader + 1));
        stage.cluster.restart_in_order(leader);
    }
}

/// Once in a run at most, a node loses its disk and comes back empty.
pub(super) async fn wipe(stage: Arc<Stage>) {
    wait(5_000..40_000).await;
    let index = any_node(&stage);
    if !stage.cluster.expend(index, "its disk was lost") {
        return;
    }
    strike(&stage, "wipe", || format!("node {}", index + 1));
    let node = &stage.cluster.nodes()[index];
    stage.cluster.hold_down(index, Crash::Power);
    world::current().disk_of(node.machine).wipe();
    time::sleep(Duration::from_millis(200)).await;
    stage.cluster.bring_up(index);
    flapping_link(&stage, index).await;
}
