//! The acts of a run.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time;

use super::budget_watch;
use super::finale::{self, Expect, Origin};
use super::image_watch;
use super::independence_watch;
use super::log_watch;
use super::place_watch;
use super::positions::PositionWatch;
use super::raft_watch;
use super::retention_watch::RetentionWatch;
use crate::application::directory::TemporaryDirectory;
use crate::application::{Application, ApplicationOptions};
use crate::destination::Place;
use crate::fault_family::FaultFamily;
use crate::faults;
use crate::random::{Random, Stream};
use crate::stage::Cluster;
use crate::stage::Configuration;
use crate::stage::Host;
use crate::stage::Operator;
use crate::stage::Stage;
use crate::world;

/// How often the nodes' position logs are read.
const LOOK: Duration = Duration::from_millis(500);

/// Puts up what `configuration` says. The directory holds the databases and must outlive the run.
///
/// # Errors
/// If a database cannot be created.
pub fn set_up(configuration: &Configuration, directory: &TemporaryDirectory) -> anyhow::Result<Arc<Stage>> {
    let world = world::current();
    let places: Vec<Arc<Place>> =
        (1..=configuration.windows.len()).map(|number| Place::new(&format!("place-{number}"))).collect();
    for (place, unconditional) in places.iter().zip(&configuration.unconditional) {
        place.change_faults(|faults| {
            faults.unconditional = *unconditional;
            faults.latency = Duration::from_millis(1)..Duration::from_millis(8);
        });
    }
    let cluster = Cluster::new(configuration, places);
    let mut hosts = Vec::new();
    for number in 1..=configuration.hosts {
        let machine = world.add_machine(&format!("application-{number}"));
        let names = (1..=configuration.databases).map(|database| format!("host-{number}/app-{database}").parse());
        let options = ApplicationOptions {
            databases: names.collect::<Result<_, _>>()?,
            disruptive: configuration.has(FaultFamily::Applications),
        };
        let application = Application::new(machine, directory, &options)?;
        hosts.push(Host::new(application, cluster.addresses(), configuration.agent_sizes.clone(), number));
    }
    let operator = Operator::new(world.add_machine("operator"), world.add_machine("operator-interrupted"));
    Ok(Stage::new(configuration.clone(), cluster, hosts, operator))
}

/// Plays the run: the faults for `duration`, then healing and the final comparison. What does not hold is told to the
/// world.
pub async fn play(stage: Arc<Stage>, duration: Duration) {
    let watch = Arc::new(PositionWatch::default());
    let supervisor = spawn_owned(stage.cluster.clone().supervise());
    let consensus = spawn_owned(raft_watch::watch(stage.clone()));
    let images = spawn_owned(image_watch::watch(stage.clone()));
    let retention = Arc::new(RetentionWatch::default());
    let space =
        [spawn_owned(budget_watch::watch(stage.clone())), spawn_owned(independence_watch::watch(stage.clone()))];
    let watching = [
        spawn_owned(look(stage.clone(), watch.clone(), retention.clone())),
        spawn_owned(restore(stage.clone(), watch.clone())),
        spawn_owned(log_watch::watch(stage.clone())),
        spawn_owned(place_watch::watch(stage.clone())),
    ];
    for index in 0..stage.cluster.nodes().len() {
        stage.cluster.launch(index);
    }
    for host in &stage.hosts {
        host.start_application();
        host.start_agent(false);
    }
    let drivers: Vec<OwnedTask> = faults::start(&stage);
    time::sleep(duration).await;
    drop(drivers);
    world::current().event("act", 1, || "the faults end".to_owned());
    faults::heal(&stage).await;
    finale::heals(&stage).await;
    log_watch::look_at_all(&stage).await;
    finale::takes_a_fresh_write(&stage).await;
    world::current().event("act", 2, || "the applications stop".to_owned());
    for host in &stage.hosts {
        host.application.stop().await;
    }
    // Once more, for what they wrote until they stopped.
    finale::takes_a_fresh_write(&stage).await;
    finale::attaches_every_destination(&stage).await;
    drop(watching);
    retention.look(&stage);
    watch.look(&stage, &retention);
    world::current().event("act", 3, || "everything is compared".to_owned());
    log_watch::look_at_all(&stage).await;
    faults::read_rotten_images(&stage).await;
    finale::images_heal(&stage).await;
    finale::destinations_mend(&stage).await;
    finale::gives_everything_back(&stage, &watch, &retention).await;
    watch.compare_with_sources(&stage);
    retention.end(&stage);
    drop((supervisor, consensus, images, space));
}

async fn look(stage: Arc<Stage>, watch: Arc<PositionWatch>, retention: Arc<RetentionWatch>) {
    for turn in 1_u64.. {
        time::sleep(LOOK).await;
        retention.look(&stage);
        watch.look(&stage, &retention);
        if turn.is_multiple_of(10) {
            watch.compare_with_sources(&stage);
        }
    }
}

/// Restores now and then in the midst of it all, some of them as soon as a node has started: an answer may be refused
/// then, but must not be wrong, nor old unless that was allowed.
async fn restore(stage: Arc<Stage>, watch: Arc<PositionWatch>) {
    let nodes = stage.cluster.nodes().len();
    loop {
        let draw = |random: &mut Random| {
            let pause = random.duration(Duration::from_secs(2)..Duration::from_secs(20));
            let host = random.index(stage.hosts.len());
            let database = random.index(stage.configuration.databases);
            let origin = random.index(nodes + stage.cluster.places().len());
            (pause, host, database, origin, random.chance(0.5))
        };
        let (pause, host, database, origin, at_a_start) = world::current().draw(Stream::Oracles, draw);
        let mut origin = if origin < nodes { Origin::Node(origin) } else { Origin::Place(origin - nodes) };
        if at_a_start && let Ok(started) = time::timeout(pause, next_start(&stage)).await {
            origin = Origin::Node(started);
        } else {
            time::sleep(pause).await;
        }
        let host = &stage.hosts[host];
        let source = &host.application.sources()[database];
        match (origin, world::current().draw(Stream::Oracles, |random| random.below(4))) {
            (Origin::Node(index), 0 | 1) => {
                finale::newest(&stage, host, source, &watch, Origin::Stale(index), Expect::NoLie).await;
            }
            (_, 2) => {
                // Where it may be in the way of whoever writes.
                let origin = stage.cluster.leader().map_or(origin, Origin::Node);
                finale::inquire(&stage, source, origin).await;
            }
            (Origin::Node(_), _) => finale::newest(&stage, host, source, &watch, origin, Expect::Acknowledged).await,
            _ => finale::newest(&stage, host, source, &watch, origin, Expect::NoLie).await,
        }
    }
}

/// Waits until a node has started; answers which.
async fn next_start(stage: &Stage) -> usize {
    let lives = || stage.cluster.nodes().iter().map(|node| world::current().life_of(node.machine));
    let before: Vec<u32> = lives().collect();
    loop {
        time::sleep(Duration::from_millis(20)).await;
        let started =
            |(index, life): (usize, u32)| life != before[index] && stage.cluster.nodes()[index].node().is_some();
        if let Some(index) = lives().enumerate().position(started) {
            return index;
        }
    }
}
