//! The events of a history. One JSON object a line; `docs/chaos.md` explains them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Limits;

/// An event and when it was written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Milliseconds since the run began, on the harness's monotonic clock. Never falls from one line to the next.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A position, as the tools print it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The lineage.
    pub lineage: u64,
    /// The txid.
    pub txid: u64,
    /// The checksum, 16 hex digits.
    pub checksum: String,
}

/// What a successful `seawall sync` printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The state that is promised.
    #[serde(flatten)]
    pub position: Position,
    /// The epoch it was shipped under.
    pub epoch: u64,
    /// The watermark at each destination that was waited for.
    pub destinations: BTreeMap<String, u64>,
}

/// What a restored file turned out to be, whatever the tool said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredContent {
    /// The position that the tool printed.
    #[serde(flatten)]
    pub position: Position,
    /// The last row of the journal: its number, 0 if there is none.
    pub seq: u64,
    /// Its chain.
    pub chain: u64,
    /// What is wrong with the file, judged by itself: SQLite's integrity check, a gap in the journal, a chain that does not
    /// follow from the rows, balances that the journal does not explain. Nothing if it is whole.
    pub problem: Option<String>,
    /// Whether every page (but the lock page) equals the source's, where the source stood still; nothing if it did not.
    pub equals_source: Option<bool>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run began.
    Began {
        /// Its scenario.
        scenario: String,
        /// Its seed.
        seed: u64,
        /// `namespaces` or `loopback`.
        network: String,
        /// The cluster's nodes.
        nodes: Vec<String>,
        /// Destinations by name.
        destinations: Vec<String>,
        /// Databases.
        databases: Vec<String>,
        /// What `seawall version` says.
        version: String,
        /// What the run is measured against.
        #[serde(default)]
        limits: Limits,
    },
    /// A fault begins to act (or acts, where it takes no time).
    FaultBegan {
        /// Its number in this run.
        fault: u32,
        /// What is done to whom, in words.
        what: String,
    },
    /// It ends.
    FaultEnded {
        /// Its number.
        fault: u32,
    },
    /// An application says that a transaction was committed.
    Committed {
        /// Which application.
        application: String,
        /// In which database.
        database: String,
        /// The number of the journal's row.
        seq: u64,
        /// Its chain.
        chain: u64,
    },
    /// An application that was started says what it found: rows that were committed without its having said so may be among them.
    Resumed {
        /// Which application.
        application: String,
        /// In which database.
        database: String,
        /// The last row.
        seq: u64,
        /// Its chain.
        chain: u64,
    },
    /// The application's machine lost power or its database was put back: its last rows may be gone from the source, and their
    /// numbers be given again. What was promised of them stays promised. Written down once the applications and the agent there are
    /// gone, before anything is started again; each application says what it finds ([`Event::Resumed`]).
    SourceMayFallBack {
        /// In which database.
        database: String,
    },
    /// `seawall sync` is started.
    SyncBegan {
        /// Its number in this run.
        sync: u64,
        /// The agent that is asked.
        agent: String,
        /// The database.
        database: String,
        /// `quorum`, `all`, or a destination.
        receipt: String,
        /// The last row known to be committed at this moment: what the promise covers at least.
        seq: u64,
    },
    /// It promised.
    SyncPromised {
        /// Its number.
        sync: u64,
        /// What it promised.
        promise: Promise,
    },
    /// It did not promise (time-outs included): nothing follows from that.
    SyncFailed {
        /// Its number.
        sync: u64,
        /// What it said.
        message: String,
    },
    /// What a process takes.
    Sampled {
        /// Which.
        process: String,
        /// Its process id: figures of different lives are not compared.
        pid: u32,
        /// Resident memory.
        resident_bytes: u64,
        /// Open descriptors.
        descriptors: u64,
        /// Bytes in its data directory; 0 if it has none.
        disk_bytes: u64,
    },
    /// Something that those who read this may want to know; nothing is judged by it.
    Noted {
        /// What.
        what: String,
    },
    /// An agent claimed a database at some moment of the run, by its log: it was granted this epoch when the head stood here.
    /// Written down at the end.
    Claimed {
        /// Which agent.
        agent: String,
        /// The database.
        database: String,
        /// The epoch that it was granted.
        epoch: u64,
        /// The head's lineage.
        lineage: u64,
        /// The head's txid.
        txid: u64,
    },
    /// A process ended that nobody had ended.
    EndedByItself {
        /// Which.
        process: String,
        /// How.
        ending: String,
    },
    /// A process did or said something that must never be: a panic, going on after a failed sync.
    Complained {
        /// Which.
        process: String,
        /// The line.
        line: String,
    },
    /// All faults are over; from here everything must get well.
    Healed,
    /// Something got well.
    Recovered {
        /// What, such as `a leader that reaches all nodes`, `app at all destinations`.
        what: String,
        /// Milliseconds after the healing.
        after_ms: u64,
    },
    /// Something did not get well in time.
    Stuck {
        /// What.
        what: String,
        /// How it looked at the end.
        state: String,
        /// How long was waited.
        after_ms: u64,
    },
    /// The applications stopped; this is the last row, and its chain.
    SourceAtRest {
        /// The database.
        database: String,
        /// The last row.
        seq: u64,
        /// Its chain.
        chain: u64,
        /// The rows that no application had reported, with their chains: those of writers that were killed between a commit and
        /// the line that tells of it.
        #[serde(default)]
        unreported: Vec<(u64, u64)>,
    },
    /// A restore gave a file back.
    Restored {
        /// The database.
        database: String,
        /// From where: `node-1`, a destination's name, or `any`.
        source: String,
        /// What was asked for; the newest if nothing.
        txid: Option<u64>,
        /// Whether the sources had been proven to hold the end of history (after the last receipt of all).
        at_rest: bool,
        /// What it gave.
        content: RestoredContent,
    },
    /// A restore gave nothing back.
    RestoreFailed {
        /// The database.
        database: String,
        /// From where.
        source: String,
        /// What was asked for; the newest if nothing.
        txid: Option<u64>,
        /// As above.
        at_rest: bool,
        /// What it said.
        message: String,
    },
    /// The run ended.
    Ended,
}
