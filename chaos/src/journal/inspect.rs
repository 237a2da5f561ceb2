//! Whether a file is whole, and how far its journal goes.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::JournalError;
use super::rules::{FIRST_CHAIN, Follow, Row};

/// What SQLite may keep beside a database.
pub(super) const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The last row of the journal that follows from those before it; 0 if there is none.
    pub seq: u64,
    /// Its chain; 1 if there is none.
    pub chain: u64,
    /// What is wrong with the file; nothing if SQLite finds it whole, the rows are numbered from 1 without a gap, each chain
    /// follows from its row, and the accounts hold what the rows give.
    pub problem: Option<String>,
    chains: Vec<u64>,
}

impl Journal {
    /// The chain of a row; nothing if the journal does not go so far. Row 0 is the beginning.
    pub fn chain_at(&self, seq: u64) -> Option<u64> {
        match seq {
            0 => Some(FIRST_CHAIN as u64),
            _ => self.chains.get(usize::try_from(seq - 1).ok()?).copied(),
        }
    }

    fn new(chains: Vec<u64>, problem: Option<String>) -> Self {
        let chain = chains.last().copied().unwrap_or(FIRST_CHAIN as u64);
        Self { seq: chains.len() as u64, chain, problem, chains }
    }
}

#[cfg(test)]
impl Journal {
    /// A whole journal whose rows have these chains.
    pub(crate) fn of_chains(chains: Vec<u64>) -> Self {
        Self::new(chains, None)
    }
}

/// The path with `suffix` behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Looks at a file that stands alone and that nobody has open, such as a restored one. Nothing is written, not even beside it.
///
/// # Errors
/// The file cannot be read, or a sidecar lies beside it. What is wrong *in* it is told by [`Journal::problem`].
pub fn inspect(path: &Path) -> Result<Journal, JournalError> {
    File::open(path).map_err(JournalError::io(path))?;
    if let Some(sidecar) = SIDECARS.iter().map(|suffix| beside(path, suffix)).find(|sidecar| sidecar.exists()) {
        return Err(JournalError::Sidecar { path: path.to_owned(), sidecar });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Immutable: a database in WAL mode is read without a WAL being made beside it.
    let connection = Connection::open_with_flags(uri(path), flags).map_err(JournalError::sqlite(path))?;
    let mut follow = Follow::new();
    let problem = match look(&connection, &mut follow) {
        Ok(problem) => problem,
        Err(error) if is_of_the_content(&error) => Some(format!("SQLite cannot read it: {error}")),
        Err(error) => return Err(JournalError::sqlite(path)(error)),
    };
    Ok(Journal::new(follow.into_chains(), problem))
}

/// Whether SQLite's complaint is about what the file holds, not about how it was asked for it.
fn is_of_the_content(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            // Unknown is what a missing table gives, a schema being content too.
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch | ErrorCode::Unknown
        ),
        // A value of another type than the journal's.
        None => true,
    }
}

fn look(connection: &Connection, follow: &mut Follow) -> Result<Option<String>, rusqlite::Error> {
    let mut check = connection.prepare("PRAGMA integrity_check(3)")?;
    let lines: Vec<String> = check.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let damage = (lines != ["ok"]).then(|| format!("integrity_check: {}", lines.join("; ")));
    let row = look_at_rows(connection, follow);
    match damage {
        // What follows from damage is no news.
        Some(damage) => Ok(Some(damage)),
        None => row,
    }
}

fn look_at_rows(connection: &Connection, follow: &mut Follow) -> Result<Option<String>, rusqlite::Error> {
    let mut journal = connection.prepare("SELECT seq, amount, source, target, chain FROM journal ORDER BY seq")?;
    let mut rows = journal.query(())?;
    while let Some(row) = rows.next()? {
        let row =
            Row { seq: row.get(0)?, amount: row.get(1)?, source: row.get(2)?, target: row.get(3)?, chain: row.get(4)? };
        if let Err(problem) = follow.row(row) {
            return Ok(Some(problem));
        }
    }
    let mut accounts = connection.prepare("SELECT id, balance FROM account ORDER BY id")?;
    let accounts: Vec<(i64, i64)> =
        accounts.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(follow.accounts(&accounts))
}

