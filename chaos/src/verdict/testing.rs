//! Good histories, made step by step: what a cluster that keeps its promises would have let be seen.

use std::collections::BTreeMap;

use super::Limits;
use crate::history::{Event, Position, Promise, Recorded, RestoredContent};

pub(super) const DATABASE: &str = "app";
pub(super) const APPLICATIONS: [&str; 2] = ["one", "two"];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const DESTINATIONS: [&str; 2] = ["s3", "directory"];

/// Something that happens in a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// An application commits, and says so or is killed before that and started again.
    Commit { application: usize, is_told: bool },
    /// A sync promises.
    Sync { all: bool },
    /// A sync does not.
    Refused,
    /// The machine loses power, and the source so many rows.
    PowerCut { rows: usize },
    /// Another agent claims the database.
    Claim,
    /// A promised state is restored, the one with this number (modulo how many there are).
    Restore { promise: usize },
    /// Something is broken, and mended.
    Fault,
}

/// A history that grows.
pub(super) struct Story {
    pub(super) history: Vec<Recorded>,
    /// The source's chains, row by row.
    rows: Vec<u64>,
    /// The last row and chain of each txid.
    states: Vec<(u64, u64)>,
    promised: Vec<u64>,
    epoch: u64,
    syncs: u64,
    salt: u64,
}

/// The whole history of a run of these steps.
pub(super) fn history(steps: &[Step]) -> Vec<Recorded> {
    let mut story = Story::begin();
    steps.iter().for_each(|step| story.step(*step));
    story.end();
    story.history
}

pub(super) fn checksum(txid: u64) -> String {
    format!("{:016x}", txid.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Story {
    fn begin() -> Self {
        let (history, rows, states, promised) = (Vec::new(), Vec::new(), vec![(0, 1)], Vec::new());
        let mut story = Self { history, rows, states, promised, epoch: 1, syncs: 0, salt: 0 };
        story.now(Event::Began {
            scenario: "test".into(),
            seed: 1,
            network: "none".into(),
            nodes: NODES.map(Into::into).into(),
            destinations: DESTINATIONS.map(Into::into).into(),
            databases: vec![DATABASE.into()],
            version: "0".into(),
            limits: Limits { commits_at_least: 2, ..Limits::default() },
        });
        story.resume_all();
        story.step(Step::Commit { application: 0, is_told: true });
        story.step(Step::Commit { application: 1, is_told: true });
        story.step(Step::Sync { all: false });
        story
    }

    fn end(&mut self) {
        self.now(Event::Healed);
        self.now(Event::Recovered { what: "a leader".into(), after_ms: 400 });
        self.step(Step::Commit { application: 0, is_told: true });
        let (seq, chain) = self.last();
        self.now(Event::SourceAtRest { database: DATABASE.into(), seq, chain, unreported: self.numbered() });
        self.step(Step::Sync { all: true });
        self.now(Event::Sampled { process: "node-1".into(), pid: 5, resident_bytes: 9, descriptors: 9, disk_bytes: 9 });
        for source in NODES.into_iter().chain(DESTINATIONS).chain(["any"]) {
            self.restore(source, None, true);
        }
        for txid in self.promised.clone() {
            self.restore("any", Some(txid), true);
        }
        let (agent, database) = ("agent-app".to_owned(), DATABASE.to_owned());
        self.now(Event::Claimed { agent, database, epoch: 1, lineage: 1, txid: 0 });
        self.now(Event::Ended);
    }

    fn step(&mut self, step: Step) {
        let database = DATABASE.to_owned();
        match step {
            Step::Commit { application, is_told } => {
                let application = APPLICATIONS[application].to_owned();
                let (seq, chain) = (self.rows.len() as u64 + 1, self.next_chain());
                self.rows.push(chain);
                self.states.push((seq, chain));
                if is_told {
                    self.now(Event::Committed { application, database, seq, chain });
                } else {
                    self.now(Event::Resumed { application, database, seq, chain });
                }
            }
            Step::Sync { all } => {
                let receipt = if all { "all" } else { "quorum" };
                let sync = self.ask(receipt);
                let txid = self.states.len() as u64;
                let reached = if all { &DESTINATIONS[..] } else { &[] };
                let destinations: BTreeMap<_, _> = reached.iter().map(|name| ((*name).to_owned(), txid)).collect();
                let promise = Promise { position: self.position(txid), epoch: self.epoch, destinations };
                self.promised.push(txid);
                self.now(Event::SyncPromised { sync, promise });
            }
            Step::Refused => {
                let sync = self.ask("quorum");
                self.now(Event::SyncFailed { sync, message: "no leader".into() });
            }
            Step::PowerCut { rows } => {
                self.now(Event::SourceMayFallBack { database });
                self.rows.truncate(self.rows.len().saturating_sub(rows));
                self.salt += 1;
                self.resume_all();
                self.step(Step::Claim);
            }
            Step::Claim => {
                self.epoch += 1;
                self.states.push(self.last());
            }
            Step::Restore { promise } => {
                let txid = self.promised[promise % self.promised.len()];
                self.restore("node-2", Some(txid), false);
            }
            Step::Fault => {
                self.now(Event::FaultBegan { fault: 1, what: "node-1 is paused".into() });
                self.now(Event::RestoreFailed {
                    database,
                    source: "any".into(),
                    txid: Some(self.promised[0]),
                    at_rest: false,
                    message: "no answer".into(),
                });
                self.now(Event::FaultEnded { fault: 1 });
            }
        }
    }

    fn ask(&mut self, receipt: &str) -> u64 {
        self.syncs += 1;
        let (agent, database) = (format!("agent-{}", self.epoch), DATABASE.to_owned());
        let (sync, seq) = (self.syncs, self.rows.len() as u64);
        self.now(Event::SyncBegan { sync, agent, database, receipt: receipt.into(), seq });
        sync
    }

    fn restore(&mut self, source: &str, txid: Option<u64>, at_rest: bool) {
        let given = txid.unwrap_or(self.states.len() as u64);
        let (seq, chain) = self.states[given as usize - 1];
        let equals_source = (at_rest && txid.is_none()).then_some(true);
        let content = RestoredContent { position: self.position(given), seq, chain, problem: None, equals_source };
        self.now(Event::Restored { database: DATABASE.into(), source: source.into(), txid, at_rest, content });
    }

    fn resume_all(&mut self) {
        let (seq, chain) = self.last();
        for application in APPLICATIONS {
            self.now(Event::Resumed { application: application.into(), database: DATABASE.into(), seq, chain });
        }
    }

    fn position(&self, txid: u64) -> Position {
        Position { lineage: 1, txid, checksum: checksum(txid) }
    }

    fn last(&self) -> (u64, u64) {
        (self.rows.len() as u64, self.rows.last().copied().unwrap_or(1))
    }

    fn next_chain(&self) -> u64 {
        (self.last().1 * 48_271 + self.rows.len() as u64 * 69_621 + self.salt * 16_807 + 5) % 2_147_483_647
    }

    fn numbered(&self) -> Vec<(u64, u64)> {
        (1..).zip(self.rows.iter().copied()).collect()
    }

    fn now(&mut self, event: Event) {
        let at_ms = self.history.len() as u64 * 10;
        self.history.push(Recorded { at_ms, event });
    }
}
