//! Agents that die, restart and compete; applications and their machines that die; databases that are replaced.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_node::restore::ClusterSource;
use seawall_proto::position::Lineage;

use super::{draw, strike, wait};
use crate::application::machine::MachineDeath;
use crate::application::source::Source;
use crate::stage::{Host, Stage};
use crate::world;

fn any_host(stage: &Stage) -> Arc<Host> {
    stage.hosts[draw(|random| random.index(stage.hosts.len()))].clone()
}

/// Agents die and come back while the application writes on, or a second one takes over from one that will not die.
pub(super) async fn agents(stage: Arc<Stage>) {
    loop {
        wait(500..8_000).await;
        let host = any_host(&stage);
        let kind = draw(|random| random.below(12));
        if kind == 0 {
            race_of_claims(&stage, &host).await;
        } else if kind > 9 {
            image_kept_still(&stage, &host).await;
        } else if kind < 3 {
            strike(&stage, "agent-cut-off", || host.agent_machine().to_string());
            world::current().network().reset(host.agent_machine());
        } else if kind < 7 {
            let midway = draw(|random| random.chance(0.5)) && a_commit_is_shipped(&host).await;
            strike(&stage, "agent-killed", || format!("{}, midway: {midway}", host.agent_machine()));
            host.kill_agent();
            let range = draw(|random| if random.chance(0.3) { 2_000..10_000 } else { 0..800 });
            wait(range).await;
            host.start_agent(draw(|random| random.chance(0.3)));
        } else {
            strike(&stage, "second-agent", || host.agent_machine().to_string());
            host.start_rival();
            wait(200..8_000).await;
            // The one that was there first stays and is not to be believed, or the intruder goes.
            if draw(|random| random.chance(0.5)) {
                host.kill_rival();
                host.start_agent(true);
            } else {
                host.kill_agent();
                wait(0..2_000).await;
                host.start_agent(true);
                wait(0..4_000).await;
                host.kill_rival();
            }
        }
    }
}

/// Waits for the moments after a commit, in which its parts travel; false if there was none for a while.
async fn a_commit_is_shipped(host: &Host) -> bool {
    let commits = || host.application.sources().iter().map(|source| source.commits()).sum::<u64>();
    let before = commits();
    for _ in 0..300 {
        time::sleep(Duration::from_millis(10)).await;
        if commits() > before {
            wait(0..30).await;
            return true;
        }
    }
    false
}

/// Two agents that are both to take over restart one after the other, as those do whose supervisors want them up.
async fn race_of_claims(stage: &Stage, host: &Host) {
    let rounds = draw(|random| random.range(3..10));
    strike(stage, "claims-race", || format!("{rounds} rounds at {}", host.agent_machine()));
    for _ in 0..rounds {
        host.start_rival();
        wait(0..150).await;
        host.start_agent(true);
        wait(0..150).await;
    }
    host.kill_rival();
    host.start_agent(true);
}

/// The leader's image of a database is kept still, by an operator who asks what there is and goes away, or by a snapshot
/// on its way to slow destinations; and the agent's stream breaks once the head has gone on.
async fn image_kept_still(stage: &Stage, host: &Host) {
    let Some(leader) = stage.cluster.leader() else { return };
    let sources = host.application.sources();
    let source = sources[draw(|random| random.index(sources.len()))].clone();
    let slow = draw(|random| random.chance(0.5));
    strike(stage, "image-kept-still", || format!("`{}` on node {}, slow places: {slow}", source.name(), leader + 1));
    let slow_down = |rate| {
        stage.cluster.places().iter().for_each(|place| place.change_faults(|faults| faults.bytes_per_second = rate));
    };
    if slow {
        slow_down(Some(draw(|random| random.range(4 << 10..16 << 10))));
        let mut behind = 0;
        for _ in 0..100 {
            time::sleep(Duration::from_millis(100)).await;
            behind = if image_is_behind(stage, leader, &source) { behind + 1 } else { 0 };
            if behind == 4 {
                break;
            }
        }
    } else {
        let (address, name) = (stage.cluster.nodes()[leader].address.clone(), source.name().clone());
        let inquiry = stage.operator.inquire(move || Arc::new(ClusterSource::new(vec![address], name, true)));
        let _ = time::timeout(Duration::from_secs(3), inquiry).await;
        wait(100..1_500).await;
    }
    world::current().network().reset(host.agent_machine());
    // It takes the leader some seconds to turn to the other nodes.
    wait(3_000..8_000).await;
    if slow {
        slow_down(None);
    }
}

/// Whether a node's image of a database is older than what it has applied.
fn image_is_behind(stage: &Stage, index: usize, source: &Source) -> bool {
    let Some(node) = stage.cluster.nodes()[index].node() else { return false };
    let head = node.replica().database(source.name()).map(|view| view.head);
    head.is_some_and(|head| {
        let image = node.images().get(source.name(), Lineage(head.lineage));
        image.is_some_and(|image| image.status().position.txid.0 < head.txid)
    })
}

/// Applications die, alone or with their machine, and operators replace databases.
pub(super) async fn machines(stage: Arc<Stage>) {
    loop {
        wait(1_000..12_000).await;
        let host = any_host(&stage);
        match draw(|random| random.below(5)) {
            0 => {
                strike(&stage, "application-killed", || host.application.machine().to_string());
                host.application.kill().await;
                wait(0..2_000).await;
                host.start_application();
            }
            1 => {
                let in_order = draw(|random| random.chance(0.5));
                strike(&stage, "database-replaced", || format!("in order: {in_order}"));
                if in_order {
                    host.application.stop().await;
                } else {
                    host.application.kill().await;
                }
                let agent_too = draw(|random| random.chance(0.5));
                if agent_too {
                    host.kill_agent();
                    host.kill_rival();
                }
                wait(0..1_000).await;
                let source = host.application.sources()[0].clone();
                if let Err(error) = host.application.replace_with_backup(&source) {
                    world::current().violate("the simulator can replace a database", error.to_string());
                }
                host.start_application();
                if agent_too {
                    host.start_agent(false);
                }
            }
            kind => {
                let death = if kind == 2 { MachineDeath::Reset } else { MachineDeath::PowerLoss };
                // What was shipped and not synced by the application is what a loss of power takes back.
                if draw(|random| random.chance(0.6)) && a_commit_is_shipped(&host).await {
                    wait(5..200).await;
                }
                strike(&stage, "host-dies", || format!("{death:?} of {}", host.application.machine()));
                if let Err(error) = host.die(death) {
                    world::current().violate("a database survives its machine's death", error.to_string());
                }
                wait(100..5_000).await;
                if draw(|random| random.chance(0.5)) {
                    host.start_application();
                    host.start_agent(false);
                } else {
                    // What an agent finds that nobody has written to since.
                    host.start_agent(false);
                    wait(0..1_000).await;
                    host.start_application();
                }
            }
        }
    }
}

/// Every application runs, with one agent that is allowed to take over.
pub(super) async fn heal(stage: &Stage) {
    for host in &stage.hosts {
        host.kill_rival();
        host.start_application();
        host.application.resume();
        world::current().set_clock_rate(host.agent_machine(), 0);
        world::current().resume(host.agent_machine());
        host.start_agent(true);
    }
}
