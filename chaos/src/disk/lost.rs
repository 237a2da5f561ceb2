//! What a cut of power did to a disk.

use std::fmt;

/// What was pending on a disk when its power was cut, and what of that did not get to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pages of 4 KiB that were written since the last sync of their files.
    pub pending_pages: u64,
    /// Of these, the ones that kept the form of the last sync.
    pub dropped_pages: u64,
    /// Of these, the ones that got to the disk in part.
    pub torn_pages: u64,
    /// Pages that an earlier, failed sync had given up; all of them are lost.
    pub given_up_pages: u64,
    /// Files whose length had changed since the last sync of them.
    pub pending_lengths: u64,
    /// Of these, the ones that do not have the newest length.
    pub lost_lengths: u64,
    /// Changes of names (creations, links, renames, removals) since the last sync of their directories.
    pub pending_names: u64,
    /// Of these, the ones that are undone.
    pub lost_names: u64,
}

impl Lost {
    /// Whether anything at all was lost.
    pub fn is_something(&self) -> bool {
        self.dropped_pages + self.torn_pages + self.given_up_pages + self.lost_lengths + self.lost_names > 0
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} pending pages {} were dropped and {} torn, of {} lengths {} and of {} changes of names {} were lost",
            self.pending_pages,
            self.dropped_pages,
            self.torn_pages,
            self.pending_lengths,
            self.lost_lengths,
            self.pending_names,
            self.lost_names
        )?;
        if self.given_up_pages > 0 {
            write!(f, "; {} pages that a failed sync had given up are gone", self.given_up_pages)?;
        }
        Ok(())
    }
}
