//! What a history says, sorted by whom it is about.

use std::collections::BTreeMap;

use super::limits::Limits;
use super::outcome::{Counts, Recovery};
use super::source::{Rest, Source};
use crate::history::{Event, Position, Promise, Recorded, RestoredContent};

/// Where and when something stands in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// The line, from 1.
    pub(super) line: u64,
    /// Milliseconds since the run began.
    pub(super) ms: u64,
}

/// A place in the history of a database.
pub(super) type Place = (u64, u64);

/// The place of a position.
pub(super) fn place(position: &Position) -> Place {
    (position.lineage, position.txid)
}

/// A sync that was started.
pub(super) struct Asked {
    pub(super) at: At,
    pub(super) agent: String,
    pub(super) database: String,
    pub(super) receipt: String,
    pub(super) seq: u64,
    life: u32,
}

/// A promise, with the sync that it answers.
pub(super) struct Given {
    pub(super) at: At,
    pub(super) asked: Asked,
    pub(super) promise: Promise,
    /// The life of the source in which the sync began and ended; nothing if the source may have fallen back in between.
    pub(super) life: Option<u32>,
}

/// A restore.
pub(super) struct Restore {
    pub(super) at: At,
    pub(super) source: String,
    pub(super) txid: Option<u64>,
    /// Promises of the database before it.
    pub(super) promises: usize,
    pub(super) at_rest: bool,
    /// Where the source was at rest, if it was.
    pub(super) rest: Option<Rest>,
    /// What it gave, or what it said.
    pub(super) outcome: Result<RestoredContent, String>,
}

/// What is known of a database.
#[derive(Default)]
pub(super) struct Database {
    pub(super) source: Source,
    /// In the order in which they were given.
    pub(super) promises: Vec<Given>,
    pub(super) restores: Vec<Restore>,
    pub(super) claims: Vec<Claim>,
    /// Waiting for a promise since, while asked for some.
    waiting_since: Option<u64>,
}

/// A claim that was granted.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) at: At,
    pub(super) agent: String,
    pub(super) epoch: u64,
    /// Lineage and txid of the head that it was granted at.
    pub(super) head: (u64, u64),
}

/// One sample of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: At,
    pub(super) memory: u64,
    pub(super) descriptors: u64,
    pub(super) disk: u64,
}

/// Who takes part.
#[derive(Default)]
pub(super) struct Cast {
    pub(super) nodes: Vec<String>,
    pub(super) destinations: Vec<String>,
    pub(super) databases: Vec<String>,
}

/// All of it.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) last: Option<At>,
    pub(super) cast: Option<Cast>,
    pub(super) limits: Limits,
    pub(super) databases: BTreeMap<String, Database>,
    /// Samples by process and life.
    pub(super) lives: BTreeMap<(String, u32), Vec<Sample>>,
    pub(super) endings: Vec<(At, String)>,
    pub(super) complaints: Vec<(At, String)>,
    pub(super) healed: Option<At>,
    pub(super) recovered: Vec<(At, Recovery)>,
    pub(super) stuck: Vec<(At, String)>,
    pub(super) ended: Option<At>,
    pub(super) counts: Counts,
    asked: BTreeMap<u64, Asked>,
}

