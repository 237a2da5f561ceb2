//! What can come in between.

use std::path::PathBuf;

use seawall_proto::position::{PageNumber, PageSize};
use seawall_proto::segment::EncodeError;

use crate::sqlite::SqliteError;
use crate::wal::InvalidHeader;

/// Why a database can't be captured as it is. Worth trying again later.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite's answer.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// There is no WAL to capture from.
    #[error("{} is in journal mode `{mode}`, not in WAL mode: run `PRAGMA journal_mode=WAL` on it", path.display())]
    NotWal {
        /// The database.
        path: PathBuf,
        /// Its journal mode.
        mode: String,
    },
    /// The operating system's answer.
    #[error("cannot look at {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Why what was captured so far can't simply be continued: compare the database afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Surprise {
    /// The WAL restarted, shrank or was replaced although it was guarded.
    #[error("the WAL restarted although the agent guarded it")]
    LostGuard,
    /// The chain of frames breaks before the last one that SQLite calls committed: SQLite before 3.51 can leave such
    /// frames behind after a cache spill and `ROLLBACK TO`.
    #[error(
        "the WAL's frame {frame} is not valid although SQLite calls it committed (the savepoint defect of old SQLite versions?)"
    )]
    ShortChain {
        /// The first frame that does not fit.
        frame: u32,
    },
    /// A page that a transaction added to the database is not among its frames.
    #[error("a transaction added page {} without writing it", .0.0)]
    GrowthGap(PageNumber),
    /// The size SQLite names is not what the frames gave.
    #[error("SQLite says the database has {expected} pages, the WAL's frames say {found}")]
    SizeMismatch {
        /// SQLite's.
        expected: u32,
        /// The frames'.
        found: u32,
    },
    /// Another file lies at the database's path.
    #[error("another file was put at the database's path")]
    DatabaseReplaced,
    /// Another file lies at the WAL's path.
    #[error("the WAL was removed or replaced")]
    WalReplaced,
    /// The WAL has a header that SQLite can't have read.
    #[error(transparent)]
    WalHeader(#[from] InvalidHeader),
    /// The WAL's frames have another size than the database's pages.
    #[error("the WAL's pages have {} bytes, the database's {}", found.bytes(), expected.bytes())]
    PageSize {
        /// The database's.
        expected: PageSize,
        /// The WAL's.
        found: PageSize,
    },
    /// A page is not what was shipped: something bypassed the WAL.
    #[error("page {} is not what was captured: something wrote to the database past its WAL", .0.0)]
    PageDiffers(PageNumber),
}

impl Surprise {
    /// A short name for counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::LostGuard => "lost-guard",
            Self::ShortChain { .. } => "short-chain",
            Self::GrowthGap(_) => "growth-gap",
            Self::SizeMismatch { .. } => "size-mismatch",
            Self::DatabaseReplaced => "database-replaced",
            Self::WalReplaced => "wal-replaced",
            Self::WalHeader(_) => "wal-header",
            Self::PageSize { .. } => "page-size",
            Self::PageDiffers(_) => "page-differs",
        }
    }
}

/// Why a step of capture did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A lock was not to be had; nothing changed. Try again in 0.1 to 1 ms.
    #[error("the database is locked just now")]
    Busy,
    /// See there. This capture is finished: open the database anew and resync.
    #[error(transparent)]
    Surprise(#[from] Surprise),
    /// The database can't be read. This capture is finished.
    #[error(transparent)]
    Unusable(OpenError),
    /// The encoder refused what was captured. This capture is finished.
    #[error("what was captured can't be encoded: {0}")]
    Encode(#[from] EncodeError),
}

impl From<SqliteError> for CaptureError {
    fn from(error: SqliteError) -> Self {
        match error {
            SqliteError::Busy => Self::Busy,
            other => Self::Unusable(OpenError::Sqlite(other)),
        }
    }
}
