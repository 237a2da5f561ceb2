//! Reading a history back, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::event::Recorded;

/// A history cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is no event.
    #[error("{}, line {line}: {source}: is it a history file, written by this version of chaos?", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The cause.
        source: serde_json::Error,
    },
    /// The order of the lines is not that of their times.
    #[error("{}, line {line}: at {at_ms} ms, after a line at {before_ms} ms: lines were moved, or two runs wrote one file", path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Its time.
        at_ms: u64,
        /// That of the line before.
        before_ms: u64,
    },
}

/// The events of a history file in their order. A last line without an end that is no event was being written when the harness
/// was killed: it is left out, and [`Reader::torn`] says so.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    at_ms: u64,
    torn: Option<u64>,
    has_ended: bool,
}

impl Reader {
    /// Opens a history file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), line: 0, at_ms: 0, torn: None, has_ended: false })
    }

    /// The number of the last line, once it was reached and found torn.
    pub fn torn(&self) -> Option<u64> {
        self.torn
    }

    fn event(&mut self) -> Result<Option<Recorded>, ReadError> {
        let mut bytes = Vec::new();
        self.file.read_until(b'\n', &mut bytes).map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let recorded: Recorded = match serde_json::from_slice(&bytes) {
            Ok(recorded) => recorded,
            Err(_) if bytes.last() != Some(&b'\n') => {
                self.torn = Some(self.line);
                return Ok(None);
            }
            Err(source) => return Err(ReadError::Line { path: self.path.clone(), line: self.line, source }),
        };
        if recorded.at_ms < self.at_ms {
            let (line, at_ms, before_ms) = (self.line, recorded.at_ms, self.at_ms);
            return Err(ReadError::Order { path: self.path.clone(), line, at_ms, before_ms });
        }
        self.at_ms = recorded.at_ms;
        Ok(Some(recorded))
    }
}

impl Iterator for Reader {
    type Item = Result<Recorded, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let event = self.event().transpose();
        // Behind an error nothing can be trusted.
        self.has_ended = !matches!(event, Some(Ok(_)));
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Event;
    use std::fs;

    fn read(text: &[u8]) -> (Result<Vec<Recorded>, ReadError>, Option<u64>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        fs::write(&path, text).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let events = reader.by_ref().collect();
        assert!(reader.next().is_none());
        (events, reader.torn())
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_told() {
        let healed = Recorded { at_ms: 5, event: Event::Healed };
        for (text, events, torn) in [
            ("", 0, None),
            ("{\"at_ms\":5,\"event\":\"healed\"}\n", 1, None),
            ("{\"at_ms\":5,\"event\":\"healed\"}", 1, None),
            ("{\"at_ms\":5,\"event\":\"healed\"}\n{\"at_ms\":7,\"ev", 1, Some(2)),
        ] {
            let (read, was_torn) = read(text.as_bytes());
            assert_eq!((read.unwrap(), was_torn), (vec![healed.clone(); events], torn), "{text}");
        }
        // What one character is cut in two by is no text any more.
        let (events, torn) =
            read(b"{\"at_ms\":5,\"event\":\"healed\"}\n{\"at_ms\":7,\"event\":\"fault-began\",\"what\":\"\xc3");
        assert_eq!((events.unwrap().len(), torn), (1, Some(2)));
    }

    #[test]
    fn an_error_names_the_line_and_the_cause() {
        let (events, _) = read(b"{\"at_ms\":5,\"event\":\"healed\"}\n{\"at_ms\":6,\"event\":\"dreamt\"}\n{\"at_ms\":7,\"event\":\"ended\"}\n");
        let message = events.unwrap_err().to_string();
        assert!(message.contains("history.jsonl, line 2: unknown variant `dreamt`"), "{message}");
        let (events, _) = read(b"{\"at_ms\":5,\"event\":\"healed\"}\n{\"at_ms\":4,\"event\":\"ended\"}\n");
        let message = events.unwrap_err().to_string();
        assert!(message.contains("line 2: at 4 ms, after a line at 5 ms"), "{message}");
        let absent = Reader::open(Path::new("/nowhere/history.jsonl")).err().unwrap().to_string();
        assert!(absent.starts_with("/nowhere/history.jsonl: No such file"), "{absent}");
    }
}
