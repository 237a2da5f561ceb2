//! What SQLite may answer.

use std::path::PathBuf;

/// Why a call of SQLite failed.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// Somebody holds a lock just now. Nothing was done; try again.
    #[error("the database is locked by another connection")]
    Busy,
    /// Nothing is at the path.
    #[error("cannot open {}: no such database file", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The bundled library was compiled without something that capture rests on.
    #[error("this program's SQLite lacks {option}: build with the LIBSQLITE3_FLAGS of .cargo/config.toml")]
    MissingOption {
        /// The compile-time option.
        option: &'static str,
    },
    /// Anything else.
    #[error("SQLite cannot {action} {}: {message} (code {code})", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's extended result code.
        code: i32,
        /// SQLite's text.
        message: String,
    },
}
