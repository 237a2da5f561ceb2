//! One operation at a time: two operators who want different things are told of each other.
//!
//! This is for clear words, not for safety: whoever leads next has another desk, and steps that cross each other are kept
//! apart by consensus.

use std::time::Duration;

use seawall_host::time::Instant;

use super::goal::Goal;

/// An operation of which nothing was heard for so long is over: its command asks every second or so.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// Another operation is under way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another operation is under way (`{goal}`, last heard of {} s ago): wait for its end, or stop it and try again after {} s", .ago.as_secs(), FORGOTTEN.as_secs())]
pub struct Conflict {
    /// What it wants.
    goal: Goal,
    ago: Duration,
}

struct Under {
    operation: u64,
    goal: Goal,
    /// In which the leader heard of it: another may have led since, and seen its end.
    term: u64,
    heard: Instant,
}

/// What is under way.
#[derive(Default)]
pub struct Desk {
    under: Option<Under>,
}

impl Desk {
    /// Lets an operation go on at `now`, in the leader's `term`, if no other with another goal is under way in that.
    ///
    /// # Errors
    /// [`Conflict`].
    pub fn enter(&mut self, operation: u64, goal: &Goal, term: u64, now: Instant) -> Result<(), Conflict> {
        if let Some(under) = self.under.as_ref().filter(|under| under.term == term) {
            let ago = now - under.heard;
            if under.operation != operation && under.goal != *goal && ago < FORGOTTEN {
                return Err(Conflict { goal: under.goal.clone(), ago });
            }
        }
        self.under = Some(Under { operation, goal: goal.clone(), term, heard: now });
        Ok(())
    }

    /// The operation has come to its end.
    pub fn leave(&mut self, operation: u64) {
        self.under.take_if(|under| under.operation == operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn two_goals_exclude_each_other_until_one_is_over_or_forgotten() {
        let mut desk = Desk::default();
        let (remove, promote) = (Goal::Remove { id: 3 }, Goal::Promote { id: 3 });
        desk.enter(1, &remove, 5, at(0)).unwrap();
        let conflict = desk.enter(2, &promote, 5, at(4)).unwrap_err().to_string();
        assert!(conflict.contains("`remove-node 3`, last heard of 4 s ago"), "{conflict}");
        desk.enter(1, &remove, 5, at(10)).unwrap();
        assert!(desk.enter(2, &promote, 5, at(24)).is_err());
        desk.enter(2, &promote, 5, at(25)).unwrap();
        desk.leave(1);
        assert!(desk.enter(1, &remove, 5, at(26)).is_err());
        desk.leave(2);
        desk.enter(1, &remove, 5, at(26)).unwrap();
        // Whoever led in between has seen its end, perhaps.
        desk.enter(2, &promote, 7, at(27)).unwrap();
    }

    #[test]
    fn the_same_goal_may_be_pursued_twice() {
        let mut desk = Desk::default();
        desk.enter(1, &Goal::Remove { id: 3 }, 5, at(0)).unwrap();
        desk.enter(2, &Goal::Remove { id: 3 }, 5, at(1)).unwrap();
    }
}
