//! Disks that fail, fill, stall and rot.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use super::{draw, strike, wait};
use crate::disk::{Crash, DiskFaults};
use crate::stage::Stage;
use crate::world;

/// How often a disk that has too little is looked at.
const TIGHTEN_EVERY: Duration = Duration::from_millis(500);

fn change(stage: &Stage, index: usize, change: impl FnOnce(&mut DiskFaults)) {
    let disk = world::current().disk_of(stage.cluster.nodes()[index].machine);
    let mut faults = disk.faults();
    change(&mut faults);
    disk.set_faults(faults);
}

fn any_node(stage: &Stage) -> usize {
    draw(|random| random.index(stage.cluster.nodes().len()))
}

/// Calls that fail, for a spell, on one node.
pub(super) async fn errors(stage: Arc<Stage>) {
    loop {
        wait(2_000..12_000).await;
        let index = any_node(&stage);
        let share = draw(|random| *random.pick(&[0.001, 0.01, 0.1]).unwrap_or(&0.01));
        let kind = draw(|random| random.below(3));
        strike(&stage, "disk-error", || format!("node {}, kind {kind}, share {share}", index + 1));
        stage.cluster.nodes()[index].set_disk_failed();
        change(&stage, index, |faults| match kind {
            0 => faults.sync_error = share,
            1 => faults.write_error = share,
            _ => faults.read_error = share,
        });
        wait(200..4_000).await;
        change(&stage, index, |faults| {
            *faults = DiskFaults { stall: faults.stall, ..DiskFaults::default() };
        });
    }
}

/// Disks without room: first below the reserve, sometimes down to nothing.
pub(super) async fn full(stage: Arc<Stage>) {
    loop {
        wait(2_000..15_000).await;
        let all = draw(|random| random.chance(0.3));
        let one = any_node(&stage);
        let reserve = stage.configuration.disk.reserve.unwrap_or(0);
        let left = draw(|random| if random.chance(0.7) { random.range(0..reserve) } else { 0 });
        let nodes: Vec<usize> = (0..stage.cluster.nodes().len()).filter(|index| all || *index == one).collect();
        strike(&stage, "disk-full", || format!("nodes {nodes:?} (from 0), {left} bytes left"));
        for index in &nodes {
            stage.cluster.nodes()[*index].set_disk_failed();
            let disk = world::current().disk_of(stage.cluster.nodes()[*index].machine);
            disk.set_capacity(Some(disk.used_bytes() + left));
        }
        wait(1_000..8_000).await;
        for index in nodes {
            give_room(&stage, index);
        }
    }
}

/// Disks that have less than their reserve for long: all followers', so that no majority has room while the leader has
/// enough, or the leader's alone.
pub(super) async fn starve(stage: &Stage) {
    let Some(leader) = stage.cluster.leader() else { return };
    let reserve = stage.configuration.disk.reserve.unwrap_or(0);
    let alone = draw(|random| random.chance(0.5));
    let left = draw(|random| random.range(if alone { 0 } else { reserve / 2 }..reserve * 9 / 10));
    let starved: Vec<usize> = (0..stage.cluster.nodes().len()).filter(|index| (*index == leader) == alone).collect();
    let kind = if alone { "leader-without-room" } else { "no-majority-with-room" };
    strike(stage, kind, || format!("nodes {starved:?} (from 0), {left} bytes left"));
    for index in &starved {
        stage.cluster.nodes()[*index].set_disk_failed();
    }
    // What the product deletes meanwhile, others take.
    let mut capacities = vec![u64::MAX; stage.cluster.nodes().len()];
    let until = time::Instant::now() + Duration::from_millis(draw(|random| random.range(5_000..25_000)));
    while time::Instant::now() < until {
        for index in &starved {
            let disk = world::current().disk_of(stage.cluster.nodes()[*index].machine);
            capacities[*index] = capacities[*index].min(disk.used_bytes() + left);
            disk.set_capacity(Some(capacities[*index]));
        }
        time::sleep(TIGHTEN_EVERY).await;
    }
    for index in starved {
        give_room(stage, index);
    }
}

fn give_room(stage: &Stage, index: usize) {
    let disk = world::current().disk_of(stage.cluster.nodes()[index].machine);
    disk.set_capacity(Some(stage.configuration.disk_bytes));
}

/// Syncs that take a long time.
pub(super) async fn stalls(stage: Arc<Stage>) {
    loop {
        wait(500..8_000).await;
        let index = any_node(&stage);
        let share = draw(|random| *random.pick(&[0.02, 0.2, 1.0]).unwrap_or(&0.2));
        strike(&stage, "disk-stall", || format!("node {}, share {share}", index + 1));
        change(&stage, index, |faults| faults.stall = share);
        wait(500..6_000).await;
        change(&stage, index, |faults| faults.stall = 0.0);
    }
}

/// No log can tell rot of its very last batch from a torn write: a node whose last batch rots just when the power goes
/// forgets what it acknowledged. So these bytes are spared.
const LAST_BATCH: u64 = 16 << 10;

/// Bits that change on the disk of one node: so few that the other nodes have everything.
pub(super) async fn rot(stage: Arc<Stage>) {
    wait(3_000..30_000).await;
    let index = any_node(&stage);
    let node = &stage.cluster.nodes()[index];
    if !stage.cluster.expend(index, "bits of its disk changed") {
        return;
    }
    node.set_disk_failed();
    let times = draw(|random| random.range(2..6));
    for _ in 0..times {
        let log_only = draw(|random| random.chance(0.7));
        let disk = world::current().disk_of(node.machine);
        let files = disk.list_all();
        let newest = files.iter().rev().map(|(path, _)| path).find(|path| path.starts_with("/data/log"));
        let rotten = disk.rot_one(|path, len| match path.starts_with("/data/log") {
            true if newest.is_some_and(|newest| newest == path) => len.saturating_sub(LAST_BATCH),
            in_log if log_only && !in_log => 0,
            _ => len,
        });
        if let Some(rotten) = rotten {
            strike(&stage, "bit-rot", || format!("node {}: {rotten:?}", index + 1));
        }
        wait(100..4_000).await;
        // A program that runs on seldom reads again what it has in memory.
        if draw(|random| random.chance(0.5)) && !stage.cluster.is_held_down(index) {
            stage.cluster.hold_down(index, Crash::Process);
            wait(10..500).await;
            stage.cluster.bring_up(index);
        }
        wait(100..4_000).await;
    }
}

/// A disk that works from now on.
pub(super) fn heal(stage: &Stage, index: usize) {
    change(stage, index, |faults| *faults = DiskFaults::default());
    give_room(stage, index);
}
