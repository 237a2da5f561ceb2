//! What a seed chooses before a run begins.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use seawall_agent::AgentSizes;
use seawall_node::config::DiskConfig;
use seawall_node::destination::{Deletion, Retention, Windows};
use seawall_node::fanout::FanoutOptions;
use seawall_node::node::NodeSizes;
use seawall_node::store::image::ImageOptions;
use seawall_node::store::log::LogOptions;

use crate::fault_family::FaultFamily::{self, RottingPlaces, ShortHistory, SmallBudgets};
use crate::random::{Random, Stream};
use crate::report::RunOptions;

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Hosts of applications, each with an agent.
    pub hosts: usize,
    /// Databases on each host.
    pub databases: usize,
    /// Into which objects history is cut at each destination.
    pub windows: Vec<Windows>,
    /// How long it is kept everywhere.
    pub retention: Retention,
    /// Which destinations create unconditionally (the last creator wins).
    pub unconditional: Vec<bool>,
    /// What may strike.
    pub families: BTreeSet<FaultFamily>,
    /// What nodes gather before they act.
    pub sizes: NodeSizes,
    /// What agents gather before they act.
    pub agent_sizes: AgentSizes,
    /// The bytes of each node's disk.
    pub disk_bytes: u64,
    /// What each node's data may take of it.
    pub disk: DiskConfig,
    /// How often destinations are verified.
    pub verify_interval: Duration,
}

impl Configuration {
    /// What `options` and their seed say.
    pub fn draw(options: &RunOptions) -> Self {
        let random = &mut Random::new(options.seed, Stream::Configuration);
        let nodes = *random.pick(&[3, 3, 3, 3, 5, 1]).unwrap_or(&3);
        let hosts = if random.chance(0.25) { 2 } else { 1 };
        let databases = if random.chance(0.3) { 2 } else { 1 };
        let destinations = random.range(1..4) as usize;
        // Some runs are almost quiet, some have nearly everything at once.
        let share = *random.pick(&[0.1, 0.25, 0.4, 0.6]).unwrap_or(&0.3);
        let mut chosen: BTreeSet<FaultFamily> = FaultFamily::all()
            .iter()
            .copied()
            .filter(|it| ![SmallBudgets, RottingPlaces].contains(it) && random.chance(share))
            .collect();
        if random.chance(0.15) {
            // Together they bring what chance seldom does: transactions in parts that are cut off, and nodes so far
            // behind that they need what is left of those. Where nothing is lost, all parts travel at one moment.
            use FaultFamily::{Agents, Crashes, Loss, SmallSizes, Snapshots};
            chosen.extend([Agents, Crashes, Loss, SmallSizes, Snapshots]);
        }
        let intervals: Vec<u64> = (0..destinations).map(|_| random.range(100..4_000)).collect();
        let unconditional = (0..destinations).map(|_| random.chance(0.2)).collect();
        let mut families: BTreeSet<FaultFamily> = chosen.difference(&options.without).copied().collect();
        let small = families.contains(&FaultFamily::SmallSizes);
        let often = families.contains(&FaultFamily::Snapshots);
        let mut sizes = sizes(random, small, often);
        let agent_sizes = agent_sizes(random, small || often);
        let short = families.contains(&ShortHistory);
        let windows = intervals.into_iter().map(|interval| windows(random, interval, small, often, short)).collect();
        let retention = if short { short_retention(random) } else { Retention::default() };
        if short {
            sizes.fanout.sweep_interval = Duration::from_millis(random.range(500..4_000));
        }
        let ample = DiskConfig { budget: None, reserve: Some(4 << 20), destination_share: 25 };
        let mut disk = ample.clone();
        if random.chance(0.3) && !options.without.contains(&SmallBudgets) {
            families.insert(SmallBudgets);
            disk = small_budget(random, &mut sizes);
            if random.chance(0.5) {
                // Else there would be seldom anything to hold a delay against.
                families.retain(|family| !FaultFamily::DELAYING.contains(family));
                if random.chance(0.4) {
                    families.retain(|family| FaultFamily::ABOUT_DESTINATIONS.contains(family));
                    disk = ample;
                }
            }
        }
        let verify_interval = Duration::from_millis(random.range(5_000..20_000));
        let only_destinations = families.iter().all(|family| FaultFamily::ABOUT_DESTINATIONS.contains(family));
        let rots = random.chance(0.25) && !options.without.contains(&RottingPlaces);
        if rots && !(families.contains(&SmallBudgets) && only_destinations) {
            families.insert(RottingPlaces);
        }
        Self {
            nodes: options.nodes.unwrap_or(nodes),
            hosts,
            databases,
            windows,
            retention,
            unconditional,
            families,
            sizes,
            agent_sizes,
            disk_bytes: 256 << 20,
            disk,
            verify_interval,
        }
    }

