//! What this node knows of its room, and of the other voters': all of them ask each other, so that one that comes to
//! lead need not let anything in before it knows. What their clocks show comes with the same answers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{join, join_all};
use seawall_host::time::{Instant, UnixMillis};
use seawall_host::{disk, time};
use seawall_proto::v1;

use super::clocks::{ClockBoard, OwnClocks};
use super::identity::Identity;
use super::live_state::LiveState;
use super::network::{Network, Purpose};
use super::types::Member;
use super::watch_membership::says_removed;
use crate::space::{NodeSpace, OwnSpace, Room, Usage};

/// How often the disk is looked at, and the voters are asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a voter may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// What a voter said counts for so long.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// What somebody said, and how often it has said something: what was let in since is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<T> {
    /// What it said last.
    pub said: T,
    /// The number of this report.
    pub number: u64,
}

/// The room of the cluster, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpace {
    /// Its own.
    pub own: Report<NodeSpace>,
    /// That of each other voter, by Raft id; `None` where it has not said anything lately.
    pub others: BTreeMap<u64, Option<Report<Room>>>,
}

/// Where it is kept.
pub(super) struct SpaceBoard {
    known: Mutex<Known>,
    data_dir: PathBuf,
}

struct Known {
    own: Report<NodeSpace>,
    /// What each other voter said last, and when.
    others: BTreeMap<u64, Option<(Report<Room>, Instant)>>,
}

impl SpaceBoard {
    /// Looks for the first time.
    pub(super) async fn begin(usage: &mut Usage, data_dir: PathBuf) -> io::Result<Self> {
        let own = Report { said: usage.look().await?, number: 0 };
        Ok(Self { known: Mutex::new(Known { own, others: BTreeMap::new() }), data_dir })
    }

    pub(super) fn known(&self) -> ClusterSpace {
        let known = self.lock();
        let lately = |said: &(Report<Room>, Instant)| (said.1.elapsed() <= SILENT_AFTER).then_some(said.0);
        let others = known.others.iter().map(|(id, said)| (*id, said.as_ref().and_then(lately))).collect();
        ClusterSpace { own: known.own, others }
    }

    pub(super) fn own(&self) -> NodeSpace {
        self.lock().own.said
    }

    /// Whether there is room at this moment for what can be written later just as well.
    pub(super) async fn has_room_for_copies_now(&self) -> bool {
        let own = self.own();
        match disk::space(&self.data_dir).await {
            Ok(now) => NodeSpace { free: own.free.min(now.available), ..own }.has_room_for_copies(0),
            Err(_) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self, own: NodeSpace) {
        let report = &mut self.lock().own;
        *report = Report { said: own, number: report.number + 1 };
    }

    /// Forgets who is no other voter any more.
    fn voters_are(&self, voters: &[(u64, Member)]) {
        let others = &mut self.lock().others;
        others.retain(|id, _| voters.iter().any(|(voter, _)| voter == id));
        for (id, _) in voters {
            others.entry(*id).or_default();
        }
    }

    fn said(&self, voter: u64, room: Room) {
        if let Some(last) = self.lock().others.get_mut(&voter) {
            let number = last.map_or(0, |(report, _)| report.number + 1);
            *last = Some((Report { said: room, number }, Instant::now()));
        }
    }
}

impl OwnSpace for SpaceBoard {
    fn own_space(&self) -> NodeSpace {
        self.own()
    }
}

/// Keeps `board` true, and `clocks`.
pub(super) async fn watch(
    mut usage: Usage,
    board: Arc<SpaceBoard>,
    clocks: Arc<ClockBoard>,
    live: Arc<LiveState>,
    identity: Arc<Identity>,
    network: Network,
) {
    let looking = async {
        loop {
            match usage.look().await {
                Ok(own) => board.looked(own),
                Err(error) => tracing::warn!(%error, "cannot see how much of the disk is free"),
            }
            time::sleep(LOOK_EVERY).await;
        }
    };
    // One that does not answer holds up nobody's look at its own disk.
    join(looking, ask(&board, &clocks, &live, &identity, &network)).await;
}

async fn ask(board: &SpaceBoard, clocks: &ClockBoard, live: &LiveState, identity: &Identity, network: &Network) {
    loop {
        let voters = other_voters(live, identity);
        board.voters_are(&voters);
        clocks.voters_are(|id| voters.iter().any(|(voter, _)| *voter == id));
        let asked = voters.iter().map(|(id, member)| {
            let (mut peer, envelope) = (network.peer(&member.address, Purpose::Control), identity.envelope(*id));
            async move {
                let request = v1::ReportSpaceRequest { envelope: Some(envelope) };
                let asked = Instant::now();
                let answer = match time::timeout(ANSWER_LIMIT, peer.report_space(request)).await {
                    Ok(Ok(answer)) => Some(answer),
                    // Whoever is no member any more is told so by those that are.
                    Ok(Err(status)) if says_removed(identity, &status) => {
                        live.set_removed(identity.configured_id());
                        None
                    }
                    Ok(Err(_)) | Err(_) => None,
                };
                if let Some(answer) = answer {
                    let v1::ReportSpaceResponse { free, reserve, destination_limit, wall_clock_ms } =
                        answer.into_inner();
                    clocks.said(*id, UnixMillis(wall_clock_ms), asked, Instant::now());
                    board.said(*id, Room { free, reserve, destination_limit });
                }
            }
        });
        join_all(asked).await;
        let own = OwnClocks::of(identity.raft_id());
        if let Some(time) = clocks.cluster_time(voter_ids(live).into_iter(), own) {
            metrics::gauge!("seawall_clock_ahead_seconds").set((own.wall.0 - time.0) as f64 / 1e3);
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// Everyone with a vote.
pub(super) fn voter_ids(live: &LiveState) -> Vec<u64> {
    live.lock().membership.voter_ids().collect()
}

/// The voters beside this node.
fn other_voters(live: &LiveState, identity: &Identity) -> Vec<(u64, Member)> {
    let inner = live.lock();
    let others = inner.membership.voter_ids().filter(|id| *id != identity.raft_id());
    let mut others: Vec<(u64, Member)> =
        others.filter_map(|id| Some((id, inner.membership.membership().get_node(&id)?.clone()))).collect();
    others.sort_by_key(|(id, _)| *id);
    others
}
