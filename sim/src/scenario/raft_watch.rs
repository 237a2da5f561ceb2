//! Watches the nodes' part in consensus, and what they make of their disks.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_node::consensus::RaftInspection;

use crate::oracles::failed_writes::FailedWrites;
use crate::oracles::raft::{Limits, Oracles};
use crate::oracles::room::{Look, Room};
use crate::stage::{SimNode, Stage};
use crate::world;

/// How often every node is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a node may hold in a run of minutes, whatever happens: the whole history is smaller.
const LIMITS: Limits = Limits { log_bytes: 128 << 20, queued_bytes: 16 << 20, unpurged_entries: 200_000 };

/// Looks at all running nodes until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    let mut oracles = Oracles::new(LIMITS);
    // An agent and its rival ship each database.
    let streams = 2 * stage.hosts.len() * stage.configuration.databases;
    let mut disks = Disks { failed: FailedWrites::default(), room: Room::new(streams as u32) };
    loop {
        time::sleep(LOOK).await;
        let world = world::current();
        for it in stage.cluster.nodes() {
            let Some(node) = it.node() else { continue };
            let life = u64::from(world.life_of(it.machine));
            let from = oracles.from(it.machine, life);
            let Some(inspection) = world.within(it.machine, || node.inspect(from)) else { continue };
            if let Err(breach) = oracles.observe(it.machine, life, &inspection, world.time()) {
                world.violate(breach.property, breach.text);
            }
            disks.look(&stage, it, &inspection);
        }
    }
}

struct Disks {
    failed: FailedWrites,
    room: Room,
}

impl Disks {
    fn look(&mut self, stage: &Stage, it: &SimNode, inspection: &RaftInspection) {
        let world = world::current();
        let (machine, life, disk) = (it.machine, world.life_of(it.machine), world.disk_of(it.machine));
        let paused = world.is_paused(machine);
        let failed = disk.failed_files().into_iter().find(|path| !paused && path.starts_with("/data/log"));
        if let Err(error) = self.failed.check(machine, life, failed.as_deref()) {
            world.violate("a failed write of the log ends the program", error);
        }
        let own = inspection.entries.iter().filter(|entry| entry.id.node == inspection.raft_id);
        let look = Look {
            machine,
            life,
            now: world.time(),
            leads: inspection.leads.is_some() && !paused,
            short: disk.free_bytes() < stage.configuration.disk.reserve.unwrap_or(0),
            last: inspection.last.map_or(0, |id| id.index),
            last_payload: own.filter(|entry| entry.payload_len > 0).map(|entry| entry.id.index).max().unwrap_or(0),
        };
        if let Err(error) = self.room.check(&look) {
            world.violate("nodes refuse appends before they run out of room", error);
        }
    }
}
