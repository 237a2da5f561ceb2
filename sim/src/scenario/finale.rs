//! What must hold once everything is mended: the cluster heals, takes a fresh write, uploads it everywhere, and gives
//! every database back from every node and every destination.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use seawall_host::time::{self, UnixMillis};
use seawall_node::restore::{ClusterSource, DestinationSource, RestoreSource, When};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};

use super::positions::{PositionWatch, has_excused_gap};
use super::retention_watch::RetentionWatch;
use crate::application::source::Source;
use crate::destination::{Change, Place};
use crate::fault_family::FaultFamily;
use crate::oracles::{acknowledged_is_kept, restored_equals_source, watermark};
use crate::random::Stream;
use crate::stage::Host;
use crate::stage::RestoreFailure;
use crate::stage::Stage;
use crate::stage::acknowledge::sync_once;
use crate::world;

/// How long the cluster may take to heal, in virtual time.
const HEALING: Duration = Duration::from_secs(90);

/// How long uploads of what is left may take.
const UPLOADING: Duration = Duration::from_secs(180);

/// How long it may take to find and replace what destinations lost or damaged: several verifications.
const MENDING: Duration = Duration::from_secs(240);

/// Earlier states compared, for each database.
const EARLIER: usize = 3;
/// Times to which each database is restored.
const TIMES: usize = 2;

const HEALS: &str = "with all faults gone the cluster heals";
const ACKNOWLEDGED: &str = "no acknowledged write is lost";
const NEVER_WRONG: &str = "never a wrong database";
const GIVES_BACK: &str = "every node and every destination gives every database back";

