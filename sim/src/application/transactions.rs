//! What the actions of an application are in SQL. Each function is one step: nobody else runs meanwhile.

use rusqlite::Connection;

use super::profile::{Action, Profile};
use super::sqlite::{self, SourceError};
use crate::random::Random;

/// The tables of every database.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS item_by_revision ON item(revision);";

/// At least so much is in all rows together once all of them were changed: more than one message of the network.
const REWRITTEN_BYTES: i64 = 80_000;

/// Makes the database of a new connection what `profile` says it is: creates it if it is new.
///
/// # Errors
/// [`SourceError`]; with `Busy` it can be repeated.
pub(super) fn prepare(connection: &Connection, profile: &Profile) -> Result<(), SourceError> {
    if sqlite::page_count(connection)? == 0 {
        let Profile { page_size, auto_vacuum, .. } = profile;
        connection
            .execute_batch(&format!("PRAGMA page_size={page_size}; PRAGMA auto_vacuum={}", *auto_vacuum as u8))?;
        connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    }
    let synchronous = if profile.syncs_commits { "FULL" } else { "NORMAL" };
    connection
        .execute_batch(&format!("PRAGMA synchronous={synchronous}; PRAGMA cache_size={}", profile.cache_pages))?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint={}", profile.autocheckpoint), [], |_| Ok(()))?;
    connection.execute_batch(SCHEMA)?;
    Ok(())
}

/// Leaves WAL mode, rebuilds the database with pages of `page_size` bytes and returns to WAL mode: what an operator may
/// do while the application has no other connection.
///
/// # Errors
/// [`SourceError`]: `Busy` if somebody else has the database open.
pub(super) fn change_page_size(connection: &Connection, page_size: u32) -> Result<(), SourceError> {
    let mode: String = connection.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
    if mode != "delete" {
        return Err(SourceError::Busy);
    }
    let rebuilt = connection.execute_batch(&format!("PRAGMA page_size={page_size}; VACUUM"));
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    Ok(rebuilt?)
}

/// Takes the write lock.
///
/// # Errors
/// [`SourceError`].
pub(super) fn begin(connection: &Connection) -> Result<(), SourceError> {
    Ok(connection.execute_batch("BEGIN IMMEDIATE")?)
}

/// Commits.
///
/// # Errors
/// [`SourceError`].
pub(super) fn commit(connection: &Connection) -> Result<(), SourceError> {
    Ok(connection.execute_batch("COMMIT")?)
}

/// Takes back what is open, if anything is.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // SQLite may have ended the transaction itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// Does all of `action`, except [`Action::LongTransaction`], which takes several steps. Answers whether it may have
/// changed the database.
///
/// # Errors
/// [`SourceError`]; nothing is open and nothing changed then.
pub(super) fn run(
    action: Action,
    connection: &Connection,
    profile: &Profile,
    random: &mut Random,
) -> Result<bool, SourceError> {
    let outcome = attempt(action, connection, profile, random);
    if outcome.is_err() {
        roll_back(connection);
    }
    outcome
}

fn attempt(
    action: Action,
    connection: &Connection,
    profile: &Profile,
    random: &mut Random,
) -> Result<bool, SourceError> {
    match action {
        Action::Checkpoint(mode) => {
            sqlite::checkpoint(connection, mode)?;
            return Ok(false);
        }
        Action::Vacuum => {
            connection.execute_batch("VACUUM")?;
            return Ok(true);
        }
        Action::IncrementalVacuum => {
            // It frees one page a row.
            let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({})", random.range(1..10)))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            return Ok(true);
        }
        _ => {}
    }
    begin(connection)?;
    match action {
        Action::Savepoints => {
            change(connection, random)?;
            for _ in 0..random.range(1..4) {
                connection.execute_batch("SAVEPOINT inner")?;
                for _ in 0..random.range(1..8) {
                    change(connection, random)?;
                }
                if random.chance(0.6) {
                    connection.execute_batch("ROLLBACK TO inner")?;
                }
                connection.execute_batch("RELEASE inner")?;
            }
        }
        Action::Rollback => {
            for _ in 0..random.range(1..20) {
                change(connection, random)?;
            }
            roll_back(connection);
            return Ok(false);
        }
        Action::Schema => {
            let table = random.below(3);
            let sql = if random.chance(0.5) {
                format!("CREATE TABLE IF NOT EXISTS extra{table}(a PRIMARY KEY, b) WITHOUT ROWID")
            } else {
                format!("DROP TABLE IF EXISTS extra{table}")
            };
            connection.execute_batch(&sql)?;
        }
        action => write(action, connection, profile, random)?,
    }
    commit(connection)?;
    Ok(true)
}

