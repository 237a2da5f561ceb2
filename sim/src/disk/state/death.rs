//! What a machine's death leaves on its disk.

use std::collections::{BTreeMap, BTreeSet};

use super::{InodeNumber, Kind, ROOT, State};
use crate::random::Random;

/// How a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The program is killed (`kill -9`): all that it wrote stays, its locks and open files do not.
    Process,
    /// The machine loses power: of what was pending, some survives.
    Power,
}

/// How much of what is pending survives a loss of power.
#[derive(Clone, Copy, Debug)]
pub(in crate::disk) struct Survival {
    keep: f64,
    tear: f64,
}

impl Survival {
    #[cfg(test)]
    pub(in crate::disk) const NOTHING: Self = Self { keep: 0.0, tear: 0.0 };

    pub(in crate::disk) fn draw(random: &mut Random) -> Self {
        match random.below(5) {
            0 => Self { keep: 0.0, tear: 0.0 },
            1 => Self { keep: 1.0, tear: 0.0 },
            _ => Self { keep: 0.1 + random.below(85) as f64 / 100.0, tear: 0.2 },
        }
    }

    pub(in crate::disk) fn keeps(self, random: &mut Random) -> bool {
        random.chance(self.keep)
    }

    pub(in crate::disk) fn tears(self, random: &mut Random) -> bool {
        random.chance(self.tear)
    }
}

impl State {
    /// The machine dies.
    pub(in crate::disk) fn crash(&mut self, crash: Crash, random: &mut Random) {
        self.life += 1;
        self.locks.clear();
        self.failed.clear();
        match crash {
            Crash::Process => {
                for inode in self.inodes.values_mut() {
                    if let Kind::File(contents) = &mut inode.kind {
                        contents.lose_program();
                    }
                }
            }
            Crash::Power => {
                let survival = Survival::draw(random);
                for change in self.journal.lose_power(survival, random) {
                    self.commit(change);
                }
                for inode in self.inodes.values_mut() {
                    match &mut inode.kind {
                        Kind::File(contents) => contents.lose_power(survival, random),
                        Kind::Directory(directory) => directory.live = directory.durable.clone(),
                    }
                }
            }
        }
        self.recount();
    }

    /// Counts anew who needs which inode, and forgets those that nobody does.
    fn recount(&mut self) {
        let (mut users, mut promises) = (BTreeMap::from([(ROOT, 1)]), BTreeMap::from([(ROOT, 1)]));
        self.journal.inodes().for_each(|number| *promises.entry(number).or_insert(0) += 1);
        // Reachable by live or durable names, or about to be.
        let mut reached: BTreeSet<InodeNumber> = promises.keys().copied().collect();
        let mut queue: Vec<InodeNumber> = reached.iter().copied().collect();
        while let Some(number) = queue.pop() {
            let Ok(directory) = self.directory(number) else { continue };
            for (names, counts) in [(&directory.live, &mut users), (&directory.durable, &mut promises)] {
                for number in names.values() {
                    *counts.entry(*number).or_insert(0) += 1;
                    if reached.insert(*number) {
                        queue.push(*number);
                    }
                }
            }
        }
        self.inodes.retain(|number, _| reached.contains(number));
        self.used_pages = 0;
        for (number, inode) in &mut self.inodes {
            inode.users = users.get(number).copied().unwrap_or(0);
            inode.promises = promises.get(number).copied().unwrap_or(0);
            if let Kind::File(contents) = &inode.kind
                && inode.users > 0
            {
                self.used_pages += contents.allocated();
            }
        }
    }
}