/// Waits for `condition`, which says what is missing.
async fn within<T>(limit: Duration, mut condition: impl FnMut() -> Result<T, String>) -> Option<T> {
    let deadline = time::Instant::now() + limit;
    loop {
        match condition() {
            Ok(found) => return Some(found),
            Err(missing) if time::Instant::now() > deadline => {
                world::current().violate(HEALS, format!("{missing}, {limit:?} later"));
                return None;
            }
            Err(_) => time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn within_time<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T, String>>) -> Option<T> {
    let failure = match time::timeout(limit, future).await {
        Ok(Ok(output)) => return Some(output),
        Ok(Err(error)) => error,
        Err(_elapsed) => format!("it did not happen within {limit:?}"),
    };
    world::current().violate(HEALS, format!("{what}: {failure}"));
    None
}

/// Waits until the cluster works again, with everyone caught up.
pub(super) async fn heals(stage: &Stage) {
    within(HEALING, || {
        let leader = stage.cluster.leader().ok_or("no node leads")?;
        let nodes = stage.cluster.nodes();
        let applied = nodes[leader].node().map_or(0, |node| node.replica().cluster().applied);
        for (index, it) in nodes.iter().enumerate().filter(|(_, it)| it.lost().is_none()) {
            let Some(node) = it.node() else {
                let why = it.refusal().unwrap_or_else(|| "no reason known".to_owned());
                return Err(format!("node {} does not run: {why}", index + 1));
            };
            let view = node.replica().cluster();
            if view.applied < applied || view.leader != Some(leader as u64 + 1) {
                let (number, behind) = (index + 1, view.applied);
                let said = view.problem.unwrap_or_default();
                return Err(format!(
                    "node {number} has applied {behind} of {applied} and takes {:?} for the leader, not {} ({said})",
                    view.leader,
                    leader + 1
                ));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until every node's image of every database is sound and at the head.
pub(super) async fn images_heal(stage: &Stage) {
    within(HEALING, || {
        for (index, it) in stage.cluster.nodes().iter().enumerate().filter(|(_, it)| it.lost().is_none()) {
            let node = it.node().ok_or_else(|| format!("node {} does not run", index + 1))?;
            for name in node.replica().databases() {
                let Some(view) = node.replica().database(&name) else { continue };
                let Some(image) = node.images().get(&name, Lineage(view.head.lineage)) else { continue };
                let status = image.status();
                let why = status.quarantined.unwrap_or_default();
                if !why.is_empty() || status.position.txid.0 < view.head.txid {
                    let (number, at, head) = (index + 1, status.position.txid, view.head.txid);
                    return Err(format!("node {number}'s image of `{name}` is at {at}, the head at {head} ({why})"));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// A fresh write to every database is acknowledged and reaches every destination that can be believed.
pub(super) async fn takes_a_fresh_write(stage: &Stage) {
    let places = stage.cluster.places().iter().enumerate();
    let honest: Vec<String> =
        places.filter(|(index, _)| !stage.is_liar(*index)).map(|(_, place)| place.name().to_owned()).collect();
    for host in &stage.hosts {
        for source in host.application.sources() {
            fresh_write(host, source, &honest).await;
        }
    }
}

async fn fresh_write(host: &Host, source: &Source, honest: &[String]) {
    let name = source.name();
    if let Err(error) = host.application.write_once(source).await {
        return world::current().violate("the simulator can write", error.to_string());
    }
    let Some(handle) = within(HEALING, || host.handle(name).ok_or(format!("no agent ships `{name}`"))).await else {
        return;
    };
    let state = |what: &str| format!("{what} of `{name}` (the agent says {:?})", handle.status());
    let synced = async { sync_once(source, &handle, &host.acknowledgements).await.map_err(|error| error.to_string()) };
    if within_time(HEALING, &state("a fresh write"), synced).await.is_none() {
        return;
    }
    if honest.is_empty() {
        return;
    }
    let uploaded = async { handle.sync_to(honest).await.map_err(|error| error.to_string()) };
    within_time(UPLOADING, &state("the upload of a fresh write"), uploaded).await;
}

/// No destination that can be believed stays detached once it has everything.
pub(super) async fn attaches_every_destination(stage: &Stage) {
    within(HEALING, || {
        let leader = stage.cluster.leader().and_then(|index| stage.cluster.nodes()[index].node());
        let node = leader.ok_or("no node leads")?;
        for name in node.replica().databases() {
            let view = node.replica().database(&name).ok_or("a database is gone")?;
            for progress in view.destinations.values().filter(|progress| progress.detached) {
                let place = stage.cluster.places().iter().position(|place| place.name() == progress.destination);
                if place.is_some_and(|index| !stage.is_liar(index)) {
                    return Err(format!("`{name}` is still detached at {}", progress.destination));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until destinations that rot are mended, as far as anybody can mend them: what is promised leads to the newest
/// state again, and of what is lost all that another honest one still has is back, or was said to be lost.
pub(super) async fn destinations_mend(stage: &Stage) {
    if !stage.configuration.has(FaultFamily::RottingPlaces) {
        return;
    }
    within(MENDING, || {
        let leader = stage.cluster.leader().and_then(|index| stage.cluster.nodes()[index].node());
        let node = leader.ok_or("no node leads")?;
        for name in node.replica().databases() {
            let view = node.replica().database(&name).ok_or("a database is gone")?;
            for (index, place) in stage.cluster.places().iter().enumerate().filter(|(index, _)| !stage.is_liar(*index))
            {
                let Some(progress) = view.destinations.get(place.name()) else { continue };
                let promised = (Lineage(progress.lineage), Txid(progress.watermark));
                let whole = whole_objects(place, &name);
                let at = |error: String| format!("`{name}` at {}: {error}", place.name());
                watermark::check(whole.iter().copied(), promised.0, promised.1).map_err(at)?;
                let said = view.verifications.get(place.name());
                let said = said.ok_or_else(|| at("it was never verified".to_owned()))?;
                if said.problems > 0 || said.lost_transactions > 0 {
                    continue;
                }
                let others = stage.cluster.places().iter().enumerate();
                let others = others.filter(|(other, _)| *other != index && !stage.is_liar(*other));
                let had: Vec<ObjectName> = others.flat_map(|(_, other)| whole_objects(other, &name)).collect();
                // History may begin anywhere; what was seen once has to stay, until single transactions are let go of.
                let floors = progress.floors.iter().find(|floors| floors.lineage == progress.lineage);
                let floor = floors.map_or(0, |floors| floors.level_zero);
                let is_promised = |lost: &ObjectName| {
                    let is_seen = lost.first.0 >= said.first_txid && lost.last <= promised.1;
                    lost.lineage == promised.0 && is_seen && lost.last.0 >= floor
                };
                if let Some(missing) = missing_transactions(place, &name, &had, is_promised) {
                    return Err(at(format!("{missing} was lost, another destination has it, and nothing was said")));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// The objects of a database that are at a place and whole.
fn whole_objects(place: &Place, name: &DatabaseName) -> Vec<ObjectName> {
    let corrupted = place.corrupted();
    let names = place.names().into_iter().filter(|object| !corrupted.contains(object));
    names.filter_map(|object| object.strip_prefix(&format!("{name}/"))?.parse().ok()).collect()
}

/// An object of level 0 that a place lost, that was promised and that `had` has, if its transactions are not there in
/// other objects.
fn missing_transactions(
    place: &Place,
    name: &DatabaseName,
    had: &[ObjectName],
    is_promised: impl Fn(&ObjectName) -> bool,
) -> Option<ObjectName> {
    let parse = |object: String| object.strip_prefix(&format!("{name}/"))?.parse::<ObjectName>().ok();
    let there: Vec<ObjectName> = place.names().into_iter().filter_map(parse).collect();
    let holds = |it: &ObjectName, lineage: Lineage, txid: u64| {
        it.level == Level::Log && it.lineage == lineage && (it.first.0..=it.last.0).contains(&txid)
    };
    let is_there = |lost: &ObjectName| {
        (lost.first.0..=lost.last.0).all(|txid| there.iter().any(|it| holds(it, lost.lineage, txid)))
    };
    let mut lost = place.forgotten().into_iter().filter_map(parse);
    lost.find(|lost| lost.level == Level::Log && is_promised(lost) && had.contains(lost) && !is_there(lost))
}

/// Restores every database from everywhere and compares it with the truth. Applications must not write meanwhile.
pub(super) async fn gives_everything_back(stage: &Stage, watch: &PositionWatch, retention: &RetentionWatch) {
    for host in &stage.hosts {
        for source in host.application.sources() {
            for (index, node) in stage.cluster.nodes().iter().enumerate() {
                if node.lost().is_some() {
                    continue;
                }
                let from = Origin::Node(index);
                newest(stage, host, source, watch, from, Expect::Everything).await;
            }
            for index in 0..stage.cluster.places().len() {
                let expect = if stage.is_liar(index) { Expect::NoLie } else { Expect::Everything };
                newest(stage, host, source, watch, Origin::Place(index), expect).await;
            }
            earlier(stage, source, watch, retention).await;
            at_times(stage, source, watch, retention).await;
            for index in 0..stage.cluster.places().len() {
                is_sound(stage, source, index).await;
            }
        }
    }
}

/// Verifies all that a destination holds of a database: nothing there is damaged but what rotted there.
async fn is_sound(stage: &Stage, source: &Source, index: usize) {
    let place = &stage.cluster.places()[index];
    if stage.is_liar(index) {
        return;
    }
    // What cannot be read or listed shows elsewhere.
    let Ok(report) = stage.operator.verify(Origin::Place(index).source(stage, source)).await else { return };
    // Perhaps it was mended meanwhile.
    let journal = place.journal().into_iter();
    let rotten: Vec<String> =
        journal.filter(|entry| matches!(entry.change, Change::Corrupted { .. })).map(|entry| entry.name).collect();
    let prefix = source.name();
    for finding in report.damaged {
        if !rotten.contains(&format!("{prefix}/{}", finding.object)) {
            let text = format!("{}/{}: {}", place.name(), finding.object, finding.cause);
            return world::current().violate("what is uploaded is sound", text);
        }
    }
}

/// What may be expected of an origin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// The newest state.
    Everything,
    /// All that was acknowledged, if it answers.
    Acknowledged,
    /// A true state, if it answers.
    NoLie,
}

/// Where a database is restored from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A node, counted from 0.
    Node(usize),
    /// A node, counted from 0, whose own newest state will do if it has no leader.
    Stale(usize),
    /// A destination, counted from 0.
    Place(usize),
}

impl Origin {
    /// Every node that is not lost, and every destination.
    fn all(stage: &Stage) -> Vec<Self> {
        let nodes = (0..stage.cluster.nodes().len()).filter(|index| stage.cluster.nodes()[*index].lost().is_none());
        nodes.map(Self::Node).chain((0..stage.cluster.places().len()).map(Self::Place)).collect()
    }

    pub(super) fn source(
        self,
        stage: &Stage,
        source: &Source,
    ) -> Box<dyn Fn() -> Arc<dyn RestoreSource> + Send + Sync> {
        let name = source.name().clone();
        match self {
            Self::Node(index) | Self::Stale(index) => {
                let stale = matches!(self, Self::Stale(_));
                let address = stage.cluster.nodes()[index].address.clone();
                Box::new(move || Arc::new(ClusterSource::new(vec![address.clone()], name.clone(), stale)))
            }
            Self::Place(index) => {
                let place = stage.cluster.places()[index].clone();
                Box::new(move || Arc::new(DestinationSource::new(place.destination(), name.clone())))
            }
        }
    }
}

/// Restores the newest state and judges it.
pub(super) async fn newest(
    stage: &Stage,
    host: &Host,
    source: &Source,
    watch: &PositionWatch,
    origin: Origin,
    expect: Expect,
) {
    let world = world::current();
    let name = source.name();
    let acknowledged: Vec<_> = host.acknowledgements.all().into_iter().filter(|it| it.database == *name).collect();
    let truth = source.with_history(|history| history.newest().map(|(_, state)| state.content.checksum));
    let given = match stage.operator.restore(origin.source(stage, source), When::Newest, None).await {
        Ok(given) => given,
        Err(RestoreFailure::Broken(why)) => {
            return world.violate(NEVER_WRONG, format!("`{name}` from {origin:?}: {why}"));
        }
        Err(error) if expect == Expect::Everything => {
            return world.violate(GIVES_BACK, format!("`{name}` from {origin:?}: {error}"));
        }
        Err(_) => return,
    };
    watch.observe(name, &given.position, &format!("a restore from {origin:?}"));
    let compared = source
        .with_history(|history| restored_equals_source::check(&given.image, given.page_size, &given.position, history));
    if let Err(error) = compared {
        return world.violate(NEVER_WRONG, format!("`{name}` from {origin:?}: {error}"));
    }
    if expect == Expect::NoLie {
        return;
    }
    if let Err(error) = acknowledged_is_kept::check(&acknowledged, &given.position, &watch.checksums(name)) {
        return world.violate(ACKNOWLEDGED, format!("from {origin:?}: {error}"));
    }
    if expect == Expect::Everything && truth != Some(given.position.checksum) {
        let text = format!("`{name}` from {origin:?} is {}, but the source is {truth:?}", given.position);
        world.violate(GIVES_BACK, text);
    }
}

/// Asks what there is, as a restore does, and reads nothing of it.
pub(super) async fn inquire(stage: &Stage, source: &Source, origin: Origin) {
    // Nothing is promised that could be judged.
    let _ = stage.operator.inquire(origin.source(stage, source)).await;
}

/// Restores some earlier states and judges them.
async fn earlier(stage: &Stage, source: &Source, watch: &PositionWatch, retention: &RetentionWatch) {
    let world = world::current();
    let name = source.name();
    let seen = watch.of(name);
    for _ in 0..EARLIER {
        let chosen: Option<(Position, Origin)> = world.draw(Stream::Oracles, |random| {
            let position = *random.pick(&seen)?;
            Some((position, *random.pick(&Origin::all(stage))?))
        });
        let Some((position, origin)) = chosen else { return };
        let make = origin.source(stage, source);
        let given = stage.operator.restore(make, When::Txid(position.txid), Some(position.lineage)).await;
        let given = match given {
            Ok(given) => given,
            // A destination whose leader never had the log goes on from a snapshot; the gap shows.
            Err(RestoreFailure::Refused(_)) if has_excused_gap(stage) => continue,
            Err(RestoreFailure::Refused(_)) if retention.has_expired(stage, name, &position) => continue,
            // What two of them lose is lost, and what nobody has read lately is not found yet; so is what a node fetches.
            Err(RestoreFailure::Refused(_)) if stage.configuration.has(FaultFamily::RottingPlaces) => continue,
            // It may have lost anything, but what it gives must be true.
            Err(RestoreFailure::Refused(_)) if matches!(origin, Origin::Place(index) if stage.is_liar(index)) => {
                continue;
            }
            Err(error) => {
                return world.violate(GIVES_BACK, format!("`{name}` at {position} from {origin:?}: {error}"));
            }
        };
        if given.position != position {
            let text = format!("`{name}` at {position} was asked for, {origin:?} gave {}", given.position);
            return world.violate(NEVER_WRONG, text);
        }
        let compared = source.with_history(|history| {
            restored_equals_source::check(&given.image, given.page_size, &given.position, history)
        });
        if let Err(error) = compared {
            return world.violate(NEVER_WRONG, format!("`{name}` at {position} from {origin:?}: {error}"));
        }
    }
}

/// Restores the database as of some times and judges what that gives.
async fn at_times(stage: &Stage, source: &Source, watch: &PositionWatch, retention: &RetentionWatch) {
    let world = world::current();
    let name = source.name();
    for _ in 0..TIMES {
        let Some((lineage, time)) = watch.times.pick(name) else { return };
        let origins = Origin::all(stage);
        let Some(origin) = world.draw(Stream::Oracles, |random| random.pick(&origins).copied()) else { return };
        // What two of them lose is lost, and what nobody has read lately is not found yet.
        let may_lack = has_excused_gap(stage)
            || stage.configuration.has(FaultFamily::RottingPlaces)
            || matches!(origin, Origin::Place(index) if stage.is_liar(index));
        let when = When::Time(UnixMillis(time));
        let given = match stage.operator.restore(origin.source(stage, source), when, Some(lineage)).await {
            Ok(given) => given,
            Err(RestoreFailure::Refused(_)) if may_lack => continue,
            // What is left begins later.
            Err(RestoreFailure::Refused(_))
                if retention.has_expired(stage, name, &Position { lineage, ..Position::default() }) =>
            {
                continue;
            }
            Err(error) => {
                return world.violate(GIVES_BACK, format!("`{name}` as of {time} from {origin:?}: {error}"));
            }
        };
        let may_lack = may_lack || retention.has_expired(stage, name, &given.position);
        watch.times.judge(name, time, &given.position, may_lack, &format!("{origin:?}"));
        watch.observe(name, &given.position, &format!("a restore of a time from {origin:?}"));
        let compared = source.with_history(|history| {
            restored_equals_source::check(&given.image, given.page_size, &given.position, history)
        });
        if let Err(error) = compared {
            return world.violate(NEVER_WRONG, format!("`{name}` as of {time} from {origin:?}: {error}"));
        }
    }
}