    /// Whether a family may strike.
    pub fn has(&self, family: FaultFamily) -> bool {
        self.families.contains(&family)
    }

    /// Whether nothing but destinations is in trouble: who suffers beside one does so for its sake.
    pub fn is_about_destinations(&self) -> bool {
        self.families.contains(&SmallBudgets)
            && self.families.iter().all(|it| FaultFamily::ABOUT_DESTINATIONS.contains(it))
    }

    /// How many nodes may be lost for good without losing what was acknowledged.
    pub fn expendable_nodes(&self) -> usize {
        (self.nodes - 1) / 2
    }
}

fn sizes(random: &mut Random, small: bool, snapshots_often: bool) -> NodeSizes {
    let piece_bytes = random.range(8 << 10..64 << 10);
    let log = LogOptions {
        piece_bytes: if small { piece_bytes } else { 1 << 20 },
        cache_bytes: if small { 16 << 10 } else { 4 << 20 },
    };
    // The smallest have a snapshot in every second, whatever is under way.
    let snapshot_bytes = if random.chance(0.5) { 256..4 << 10 } else { 4 << 10..128 << 10 };
    let (snapshot_bytes, keep_entries) = (random.range(snapshot_bytes), random.range(0..30));
    let images = ImageOptions {
        checkpoint_interval: Duration::from_millis(random.range(200..5_000)),
        fold_bytes: if small { 4 << 10 } else { 1 << 20 },
        concurrent_folds: random.range(1..4) as usize,
        ..ImageOptions::default()
    };
    let window_segments = random.range(1..20) as usize;
    let fanout = FanoutOptions {
        window_segments: if small { window_segments } else { 1_000 },
        memory_bytes: if small { 64 << 10 } else { 8 << 20 },
        retry_first: Duration::from_millis(200),
        retry_most: Duration::from_secs(5),
        ..FanoutOptions::default()
    };
    NodeSizes {
        log,
        snapshot_bytes: if snapshots_often { snapshot_bytes } else { 4 << 20 },
        keep_entries: if snapshots_often { keep_entries } else { 200 },
        images,
        blob_piece_bytes: if small || snapshots_often { piece_bytes as usize / 64 } else { 256 << 10 },
        fanout,
    }
}

/// Windows of `interval_ms`; `often` brings many snapshots, `short` merged objects every few seconds.
fn windows(random: &mut Random, interval_ms: u64, small: bool, often: bool, short: bool) -> Windows {
    let (upload_bytes, min_bytes) = (random.range(1 << 10..64 << 10), random.range(4 << 10..128 << 10));
    let snapshots = Duration::from_secs(random.range(3..60));
    let one = Duration::from_millis(random.range(500..6_000));
    let two = one + Duration::from_millis(random.range(500..15_000));
    let default = Windows::default();
    Windows {
        upload_interval: Duration::from_millis(interval_ms),
        upload_bytes: if small { upload_bytes } else { 1 << 20 },
        // Without merged objects, those of level 0 bring snapshots.
        level_one_interval: if short { one } else { Duration::ZERO },
        level_two_interval: if short { two } else { Duration::ZERO },
        snapshot_interval: if often {
            snapshots
        } else if short {
            two + snapshots / 2
        } else {
            default.snapshot_interval
        },
        snapshot_min_bytes: if often { min_bytes } else { 1 << 20 },
    }
}

