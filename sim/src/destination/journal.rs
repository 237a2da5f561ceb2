//! What happened at a place, for oracles.

use std::time::Duration;

use crate::world::Machine;

/// One change at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// True virtual time since the world began.
    pub at: Duration,
    /// Whose request it was; [`Machine::SIMULATOR`] where nobody asked for it.
    pub by: Machine,
    /// The object.
    pub name: String,
    /// What became of it.
    pub change: Change,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before, and is now.
    Created {
        /// Its length in bytes.
        size: u64,
        /// XXH3 of its content.
        hash: u64,
    },
    /// It was there before, and was replaced: the place does not create conditionally.
    Replaced {
        /// Its length in bytes.
        size: u64,
        /// XXH3 of its content.
        hash: u64,
        /// The length of what was there before.
        former_size: u64,
        /// XXH3 of what was there before.
        former_hash: u64,
    },
    /// It was there, and was deleted as asked.
    Deleted {
        /// Its length in bytes.
        size: u64,
    },
    /// It was there, and was lost: the place lies.
    Forgotten {
        /// Its length in bytes.
        size: u64,
    },
    /// One bit of it turned over.
    Corrupted {
        /// The byte.
        offset: u64,
    },
}