fn write(action: Action, connection: &Connection, profile: &Profile, random: &mut Random) -> Result<(), SourceError> {
    let full = sqlite::page_count(connection)? >= profile.target_pages;
    match action {
        Action::Insert | Action::BulkInsert if full => delete(connection, random, 8),
        Action::Insert => insert(connection, random, 4),
        // A quarter of the database at once.
        Action::BulkInsert => insert(connection, random, u64::from(profile.target_pages / 4).max(4)),
        Action::Delete => delete(connection, random, 8),
        Action::Rewrite => {
            // What the bodies are is drawn by SQLite, which is seeded.
            let sql = "UPDATE item SET revision = revision + 1, body = randomblob(max(length(body),
                ?1 / (SELECT count(*) FROM item)))";
            connection.prepare_cached(sql)?.execute([REWRITTEN_BYTES])?;
            Ok(())
        }
        Action::Clear => {
            connection.prepare_cached("DELETE FROM item WHERE id % 8 <> ?1")?.execute([random.below(8) as i64])?;
            Ok(())
        }
        _ => {
            for _ in 0..random.range(1..5) {
                update(connection, random)?;
            }
            Ok(())
        }
    }
}

/// One small change inside an open transaction.
///
/// # Errors
/// [`SourceError`].
pub(super) fn change(connection: &Connection, random: &mut Random) -> Result<(), SourceError> {
    match random.below(4) {
        0 => insert(connection, random, 2),
        1 => delete(connection, random, 2),
        _ => update(connection, random),
    }
}

/// Some bytes: mostly a part of a page, now and then several pages.
fn body(random: &mut Random) -> Vec<u8> {
    let longest = if random.chance(0.05) { 9000 } else { 400 };
    let mut body = vec![0; random.range(1..longest) as usize];
    random.fill(&mut body);
    body
}

fn insert(connection: &Connection, random: &mut Random, most: u64) -> Result<(), SourceError> {
    let mut statement = connection.prepare_cached("INSERT INTO item(revision, body) VALUES (?1, ?2)")?;
    for _ in 0..random.range(1..most + 1) {
        statement.execute((random.below(1000) as i64, body(random)))?;
    }
    Ok(())
}

/// An id that is in use, or 0.
fn pick(connection: &Connection, random: &mut Random) -> Result<i64, SourceError> {
    let last: i64 =
        connection.prepare_cached("SELECT ifnull(max(id), 0) FROM item")?.query_row([], |row| row.get(0))?;
    let from = random.below(last.unsigned_abs() + 1) as i64;
    let mut statement = connection.prepare_cached("SELECT ifnull(min(id), 0) FROM item WHERE id >= ?1")?;
    Ok(statement.query_row([from], |row| row.get(0))?)
}

fn update(connection: &Connection, random: &mut Random) -> Result<(), SourceError> {
    let id = pick(connection, random)?;
    if id == 0 {
        return insert(connection, random, 4);
    }
    let mut statement =
        connection.prepare_cached("UPDATE item SET revision = revision + 1, body = ?2 WHERE id = ?1")?;
    statement.execute((id, body(random)))?;
    Ok(())
}

fn delete(connection: &Connection, random: &mut Random, most: u64) -> Result<(), SourceError> {
    let from = pick(connection, random)?;
    let mut statement = connection.prepare_cached("DELETE FROM item WHERE id BETWEEN ?1 AND ?1 + ?2")?;
    statement.execute((from, random.below(most) as i64))?;
    Ok(())
}
