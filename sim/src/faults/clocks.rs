//! Clocks that run too fast or too slow, and wall clocks that jump.

use std::sync::Arc;
use std::time::Duration;

use super::{draw, strike, wait};
use crate::random::Stream;
use crate::stage::Stage;
use crate::world::{self, Machine};

/// Most runs keep the wall clocks of a majority of the nodes where they are: what the cluster calls the time must be right
/// then. Those of agents are wrong as they like.
const ANY_CLOCK: f64 = 0.2;

/// The machines whose wall clocks may jump.
fn fickle(stage: &Stage) -> Vec<Machine> {
    let mut machines: Vec<Machine> = stage.cluster.nodes().iter().map(|node| node.machine).collect();
    let agents = stage.machines().into_iter().filter(|machine| !machines.contains(machine)).collect::<Vec<_>>();
    world::current().draw(Stream::Clocks, |random| {
        if !random.chance(ANY_CLOCK) {
            let wrong = stage.configuration.expendable_nodes();
            while machines.len() > wrong {
                machines.remove(random.index(machines.len()));
            }
        }
    });
    machines.extend(agents);
    machines
}

/// Changes the clock of one machine after the other.
pub(super) async fn drift_and_jump(stage: Arc<Stage>) {
    let fickle = fickle(&stage);
    loop {
        let machines = stage.machines();
        let (machine, ppm, forward, by) = draw(|random| {
            let machine = *random.pick(&machines).expect("a run has machines");
            let most = *random.pick(&[200, 5_000, 100_000]).unwrap_or(&200);
            let ppm = random.below(2 * most) as i64 - most as i64;
            let by = random.duration(Duration::ZERO..Duration::from_secs(7_200));
            (machine, ppm, random.chance(0.5), by)
        });
        strike(&stage, "clock", || {
            let may = fickle.contains(&machine);
            format!("{machine} runs {ppm} ppm fast, may jump ({may}) {by:?}, forward: {forward}")
        });
        world::current().set_clock_rate(machine, ppm);
        if draw(|random| random.chance(0.5)) && fickle.contains(&machine) {
            world::current().jump_clock(machine, forward, by);
        }
        wait(500..8_000).await;
    }
}