impl Facts {
    /// Takes the next line in.
    pub(super) fn see(&mut self, recorded: &Recorded) {
        let at = At { line: self.last.map_or(0, |last| last.line) + 1, ms: recorded.at_ms };
        self.last = Some(at);
        self.counts.duration_ms = at.ms;
        match &recorded.event {
            Event::Began { nodes, destinations, databases, limits, .. } => {
                self.limits = limits.clone();
                let (nodes, destinations, databases) = (nodes.clone(), destinations.clone(), databases.clone());
                self.cast = Some(Cast { nodes, destinations, databases });
            }
            Event::FaultBegan { .. } => self.counts.faults += 1,
            Event::FaultEnded { .. } | Event::Noted { .. } => {}
            Event::Committed { application, database, seq, chain } => {
                self.counts.commits += 1;
                self.database(database).source.committed(at, application, *seq, *chain);
            }
            Event::Resumed { application, database, seq, chain } => {
                self.database(database).source.resumed(at, application, *seq, *chain);
            }
            Event::SourceMayFallBack { database } => {
                self.counts.fall_backs += 1;
                self.database(database).source.fall_back();
            }
            Event::SourceAtRest { database, seq, chain, unreported } => {
                self.database(database).source.at_rest(at, *seq, *chain, unreported);
            }
            Event::SyncBegan { sync, agent, database, receipt, seq } => {
                self.counts.syncs += 1;
                let known = self.database(database);
                known.waiting_since.get_or_insert(at.ms);
                let life = known.source.now();
                let (agent, database, receipt) = (agent.clone(), database.clone(), receipt.clone());
                self.asked.insert(*sync, Asked { at, agent, database, receipt, seq: *seq, life });
            }
            Event::SyncPromised { sync, promise } => self.promised(at, *sync, promise),
            Event::SyncFailed { sync, .. } => {
                self.counts.refusals += 1;
                self.asked.remove(sync);
            }
            Event::Sampled { process, pid, resident_bytes, descriptors, disk_bytes } => {
                let sample = Sample { at, memory: *resident_bytes, descriptors: *descriptors, disk: *disk_bytes };
                self.lives.entry((process.clone(), *pid)).or_default().push(sample);
            }
            Event::Claimed { agent, database, epoch, lineage, txid } => {
                let claim = Claim { at, agent: agent.clone(), epoch: *epoch, head: (*lineage, *txid) };
                self.database(database).claims.push(claim);
            }
            Event::EndedByItself { process, ending } => {
                self.endings.push((at, format!("{process} ended by itself: {ending}")))
            }
            Event::Complained { process, line } => self.complaints.push((at, format!("{process} said: {line}"))),
            Event::Healed => self.healed = Some(at),
            Event::Recovered { what, after_ms } => {
                self.recovered.push((at, Recovery { what: what.clone(), after_ms: *after_ms }));
            }
            Event::Stuck { what, state, after_ms } => {
                self.stuck.push((at, format!("{what} did not get well in {after_ms} ms: {state}")));
            }
            Event::Restored { database, source, txid, at_rest, content } => {
                self.counts.restores += 1;
                self.counts.equal_to_source += u64::from(content.equals_source == Some(true));
                self.restore(at, database, source, *txid, *at_rest, Ok(content.clone()));
            }
            Event::RestoreFailed { database, source, txid, at_rest, message } => {
                self.counts.failed_restores += 1;
                self.restore(at, database, source, *txid, *at_rest, Err(message.clone()));
            }
            Event::Ended => self.ended = Some(at),
        }
    }

    fn promised(&mut self, at: At, sync: u64, promise: &Promise) {
        self.counts.promises += 1;
        // A promise that nobody asked for says nothing of any database.
        let Some(asked) = self.asked.remove(&sync) else { return };
        let database = self.databases.entry(asked.database.clone()).or_default();
        let waited = at.ms - database.waiting_since.unwrap_or(at.ms);
        self.counts.longest_without_promise_ms = self.counts.longest_without_promise_ms.max(waited);
        database.waiting_since = None;
        let life = (asked.life == database.source.now()).then_some(asked.life);
        database.promises.push(Given { at, asked, promise: promise.clone(), life });
    }

    fn restore(
        &mut self,
        at: At,
        database: &str,
        source: &str,
        txid: Option<u64>,
        at_rest: bool,
        outcome: Result<RestoredContent, String>,
    ) {
        let database = self.database(database);
        let (promises, rest) = (database.promises.len(), database.source.rest());
        let source = source.to_owned();
        database.restores.push(Restore { at, source, txid, promises, at_rest, rest, outcome });
    }

    fn database(&mut self, name: &str) -> &mut Database {
        // Looked up first: a commit needs no copy of the name.
        if !self.databases.contains_key(name) {
            self.databases.insert(name.to_owned(), Database::default());
        }
        self.databases.get_mut(name).expect("it was inserted")
    }
}
