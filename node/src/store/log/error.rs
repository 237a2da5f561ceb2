//! Why a log file does not open.

use std::io;
use std::path::PathBuf;

/// Why a log file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The machine refused.
    #[error("the log file does not open: {0}")]
    Io(#[from] io::Error),
    /// Bytes that were on the disk have changed.
    #[error(
        "{path} is damaged at offset {offset}: {what}. These bytes had reached the disk and may have been acknowledged, \
         so the node does not go on without them. Do not delete single files: check the disk, move the node's whole data \
         directory away, and start the node with an empty one, so that it is filled again from the other nodes",
        path = path.display()
    )]
    Damaged {
        /// The piece.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A piece between others is not there.
    #[error(
        "{path} is missing from the log file. Put it back, or move the node's whole data directory away and start the node \
         with an empty one, so that it is filled again from the other nodes",
        path = path.display()
    )]
    MissingPiece {
        /// The piece.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}, this program knows format {known}: start a newer version", path = path.display())]
    Format {
        /// The piece.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
}
