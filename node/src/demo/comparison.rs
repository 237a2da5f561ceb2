//! Compares two databases, every row of every table.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// How many rows two databases have in common, or where they first differ.
pub(super) fn compare(left: &Path, right: &Path) -> rusqlite::Result<Result<u64, String>> {
    let (left, right) = (open(left)?, open(right)?);
    let tables = tables(&left)?;
    if tables != self::tables(&right)? {
        return Ok(Err("the tables differ".to_owned()));
    }
    let mut compared = 0;
    for table in tables {
        let query = format!("SELECT * FROM \"{}\" ORDER BY rowid", table.replace('"', "\"\""));
        let (mut left, mut right) = (left.prepare(&query)?, right.prepare(&query)?);
        let columns = left.column_count();
        let (mut left, mut right) = (left.query([])?, right.query([])?);
        loop {
            let one = left.next()?.map(|row| values(row, columns)).transpose()?;
            let other = right.next()?.map(|row| values(row, columns)).transpose()?;
            if one != other {
                return Ok(Err(format!("table {table}: {one:?} in the source, {other:?} in the copy")));
            }
            if one.is_none() {
                break;
            }
            compared += 1;
        }
    }
    Ok(Ok(compared))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    query.query_map([], |row| row.get(0))?.collect()
}

fn values(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    (0..columns).map(|column| row.get(column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_any_row_that_differs() {
        let directory = tempfile::tempdir().unwrap();
        let (left, right) = (directory.path().join("left"), directory.path().join("right"));
        for path in [&left, &right] {
            let db = Connection::open(path).unwrap();
            db.execute_batch("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, NULL)").unwrap();
        }
        assert_eq!(compare(&left, &right).unwrap(), Ok(2));
        let db = Connection::open(&right).unwrap();
        for change in ["UPDATE t SET b = 0 WHERE a = 2", "DELETE FROM t WHERE a = 2", "CREATE TABLE u (a)"] {
            db.execute_batch(change).unwrap();
            assert!(compare(&left, &right).unwrap().is_err(), "{change}");
        }
    }
}
