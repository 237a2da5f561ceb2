//! Changes of names that no sync of a directory has made durable yet.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;

use rand::Rng;

use super::lost::Lost;
use super::pending::InodeNumber;
use super::survival::Survival;

/// Changes beyond this many are made durable, the oldest first, as the journal of a file system does every few seconds.
const MOST_PENDING: usize = 1024;

/// A name in a directory.
pub(super) type Name = (InodeNumber, Arc<OsStr>);

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

    /// The power is cut: takes the changes that got to the disk.
    pub(super) fn lose_power(&mut self, survival: Survival, rng: &mut dyn Rng, lost: &mut Lost) -> Vec<NameChange> {
        let mut kept = std::mem::take(&mut self.0);
        let pending = kept.len();
        if survival.names_in_order {
            kept.truncate(survival.prefix(pending, rng));
        } else {
            retain_each(&mut kept, survival, rng);
        }
        lost.pending_names += pending as u64;
        lost.lost_names += (pending - kept.len()) as u64;
        kept
    }
}

/// Each change is kept or not, but none without those of the same names before it, nor in a directory whose own name is lost.
fn retain_each(changes: &mut Vec<NameChange>, survival: Survival, rng: &mut dyn Rng) {
    let mut stopped: BTreeSet<Name> = BTreeSet::new();
    let mut nameless: BTreeSet<InodeNumber> = BTreeSet::new();
    changes.retain(|change| {
        let rests = change.names().any(|name| stopped.contains(name) || nameless.contains(&name.0));
        let keeps = !rests && survival.keeps(rng);
        if !keeps {
            stopped.extend(change.names().cloned());
            nameless.extend(change.added.as_ref().map(|(_, number)| *number));
        }
        keeps
    });
}