/// The file as SQLite's URI, opened without locks and without looking for a WAL.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::rules::chain_after;
    use super::*;
    use std::fs;

    const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA page_size = 4096;
        CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
        CREATE TABLE journal(seq INTEGER PRIMARY KEY, application TEXT NOT NULL, amount INTEGER NOT NULL, source INTEGER NOT NULL,
            target INTEGER NOT NULL, chain INTEGER NOT NULL, payload BLOB NOT NULL);
        CREATE TABLE ballast(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);";

    /// A database with a journal of `rows` rows, in WAL mode; the WAL stays as long as the connection is open.
    pub(crate) fn database(path: &Path, rows: i64) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        for id in 1..=10 {
            connection.execute("INSERT INTO account VALUES (?1, 1000)", [id]).unwrap();
        }
        write(&connection, 1, rows);
        connection
    }

    pub(crate) fn write(connection: &Connection, first: i64, last: i64) {
        let mut previous = match first {
            1 => FIRST_CHAIN,
            _ => {
                connection.query_row("SELECT chain FROM journal WHERE seq = ?1", [first - 1], |row| row.get(0)).unwrap()
            }
        };
        for seq in first..=last {
            let bare = Row { seq, amount: seq % 7, source: seq % 10 + 1, target: (seq * 3) % 10 + 1, chain: 0 };
            previous = chain_after(previous, bare);
            let Row { amount, source, target, .. } = bare;
            let insert = "INSERT INTO journal VALUES (?1, 'test', ?2, ?3, ?4, ?5, zeroblob(300))";
            connection.execute(insert, (seq, amount, source, target, previous)).unwrap();
            connection.execute("UPDATE account SET balance = balance - ?1 WHERE id = ?2", (amount, source)).unwrap();
            connection.execute("UPDATE account SET balance = balance + ?1 WHERE id = ?2", (amount, target)).unwrap();
        }
    }

    fn closed(path: &Path, rows: i64, then: &str) {
        let connection = database(path, rows);
        connection.execute_batch(then).unwrap();
    }

    #[test]
    fn a_whole_file_is_read_in_wal_mode_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("with a ?strange #name.db");
        closed(&path, 50, "");
        let journal = inspect(&path).unwrap();
        assert_eq!((journal.seq, journal.problem.clone()), (50, None));
        assert_eq!((journal.chain_at(50), journal.chain_at(51)), (Some(journal.chain), None));
        assert_eq!(journal.chain_at(0), Some(1));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let empty = directory.path().join("empty.db");
        closed(&empty, 0, "");
        let journal = inspect(&empty).unwrap();
        assert_eq!((journal.seq, journal.chain, journal.problem), (0, 1, None));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("DELETE FROM journal WHERE seq = 7", "row 8 of the journal follows row 6", 6),
            ("UPDATE journal SET amount = amount + 1 WHERE seq = 9", "row 9 of the journal has chain", 8),
            ("UPDATE account SET balance = 1 WHERE id = 3", "account 3 holds 1", 20),
            ("DELETE FROM account WHERE id = 10", "the accounts are", 20),
            ("UPDATE journal SET amount = 'much' WHERE seq = 20", "SQLite cannot read it: Invalid column type", 19),
            ("DROP TABLE journal", "SQLite cannot read it: no such table: journal", 0),
        ];
        for (number, (then, problem, seq)) in cases.into_iter().enumerate() {
            let path = directory.path().join(format!("{number}.db"));
            closed(&path, 20, then);
            let journal = inspect(&path).unwrap();
            assert!(journal.problem.as_ref().unwrap().contains(problem), "{then}: {journal:?}");
            assert_eq!(journal.seq, seq, "{then}");
        }
    }

    #[test]
    fn damage_is_a_problem_and_an_absent_file_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged.db");
        closed(&path, 500, "");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 4096;
        bytes[last..last + 64].fill(0x5a);
        fs::write(&path, &bytes).unwrap();
        // A damaged page may stop the check itself.
        let problem = inspect(&path).unwrap().problem.unwrap();
        assert!(problem.starts_with("integrity_check: ") || problem.contains("malformed"), "{problem}");
        fs::write(
            &path,
            b"this is no database at all, however long it may be, and it has to be longer than a header is in SQLite",
        )
        .unwrap();
        assert!(inspect(&path).unwrap().problem.unwrap().contains("file is not a database"));
        assert!(matches!(inspect(&directory.path().join("absent.db")), Err(JournalError::Io { .. })));
    }

    #[test]
    fn a_sidecar_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        closed(&path, 5, "");
        fs::write(beside(&path, "-wal"), b"").unwrap();
        assert!(matches!(inspect(&path), Err(JournalError::Sidecar { .. })));
    }
}
