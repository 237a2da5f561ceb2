//! What breaks during a run: one driver a family, each striking at seeded moments until it is stopped.

mod clocks;
mod disks;
mod hosts;
mod image_rot;
mod network;
mod nodes;
mod places;
mod snapshots;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join};
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time;

use crate::fault_family::FaultFamily;
use crate::random::{Random, Stream};
use crate::stage::Stage;
use crate::world::{self, NetworkFaults};

/// Notes that a fault strikes now.
fn strike(stage: &Stage, kind: &'static str, text: impl FnOnce() -> String) {
    stage.strikes.note(kind, text);
}

fn draw<T>(choose: impl FnOnce(&mut Random) -> T) -> T {
    world::current().draw(Stream::Faults, choose)
}

async fn wait(range: Range<u64>) {
    let range = Duration::from_millis(range.start)..Duration::from_millis(range.end);
    let duration = draw(|random| random.duration(range));
    time::sleep(duration).await;
}

/// Starts the drivers of every family that may strike; dropping them stops them, but heals nothing.
pub fn start(stage: &Arc<Stage>) -> Vec<OwnedTask> {
    let mut drivers = Vec::new();
    for family in &stage.configuration.families {
        if let Some(driver) = driver(*family, stage.clone()) {
            drivers.push(spawn_owned(driver));
        }
    }
    drivers
}

fn driver(family: FaultFamily, stage: Arc<Stage>) -> Option<BoxFuture<'static, ()>> {
    let driver = match family {
        FaultFamily::Loss | FaultFamily::Duplication | FaultFamily::Reordering | FaultFamily::Delays => {
            // One driver for the weather: the first of them that is on.
            let weather = [FaultFamily::Loss, FaultFamily::Duplication, FaultFamily::Reordering, FaultFamily::Delays];
            if weather.iter().find(|it| stage.configuration.has(**it)) != Some(&family) {
                return None;
            }
            network::weather(stage).boxed()
        }
        FaultFamily::Partitions => network::partitions(stage).boxed(),
        FaultFamily::Crashes => nodes::crashes(stage).boxed(),
        FaultFamily::PowerCuts => nodes::power_cuts(stage).boxed(),
        FaultFamily::Pauses => nodes::pauses(stage).boxed(),
        FaultFamily::Wipes => nodes::wipe(stage).boxed(),
        FaultFamily::LeaderMoves => nodes::leader_moves(stage).boxed(),
        FaultFamily::DiskErrors => disks::errors(stage).boxed(),
        FaultFamily::DiskFull => disks::full(stage).boxed(),
        FaultFamily::DiskStalls => disks::stalls(stage).boxed(),
        FaultFamily::BitRot => join(disks::rot(stage.clone()), image_rot::rot(stage)).map(|_| ()).boxed(),
        FaultFamily::Clocks => clocks::drift_and_jump(stage).boxed(),
        FaultFamily::Destinations => places::troubles(stage).boxed(),
        FaultFamily::LyingDestination => places::lies(stage).boxed(),
        FaultFamily::RottingPlaces => places::rot(stage).boxed(),
        FaultFamily::SmallBudgets => places::strain_budgets(stage).boxed(),
        FaultFamily::Agents => hosts::agents(stage).boxed(),
        FaultFamily::Machines => hosts::machines(stage).boxed(),
        FaultFamily::Snapshots => snapshots::bad_moments(stage).boxed(),
        // What applications do besides writing, and sizes, are chosen when a run begins.
        FaultFamily::Applications | FaultFamily::SmallSizes | FaultFamily::ShortHistory => return None,
    };
    Some(driver)
}

/// Mends everything that can be mended. What was lost for good stays lost.
pub async fn heal(stage: &Stage) {
    let world = world::current();
    world.network().set_faults(NetworkFaults::default());
    world.network().heal_all();
    for place in stage.cluster.places() {
        place.heal();
    }
    for (index, node) in stage.cluster.nodes().iter().enumerate() {
        world.resume(node.machine);
        world.set_clock_rate(node.machine, 0);
        disks::heal(stage, index);
        stage.cluster.bring_up(index);
    }
    hosts::heal(stage).await;
}

/// Sees to it that what has rotted and was not read yet is noticed now.
pub async fn read_rotten_images(stage: &Stage) {
    for (index, node) in stage.cluster.nodes().iter().enumerate() {
        if node.has_rotten_images() && node.lost().is_none() {
            image_rot::read(stage, index).await;
        }
    }
}
