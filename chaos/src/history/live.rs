//! What a run asks of its own history while it goes on.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Event, Position};
use super::generation::Generation;

/// What was seen so far, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Transactions that applications reported.
    pub commits: u64,
    /// Promises that were given.
    pub promises: u64,
    /// Restores that gave a file.
    pub restores: u64,
    /// Faults that act at present.
    pub faults_under_way: u64,
}

/// Answers from the events so far.
#[derive(Default)]
pub(super) struct Live {
    seen: Seen,
    databases: BTreeMap<String, Database>,
    /// The database of each sync that is under way.
    syncs: BTreeMap<u64, String>,
    last_sync: u64,
}

#[derive(Default)]
struct Database {
    generation: Generation,
    last_committed: u64,
    promised: Vec<Position>,
}

impl Live {
    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Committed { application, database, seq, .. } => {
                self.seen.commits += 1;
                let database = self.database(database);
                if database.generation.committed(application) == database.generation.now() {
                    database.last_committed = database.last_committed.max(*seq);
                }
            }
            Event::Resumed { application, database, seq, .. } => {
                let database = self.database(database);
                database.generation.resumed(application);
                database.last_committed = database.last_committed.max(*seq);
            }
            Event::SourceMayFallBack { database } => {
                let database = self.database(database);
                database.generation.fall_back();
                database.last_committed = 0;
            }
            Event::SyncBegan { sync, database, .. } => {
                self.last_sync = self.last_sync.max(*sync);
                self.syncs.insert(*sync, database.clone());
            }
            Event::SyncPromised { sync, promise } => {
                self.seen.promises += 1;
                if let Some(database) = self.syncs.remove(sync) {
                    let promised = &mut self.database(&database).promised;
                    if promised.last() != Some(&promise.position) {
                        promised.push(promise.position.clone());
                    }
                }
            }
            Event::SyncFailed { sync, .. } => {
                self.syncs.remove(sync);
            }
            Event::FaultBegan { .. } => self.seen.faults_under_way += 1,
            Event::FaultEnded { .. } => self.seen.faults_under_way = self.seen.faults_under_way.saturating_sub(1),
            Event::Restored { .. } => self.seen.restores += 1,
            _ => {}
        }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    pub(super) fn last_committed(&self, database: &str) -> u64 {
        self.databases.get(database).map_or(0, |database| database.last_committed)
    }

    pub(super) fn promised(&self, database: &str) -> Vec<Position> {
        self.databases.get(database).map_or_else(Vec::new, |database| database.promised.clone())
    }

    pub(super) fn next_sync(&self) -> u64 {
        self.last_sync + 1
    }

    fn database(&mut self, name: &str) -> &mut Database {
        // Looked up first: a commit needs no copy of the name.
        if !self.databases.contains_key(name) {
            self.databases.insert(name.to_owned(), Database::default());
        }
        self.databases.get_mut(name).expect("it was inserted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(application: &str, seq: u64) -> Event {
        Event::Committed { application: application.into(), database: "app".into(), seq, chain: 1 }
    }

    fn resumed(application: &str, seq: u64) -> Event {
        Event::Resumed { application: application.into(), database: "app".into(), seq, chain: 1 }
    }

    #[test]
    fn what_is_known_committed_ends_where_the_source_may_fall_back() {
        let mut live = Live::default();
        assert_eq!(live.last_committed("app"), 0);
        for event in [resumed("one", 0), resumed("two", 0), committed("one", 2), committed("two", 1)] {
            live.see(&event);
        }
        assert_eq!(live.last_committed("app"), 2);
        live.see(&Event::SourceMayFallBack { database: "app".into() });
        live.see(&committed("one", 3));
        assert_eq!(live.last_committed("app"), 0);
        live.see(&resumed("two", 1));
        live.see(&committed("one", 4));
        assert_eq!(live.last_committed("app"), 1);
        live.see(&resumed("one", 1));
        live.see(&committed("one", 2));
        assert_eq!(live.last_committed("app"), 2);
        assert_eq!(live.last_committed("other"), 0);
        assert_eq!(live.seen().commits, 5);
    }
}
