//! Clocks that run too fast or too slow, and wall clocks that jump.

use std::sync::Arc;
use std::time::Duration;

use super::{draw, strike, wait};
use crate::stage::Stage;
use crate::world;

/// Changes the clock of one machine after the other.
pub(super) async fn drift_and_jump(stage: Arc<Stage>) {
    loop {
        let machines = stage.machines();
        let (machine, ppm, forward, by) = draw(|random| {
            let machine = *random.pick(&machines).expect("a run has machines");
            let most = *random.pick(&[200, 5_000, 100_000]).unwrap_or(&200);
            let ppm = random.below(2 * most) as i64 - most as i64;
            let by = random.duration(Duration::ZERO..Duration::from_secs(7_200));
            (machine, ppm, random.chance(0.5), by)
        });
        strike(&stage, "clock", || format!("{machine} runs {ppm} ppm fast, jumps {by:?}, forward: {forward}"));
        world::current().set_clock_rate(machine, ppm);
        if draw(|random| random.chance(0.5)) {
            world::current().jump_clock(machine, forward, by);
        }
        wait(500..8_000).await;
    }
}
