//! Watches the nodes' part in consensus.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use crate::oracles::raft::{Limits, Oracles};
use crate::stage::Stage;
use crate::world;

/// How often every node is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a node may hold in a run of minutes, whatever happens: the whole history is smaller.
const LIMITS: Limits = Limits { log_bytes: 128 << 20, queued_bytes: 16 << 20, unpurged_entries: 200_000 };

/// Looks at all running nodes until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    let mut oracles = Oracles::new(LIMITS);
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
        }
    }
}
