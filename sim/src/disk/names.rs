//! Changes of names that no sync of a directory has made durable yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::{InodeNumber, Survival};
use crate::random::Random;

/// Changes beyond this many are made durable, the oldest first, as the journal of a file system does every few seconds.
const MOST_PENDING: usize = 1024;

/// A name in a directory.
pub(super) type Name = (InodeNumber, Arc<str>);

/// A change of names that happens wholly or not at all: creation, link, removal, or both at once for a rename.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) removed: Option<Name>,
    pub(super) added: Option<(Name, InodeNumber)>,
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &Name> {
        self.removed.iter().chain(self.added.iter().map(|(name, _)| name))
    }
}

/// The pending changes, in their order.
#[derive(Default)]
pub(super) struct Journal(Vec<NameChange>);

impl Journal {
    /// Adds a change; answers those that are durable now to keep the journal short.
    pub(super) fn push(&mut self, change: NameChange) -> Vec<NameChange> {
        self.0.push(change);
        if self.0.len() <= MOST_PENDING { Vec::new() } else { self.0.drain(..MOST_PENDING / 2).collect() }
    }

    /// Takes the changes that a sync of `directory` makes durable: its own, and those that they rest on.
    pub(super) fn take_synced(&mut self, directory: InodeNumber) -> Vec<NameChange> {
        let mut needed: BTreeSet<Name> = BTreeSet::new();
        let mut takes = vec![false; self.0.len()];
        for (change, takes) in self.0.iter().zip(&mut takes).rev() {
            *takes = change.names().any(|name| name.0 == directory || needed.contains(name));
            if *takes {
                needed.extend(change.names().cloned());
            }
        }
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        for (change, takes) in std::mem::take(&mut self.0).into_iter().zip(takes) {
            if takes { taken.push(change) } else { kept.push(change) }
        }
        self.0 = kept;
        taken
    }

    /// The machine loses power: takes the changes that got to the disk. Each does or does not, but none without those
    /// of the same names before it.
    pub(super) fn lose_power(&mut self, survival: Survival, random: &mut Random) -> Vec<NameChange> {
        let mut stopped: BTreeSet<Name> = BTreeSet::new();
        let mut kept = std::mem::take(&mut self.0);
        kept.retain(|change| {
            let keeps = !change.names().any(|name| stopped.contains(name)) && survival.keeps(random);
            if !keeps {
                stopped.extend(change.names().cloned());
            }
            keeps
        });
        kept
    }

    /// The inodes that pending changes give a name.
    pub(super) fn inodes(&self) -> impl Iterator<Item = InodeNumber> {
        self.0.iter().filter_map(|change| change.added.as_ref().map(|(_, inode)| *inode))
    }
}
