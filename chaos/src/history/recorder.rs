//! Writing a history while it happens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::event::{Event, Position, Recorded};
use super::live::{Live, Seen};
use super::reader::{ReadError, Reader};
use crate::journal::Journal;

/// Writes down what happens: one event a line, in the order of their times. Its clones write the same history.
///
/// A line is with the kernel when the call returns, so that a killed harness leaves all of them. A line that cannot be written
/// does not stop the run; [`Recorder::close`] tells, and such a history proves nothing.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    live: Live,
    error: Option<io::Error>,
}

impl Recorder {
    /// Begins a history; its time starts now.
    ///
    /// # Errors
    /// The file exists already, or cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot begin a history at {}: {error}", path.display()))
        })?;
        let inner = Mutex::new(Inner { file, live: Live::default(), error: None });
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), began: Instant::now(), inner }) })
    }

    /// Writes down that `event` happened now. Its time, in milliseconds since the run began.
    pub fn record(&self, event: Event) -> u64 {
        self.append(&mut self.lock(), event)
    }

    /// Writes down that a sync is started, with what is known committed at this moment. Its number in this run.
    pub fn sync_began(&self, agent: &str, database: &str, receipt: &str) -> u64 {
        let mut inner = self.lock();
        let sync = inner.live.next_sync();
        let seq = inner.live.last_committed(database);
        let event = Event::SyncBegan {
            sync,
            agent: agent.to_owned(),
            database: database.to_owned(),
            receipt: receipt.to_owned(),
            seq,
        };
        self.append(&mut inner, event);
        sync
    }

    /// Writes down that a source is at rest, with the rows of its journal that no application reported.
    ///
    /// # Errors
    /// What was written so far cannot be read back.
    pub fn source_at_rest(&self, database: &str, journal: &Journal) -> Result<(), ReadError> {
        let unreported = self.unreported(database, journal)?;
        let (seq, chain) = (journal.seq, journal.chain);
        self.record(Event::SourceAtRest { database: database.to_owned(), seq, chain, unreported });
        Ok(())
    }

    /// Milliseconds since the run began.
    pub fn elapsed_ms(&self) -> u64 {
        self.shared.began.elapsed().as_millis() as u64
    }

    /// The last row of a database that an application is known to have committed; 0 if there is none, and after the source may
    /// have fallen back, until an application has said what it found.
    pub fn last_committed(&self, database: &str) -> u64 {
        self.lock().live.last_committed(database)
    }

    /// The states of a database that were promised, in the order of the promises.
    pub fn promised(&self, database: &str) -> Vec<Position> {
        self.lock().live.promised(database)
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().live.seen()
    }

    /// Makes the history durable.
    ///
    /// # Errors
    /// A line of it, this one or an earlier one, could not be written: the history is not complete.
    pub fn close(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let written = match inner.error.take() {
            Some(error) => Err(error),
            None => inner.file.sync_all(),
        };
        written.map_err(|error| {
            let path = self.shared.path.display();
            io::Error::new(error.kind(), format!("the history {path} is not complete and proves nothing: {error}"))
        })
    }

    fn append(&self, inner: &mut Inner, event: Event) -> u64 {
        // Taken under the lock, so that times are in the order of lines.
        let recorded = Recorded { at_ms: self.elapsed_ms(), event };
        inner.live.see(&recorded.event);
        let written = serde_json::to_vec(&recorded).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            inner.file.write_all(&line)
        });
        if let Err(error) = written {
            inner.error.get_or_insert(error);
        }
        recorded.at_ms
    }

    fn unreported(&self, name: &str, journal: &Journal) -> Result<Vec<(u64, u64)>, ReadError> {
        let mut reported = vec![false; usize::try_from(journal.seq).unwrap_or_default()];
        let mut reader = Reader::open(&self.shared.path)?;
        // A line that is being written just now is torn; it is of no row that a source at rest has.
        for recorded in reader.by_ref() {
            let (Event::Committed { database, seq, chain, .. } | Event::Resumed { database, seq, chain, .. }) =
                recorded?.event
            else {
                continue;
            };
            if database == name && seq > 0 && journal.chain_at(seq) == Some(chain) {
                reported[seq as usize - 1] = true;
            }
        }
        let rows = (1..).zip(reported).filter(|(_, reported)| !reported);
        Ok(rows.filter_map(|(seq, _)| Some((seq, journal.chain_at(seq)?))).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What panicked elsewhere left whole lines.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn committed(application: &str, seq: u64) -> Event {
        Event::Committed { application: application.into(), database: "app".into(), seq, chain: seq + 100 }
    }

    fn read(path: &Path) -> Vec<Recorded> {
        Reader::open(path).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn many_threads_write_whole_lines_in_the_order_of_their_times() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let recorder = recorder.clone();
                thread::spawn(move || {
                    for number in 0..500 {
                        recorder.record(committed(&format!("application {writer}"), number * 8 + writer));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // Not closed: a killed harness does not.
        let events = read(&path);
        assert_eq!(events.len(), 4000);
        assert!(events.is_sorted_by_key(|recorded| recorded.at_ms));
        for writer in 0..8 {
            let name = format!("application {writer}");
            let rows = events.iter().filter_map(|recorded| match &recorded.event {
                Event::Committed { application, seq, .. } if *application == name => Some(*seq),
                _ => None,
            });
            assert!(rows.eq((0..500).map(|number| number * 8 + writer)));
        }
        assert_eq!((recorder.last_committed("app"), recorder.seen().commits), (3999, 4000));
        recorder.close().unwrap();
    }

    #[test]
    fn a_sync_begins_with_what_is_known_committed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        recorder.record(committed("one", 7));
        assert_eq!(recorder.sync_began("agent", "app", "all"), 1);
        assert_eq!(recorder.sync_began("agent", "other", "quorum"), 2);
        let seqs: Vec<u64> = read(&path)
            .iter()
            .filter_map(|recorded| match recorded.event {
                Event::SyncBegan { seq, .. } => Some(seq),
                _ => None,
            })
            .collect();
        assert_eq!(seqs, [7, 0]);
        let again = Recorder::create(&path).err().unwrap().to_string();
        assert!(again.starts_with("cannot begin a history at "), "{again}");
    }

    #[test]
    fn rows_that_nobody_reported_are_written_down_at_rest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        let journal = Journal::of_chains(vec![101, 102, 103, 104]);
        for event in [committed("one", 1), committed("one", 3), committed("two", 9)] {
            recorder.record(event);
        }
        let other = Event::Committed { application: "one".into(), database: "app".into(), seq: 4, chain: 7 };
        recorder.record(other);
        recorder.source_at_rest("app", &journal).unwrap();
        let unreported = vec![(2, 102), (4, 104)];
        let expected = Event::SourceAtRest { database: "app".into(), seq: 4, chain: 104, unreported };
        assert_eq!(read(&path).last().unwrap().event, expected);
    }

    #[test]
    fn what_cannot_be_written_is_told_at_the_end() {
        // A device that is always full.
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let inner = Mutex::new(Inner { file, live: Live::default(), error: None });
        let path = PathBuf::from("history.jsonl");
        let recorder = Recorder { shared: Arc::new(Shared { path, began: Instant::now(), inner }) };
        recorder.record(Event::Healed);
        let error = recorder.close().unwrap_err().to_string();
        assert!(error.contains("history.jsonl is not complete and proves nothing: No space left"), "{error}");
    }
}
