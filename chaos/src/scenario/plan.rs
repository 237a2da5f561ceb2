//! A fault of a scenario: what is done, to whom, when.

use std::time::Duration;

use serde::Deserialize;

use super::{Target, duration};

/// A fault of a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaultPlan {
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
    /// To whom.
    pub to: Target,
    /// For faults of the network: only on the links to these; to all others, if nothing.
    #[serde(default)]
    pub from: Option<Target>,
    /// The first time, from the beginning.
    #[serde(default = "some_seconds", with = "duration")]
    pub after: Duration,
    /// Again after this long; once, if nothing.
    #[serde(default, deserialize_with = "duration::optional::deserialize")]
    pub every: Option<Duration>,
    /// For how long. A process that is killed is started again afterwards.
    #[serde(rename = "for", default = "a_second", with = "duration")]
    pub lasts: Duration,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGTERM, as a service manager stops and starts.
    Restart,
    /// SIGSTOP: it holds its connections and does nothing.
    Pause,
    /// A node is killed and its data directory taken away. At the end the directory is put back.
    Wipe,
    /// A node is killed, and its disk loses what was not synced; or all that runs on an application's host, and the last commits that
    /// SQLite had not synced are gone from its WAL.
    CutPower,
    /// Syncs of a node's disk take this much longer.
    StallSyncs {
        /// How much.
        #[serde(with = "duration")]
        by: Duration,
    },
    /// Syncs of a node's disk fail, and what was to be synced is gone. The node ends; it is started again afterwards.
    FailSyncs,
    /// The disk of a node or of a destination is filled up.
    Fill,
    /// No packet reaches it, and none of its packets arrives.
    Isolate,
    /// None of its packets arrives.
    Mute,
    /// No packet reaches it.
    Deafen,
    /// Links are slow, lossy, narrow.
    Degrade {
        /// Each packet takes this much longer,
        #[serde(default, with = "duration")]
        delay: Duration,
        /// and up to this much more.
        #[serde(default, with = "duration")]
        jitter: Duration,
        /// This share is lost, 0 to 1.
        #[serde(default)]
        loss: f64,
        /// KiB a second and link.
        #[serde(default)]
        kib_per_second: Option<u64>,
    },
    /// The S3 server answers 503.
    Refuse,
    /// The S3 server does what it is asked, and the connection is cut before it says so.
    CutAnswers,
    /// The S3 server takes requests and answers nothing.
    Hang,
    /// The S3 server passes so many KiB a second on, each connection and direction.
    Slow {
        /// How many.
        kib_per_second: u32,
    },
    /// The clock of a node is put off by so many seconds.
    StepClock {
        /// Seconds, back if negative.
        by: i32,
    },
    /// A second agent is started for a database, as if somebody had forgotten the first.
    SecondAgent {
        /// With `--take-over`, which fences the first.
        #[serde(default)]
        take_over: bool,
    },
}

/// The part of a victim that an action takes hold of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Whether it runs.
    Process,
    /// What its disk does with what is to be synced.
    Syncs,
    /// The room on its disk.
    Room,
    /// Its links, on which faults add up.
    Links,
    /// Its door.
    Door,
    /// Its clock.
    Clock,
    /// Who is beside it.
    Company,
}

impl Part {
    /// Whether an action on `other` cannot be done (and undone) beside one on this.
    pub fn excludes(self, other: Self) -> bool {
        self == other && self != Self::Links
    }
}

impl Action {
    /// What it takes hold of.
    pub fn part(&self) -> Part {
        match self {
            Self::Kill | Self::Restart | Self::Pause | Self::Wipe => Part::Process,
            Self::CutPower | Self::StallSyncs { .. } | Self::FailSyncs => Part::Syncs,
            Self::Fill => Part::Room,
            Self::Isolate | Self::Mute | Self::Deafen | Self::Degrade { .. } => Part::Links,
            Self::Refuse | Self::CutAnswers | Self::Hang | Self::Slow { .. } => Part::Door,
            Self::StepClock { .. } => Part::Clock,
            Self::SecondAgent { .. } => Part::Company,
        }
    }

    /// Whether it is done to packets.
    pub fn is_of_network(&self) -> bool {
        matches!(self, Self::Isolate | Self::Mute | Self::Deafen | Self::Degrade { .. })
    }

    /// What it is called in a history.
    pub fn describe(&self) -> String {
        let plain = match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Wipe => "wipe",
            Self::CutPower => "cut the power of",
            Self::StallSyncs { by } => return format!("stall syncs by {by:?} of"),
            Self::FailSyncs => "fail the syncs of",
            Self::Fill => "fill the disk of",
            Self::Isolate => "isolate",
            Self::Mute => "lose what is sent by",
            Self::Deafen => "lose what is sent to",
            Self::Degrade { delay, jitter, loss, kib_per_second } => {
                let rate = kib_per_second.map_or_else(String::new, |rate| format!(", {rate} KiB/s"));
                return format!("degrade (delay {delay:?} to {:?}, loss {loss}{rate}) the links of", *delay + *jitter);
            }
            Self::Refuse => "answer 503 at",
            Self::CutAnswers => "cut the answers of",
            Self::Hang => "answer nothing at",
            Self::Slow { kib_per_second } => return format!("slow down to {kib_per_second} KiB/s"),
            Self::StepClock { by } => return format!("step by {by} s the clock of"),
            Self::SecondAgent { take_over: false } => "start a second agent beside",
            Self::SecondAgent { take_over: true } => "take over from",
        };
        plain.to_owned()
    }
}

fn some_seconds() -> Duration {
    Duration::from_secs(5)
}

fn a_second() -> Duration {
    Duration::from_secs(1)
}
