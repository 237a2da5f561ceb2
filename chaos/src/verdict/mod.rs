//! Whether a history is one that Seawall may have. Each property is checked by a file of its own, from plain facts, and names the
//! promise of the design that it stands for; `docs/chaos.md` says how to read what comes out.

mod facts;
mod limits;
mod outcome;
mod processes;
mod promises;
mod recovery;
mod resources;
mod source;
mod states;
mod substance;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writers;

use facts::Facts;
pub use limits::{Growth, Limits};
pub use outcome::{Counts, Property, Recovery, Verdict, Violation};

use crate::history::Recorded;

/// Takes a history in, line by line from the first, and judges it by the limits that it began with.
#[derive(Default)]
pub struct Judge {
    facts: Facts,
}

impl Judge {
    /// Takes the next line in.
    pub fn see(&mut self, recorded: &Recorded) {
        self.facts.see(recorded);
    }

    /// What to say of all of it.
    pub fn verdict(self) -> Verdict {
        let facts = self.facts;
        let mut found = Vec::new();
        promises::check(&facts, &mut found);
        states::check(&facts, &mut found);
        writers::check(&facts, &mut found);
        recovery::check(&facts, &mut found);
        let lives_asked_for_growth = resources::check(&facts, &mut found);
        processes::check(&facts, &mut found);
        substance::check(&facts, &mut found);
        let longest = facts.recovered.iter().map(|(_, recovery)| recovery).max_by_key(|recovery| recovery.after_ms);
        let lives = facts.lives.len() as u64;
        let longest_recovery = longest.cloned();
        Verdict::new(found, Counts { lives, lives_asked_for_growth, longest_recovery, ..facts.counts })
    }
}
