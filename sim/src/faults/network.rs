//! Weather and partitions.

use std::sync::Arc;
use std::time::Duration;

use super::{draw, strike, wait};
use crate::fault_family::FaultFamily;
use crate::random::Random;
use crate::stage::Stage;
use crate::world::{self, Machine, NetworkFaults};

/// Loss, duplication, reordering and delays, in spells of seconds with pauses between them.
pub(super) async fn weather(stage: Arc<Stage>) {
    loop {
        wait(0..6_000).await;
        let faults = draw(|random| storm(random, &|family| stage.configuration.has(family)));
        strike(&stage, "network-weather", || format!("{faults:?}"));
        world::current().network().set_faults(faults);
        wait(500..10_000).await;
        world::current().network().set_faults(NetworkFaults::default());
    }
}

fn storm(random: &mut Random, has: &dyn Fn(FaultFamily) -> bool) -> NetworkFaults {
    let severity = *random.pick(&[0.002, 0.01, 0.05, 0.2]).unwrap_or(&0.01);
    let mut faults = NetworkFaults::default();
    if has(FaultFamily::Loss) {
        faults.loss = severity;
        faults.resets = severity / 10.0;
    }
    if has(FaultFamily::Duplication) {
        faults.duplicates = severity;
    }
    if has(FaultFamily::Reordering) {
        faults.reordering = severity * 2.0;
    }
    if has(FaultFamily::Delays) {
        faults.spikes = severity;
        let slow = random.range(1..80);
        faults.latency = Duration::from_micros(200)..Duration::from_millis(slow);
    }
    faults
}

/// Cuts between machines: symmetric, one-way, in a ring, or around one of them.
pub(super) async fn partitions(stage: Arc<Stage>) {
    loop {
        wait(1_000..9_000).await;
        let machines = stage.machines();
        let leader = stage.cluster.leader().map(|leader| stage.cluster.nodes()[leader].machine);
        let followers: Vec<Machine> =
            stage.cluster.nodes().iter().map(|node| node.machine).filter(|it| Some(*it) != leader).collect();
        let alone = leader.filter(|_| draw(|random| random.chance(0.25)));
        let cuts = match alone {
            // It leads on, with clients and without followers.
            Some(leader) => followers.iter().flat_map(|it| [(leader, *it), (*it, leader)]).collect(),
            None => draw(|random| cut(random, &machines)),
        };
        strike(&stage, "partition", || format!("{cuts:?}"));
        let network = world::current().network().clone();
        for (from, to) in &cuts {
            network.cut(*from, *to);
        }
        wait(200..12_000).await;
        for (from, to) in cuts {
            network.heal(from, to);
        }
    }
}

fn cut(random: &mut Random, machines: &[Machine]) -> Vec<(Machine, Machine)> {
    let pairs = |which: &mut dyn FnMut(usize, usize) -> bool| {
        let mut cuts = Vec::new();
        for from in 0..machines.len() {
            for to in 0..machines.len() {
                if from != to && which(from, to) {
                    cuts.push((machines[from], machines[to]));
                }
            }
        }
        cuts
    };
    let count = machines.len();
    match random.below(4) {
        // Two sides that hear nothing of each other.
        0 => {
            let sides: Vec<bool> = machines.iter().map(|_| random.chance(0.5)).collect();
            pairs(&mut |from, to| sides[from] != sides[to])
        }
        // One that is heard by nobody, or hears nobody.
        1 => {
            let (one, deaf) = (random.index(count), random.chance(0.5));
            pairs(&mut |from, to| if deaf { to == one } else { from == one })
        }
        // Everyone reaches its neighbours only.
        2 => pairs(&mut |from, to| (from + 1) % count != to && (to + 1) % count != from),
        // Single directions.
        _ => pairs(&mut |_, _| random.chance(0.25)),
    }
}
