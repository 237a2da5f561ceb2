//! Watches the commit times in the nodes' position logs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use seawall_node::replica::SegmentRecord;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position};

use crate::oracles::commit_times::{self, CommitTimes, Truth};
use crate::random::Stream;
use crate::stage::Stage;
use crate::world;

const PROPERTY: &str = "commit times are the cluster's";

/// What was seen of commit times so far.
#[derive(Default)]
pub(super) struct TimesWatch {
    times: Mutex<CommitTimes>,
}

impl TimesWatch {
    fn times(&self) -> MutexGuard<'_, CommitTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what `observer`'s position log says.
    pub(super) fn take(&self, stage: &Stage, name: &DatabaseName, records: &[SegmentRecord], observer: &str) {
        let world = world::current();
        for record in records {
            let time = record.commit_time_ms;
            let judged = match self.times().observe(name, (record.lineage, record.last), time) {
                Ok(false) => continue,
                Ok(true) => {
                    let truth = truth(stage, name, record);
                    let text = |error| format!("`{name}` @{}/{}: {error}", record.lineage, record.last);
                    commit_times::check(world.since_beginning(time), &truth).map_err(text)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = judged {
                world.violate(PROPERTY, format!("{error} (on {observer})"));
            }
        }
    }

    /// A time within what was seen of a database, and the lineage to which it belongs.
    pub(super) fn pick(&self, name: &DatabaseName) -> Option<(Lineage, i64)> {
        let times = self.times().of(name);
        world::current().draw(Stream::Oracles, |random| {
            let ((lineage, txid), time) = *random.pick(&times)?;
            let next = times.iter().find(|((of, later), _)| *of == lineage && *later > txid);
            let ahead = next.map_or(1_000, |(_, next)| next.abs_diff(time));
            // As often as not the very moment of a commit.
            Some((lineage, time + if random.chance(0.5) { 0 } else { random.below(ahead + 1) as i64 }))
        })
    }

    /// Judges what a restore as of `time` gave.
    pub(super) fn judge(&self, name: &DatabaseName, time: i64, given: &Position, may_lack: bool, from: &str) {
        if let Err(error) = self.times().judge(name, given.lineage, time, given.txid, may_lack) {
            let text = format!("`{name}` from {from}: {error}");
            world::current().violate("a restore to a time gives the last commit at or before it", text);
        }
    }
}

fn truth(stage: &Stage, name: &DatabaseName, record: &SegmentRecord) -> Truth {
    let world = world::current();
    let sources = stage.hosts.iter().flat_map(|host| host.application.sources());
    let committed = sources.filter(|source| source.name() == name).find_map(|source| {
        source.with_history(|history| Some(history.states()[*history.find(record.checksum_after).first()?].time))
    });
    let moved = stage.cluster.nodes().iter().map(|node| world.wall_clock_moved(node.machine)).collect();
    Truth { committed, seen: world.time(), moved }
}
