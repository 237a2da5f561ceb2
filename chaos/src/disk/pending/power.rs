//! What a cut of power leaves.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;

use super::{InodeNumber, Kind, ROOT, State};
use crate::disk::lost::Lost;
use crate::disk::survival::Survival;

impl State {
    /// The power is cut: of what was pending some survives, and that is durable.
    pub(in crate::disk) fn lose_power(&mut self, survival: Survival, rng: &mut dyn Rng) -> Lost {
        let mut lost = Lost::default();
        for change in self.journal.lose_power(survival, rng, &mut lost) {
            self.commit(change);
        }
        for inode in self.inodes.values_mut() {
            match &mut inode.kind {
                Kind::File(contents) => contents.lose_power(survival, rng, &mut lost),
                Kind::Directory(directory) => directory.live = directory.durable.clone(),
            }
        }
        self.recount();
        lost
    }

    /// Counts anew who needs which inode, and forgets those that nobody does.
    fn recount(&mut self) {
        let mut names = BTreeMap::from([(ROOT, 1)]);
        let mut reached = BTreeSet::from([ROOT]);
        let mut queue: Vec<InodeNumber> = vec![ROOT];
        while let Some(number) = queue.pop() {
            let Ok(directory) = self.directory(number) else { continue };
            for number in directory.live.values() {
                *names.entry(*number).or_insert(0) += 1;
                if reached.insert(*number) {
                    queue.push(*number);
                }
            }
        }
        self.inodes.retain(|number, _| reached.contains(number));
        self.used_pages = 0;
        for (number, inode) in &mut self.inodes {
            inode.links = names.get(number).copied().unwrap_or(0);
            (inode.promises, inode.opens) = (inode.links, 0);
            if let Kind::File(contents) = &inode.kind {
                self.used_pages += contents.allocated();
            }
        }
    }
}