/// History that expires within a run.
fn short_retention(random: &mut Random) -> Retention {
    let seconds = |random: &mut Random, most: u64| Duration::from_millis(random.range(0..most * 1_000));
    let transactions = Duration::from_secs(1) + seconds(random, 12);
    let level_one = transactions + seconds(random, 10);
    Retention {
        age: level_one + seconds(random, 20),
        snapshots: random.range(1..4) as usize,
        transactions,
        level_one,
        grace: Duration::from_secs(1) + seconds(random, 8),
        deletion: if random.chance(0.1) { Deletion::Never } else { Deletion::Expired },
    }
}

/// What destinations may keep is a small part of what a run writes, and the log can get shorter within it.
fn small_budget(random: &mut Random, sizes: &mut NodeSizes) -> DiskConfig {
    sizes.log.piece_bytes = sizes.log.piece_bytes.min(random.range(8 << 10..32 << 10));
    sizes.snapshot_bytes = sizes.snapshot_bytes.min(random.range(16 << 10..64 << 10));
    sizes.keep_entries = sizes.keep_entries.min(random.range(0..30));
    DiskConfig {
        budget: Some(random.range(12 << 20..24 << 20)),
        reserve: Some(random.range(512 << 10..2 << 20)),
        destination_share: random.range(1..4) as u8,
    }
}

/// Small ones bring transactions in many parts, some of which are not kept for being sent again.
fn agent_sizes(random: &mut Random, small: bool) -> AgentSizes {
    // What is captured in one step travels as one message of the network.
    let step_bytes = if random.chance(0.5) { 512..8 << 10 } else { 1 << 10..128 << 10 };
    let sizes = AgentSizes {
        part_bytes: random.range(64..2 << 10) as usize,
        kept_bytes: random.range(4 << 10..256 << 10) as usize,
        in_flight_bytes: random.range(16 << 10..1 << 20) as usize,
        in_flight_segments: random.range(1..64) as usize,
        step_bytes: random.range(step_bytes) as usize,
    };
    if small { sizes } else { AgentSizes::default() }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families: Vec<String> = self.families.iter().map(ToString::to_string).collect();
        let place = |(windows, unconditional): (&Windows, &bool)| {
            let Windows { upload_interval, upload_bytes, level_one_interval, level_two_interval, .. } = windows;
            format!(
                "{upload_interval:?} or {upload_bytes} bytes, merged {level_one_interval:?} and {level_two_interval:?}, \
                 snapshots from {} bytes or {:?}{}",
                windows.snapshot_min_bytes,
                windows.snapshot_interval,
                if *unconditional { ", unconditional" } else { "" }
            )
        };
        let places: Vec<String> = self.windows.iter().zip(&self.unconditional).map(place).collect();
        let sizes = &self.sizes;
        write!(
            f,
            "{} nodes, {} hosts with {} databases each, destinations [{}], log pieces of {} bytes, a Raft snapshot each \
             {} bytes with {} entries kept, windows of up to {} segments, retention {:?}; \
             parts of {} bytes, segments above {} bytes sent once; a disk budget of {}, {}% of it for destinations, verified each {:?}; faults: {}",
            self.nodes,
            self.hosts,
            self.databases,
            places.join(", "),
            sizes.log.piece_bytes,
            sizes.snapshot_bytes,
            sizes.keep_entries,
            sizes.fanout.window_segments,
            self.retention,
            self.agent_sizes.part_bytes,
            self.agent_sizes.kept_bytes,
            self.disk.budget.unwrap_or(self.disk_bytes),
            self.disk.destination_share,
            self.verify_interval,
            if families.is_empty() { "none".to_owned() } else { families.join(", ") },
        )
    }
}
