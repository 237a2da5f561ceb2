//! SQLite's own opinion of a restored file.

use std::path::Path;
use std::str::FromStr;

use rusqlite::{Connection, OpenFlags};
use seawall_host::task;

/// How closely SQLite is to look at the restored database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// Not at all: the checksums have proven it to be the source's content.
    #[default]
    None,
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

impl FromStr for IntegrityCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            _ => Err(format!("`{text}` is none of none, quick, full")),
        }
    }
}

/// Lets SQLite check the file at `path`; answers what it complains of.
pub(super) async fn check(path: &Path, check: IntegrityCheck) -> Result<(), String> {
    let pragma = match check {
        IntegrityCheck::None => return Ok(()),
        IntegrityCheck::Quick => "PRAGMA quick_check(10)",
        IntegrityCheck::Full => "PRAGMA integrity_check(10)",
    };
    let path = path.to_owned();
    let job = move || -> rusqlite::Result<Vec<String>> {
        // Immutable: SQLite takes no locks and puts no sidecars beside the file.
        let mut uri = url::Url::from_file_path(std::path::absolute(&path).unwrap_or(path))
            .map_err(|()| rusqlite::Error::InvalidPath("temporary file".into()))?;
        uri.set_query(Some("immutable=1"));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri.as_str(), flags)?;
        let mut statement = connection.prepare(pragma)?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match task::blocking(job).await {
        Ok(Ok(answers)) if answers == ["ok"] => Ok(()),
        Ok(Ok(answers)) => Err(answers.join("; ")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
