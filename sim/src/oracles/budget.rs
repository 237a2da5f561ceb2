//! Nothing is let in without room, and destinations keep no more of the log than their share.
//!
//! Source: Seawall's design, promises 4 and 6: "a destination may pin at most its share of the disk budget; past it the
//! cluster decrees it detached", and "admission at the leader refuses appends by the free space that a majority
//! reports". One full disk is no reason to refuse: the leader hands over.

use std::time::Duration;

/// How long what is true of a node may take to be known to the leader, and to take effect.
const GRACE: Duration = Duration::from_secs(10);

/// A leader that has applied nothing for so long may have no majority, and no decree gets through either.
const STANDSTILL: Duration = Duration::from_secs(3);

/// Between two looks there may be room for a moment, and what waited for it is let in. Whoever has none at all goes on.
const GOES_ON: Duration = Duration::from_millis(1_500);

/// What is seen of the leader at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// True time since the run began.
    pub at: Duration,
    /// Which node leads, and in which term.
    pub leader: (usize, u64),
    /// Transactions of all databases that it has applied.
    pub txids: u64,
    /// Bytes of log that it keeps for destinations, and how many it may.
    pub kept: u64,
    /// See [`Seen::kept`].
    pub limit: u64,
    /// No majority has room, the leader among them.
    pub no_majority_has_room: bool,
    /// A majority has room, the leader has none.
    pub leader_has_no_room: bool,
}

/// Since when something holds under one leader, and how far that leader was when it had held for long enough.
#[derive(Clone, Debug, Default)]
struct Spell {
    since: Option<((usize, u64), Duration)>,
    txids: Option<u64>,
}

impl Spell {
    /// The transactions applied since this held for [`GRACE`] (none yet if it has just held so long).
    fn observe(&mut self, holds: bool, seen: &Seen) -> Option<u64> {
        if !holds || self.since.is_some_and(|(leader, _)| leader != seen.leader) {
            *self = Self::default();
        }
        if !holds {
            return None;
        }
        let (_, since) = *self.since.get_or_insert((seen.leader, seen.at));
        if seen.at < since + GRACE {
            return None;
        }
        let from = *self.txids.get_or_insert(seen.txids);
        Some(seen.txids.saturating_sub(from))
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// When the leader had last applied something, and how much in all.
    applied: Option<(Duration, u64)>,
    outgrown: Spell,
    starved: Spell,
    /// When the leader was first seen to take something in while nobody had room, and how much it had then.
    let_in: Option<(Duration, u64)>,
    alone: Spell,
}

impl Budget {
    /// Takes in what is seen of the leader; nothing while nobody leads.
    ///
    /// # Errors
    /// The property that does not hold, and what was seen instead.
    pub fn observe(&mut self, seen: Option<Seen>) -> Result<(), (&'static str, String)> {
        let Some(seen) = seen else {
            *self = Self::default();
            return Ok(());
        };
        // Transactions that are applied all the while show that a decree could have been taken in as well.
        let (applied_at, _) = *self.applied.insert(match self.applied {
            Some(known @ (_, txids)) if txids == seen.txids => known,
            _ => (seen.at, seen.txids),
        });
        let is_applying = seen.at < applied_at + STANDSTILL;
        if self.outgrown.observe(is_applying && seen.kept > seen.limit, &seen).is_some_and(|applied| applied > 0) {
            let Seen { kept, limit, leader: (leader, _), .. } = seen;
            let text = format!("node {} keeps {kept} bytes of log for them, {limit} are allowed", leader + 1);
            return Err(("destinations keep no more of the log than their share", text));
        }
        let starved = self.starved.observe(seen.no_majority_has_room, &seen).filter(|applied| *applied > 0);
        let let_in = starved.map(|applied| *self.let_in.get_or_insert((seen.at, applied)));
        self.let_in = let_in;
        if let (Some(applied), Some((first_at, first))) = (starved, let_in)
            && seen.at >= first_at + GOES_ON
            && applied > first
        {
            let text = format!("the leader took in {applied} transactions while no majority had room for {GRACE:?}");
            return Err(("nothing is let in without room", text));
        }
        if self.alone.observe(seen.leader_has_no_room, &seen).is_some() {
            let leader = seen.leader.0 + 1;
            let text =
                format!("node {leader} has led for {GRACE:?} without room, while a majority without it had room");
            return Err(("one full disk does not stop the cluster", text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: u64) -> Seen {
        Seen {
            at: Duration::from_secs(at),
            leader: (0, 1),
            txids: at,
            kept: 0,
            limit: 100,
            no_majority_has_room: false,
            leader_has_no_room: false,
        }
    }

    #[test]
    fn a_leader_without_room_has_time_to_hand_over() {
        let mut budget = Budget::default();
        for at in 0..10 {
            assert_eq!(budget.observe(Some(Seen { leader_has_no_room: true, ..seen(at) })), Ok(()));
        }
        assert_eq!(budget.observe(Some(Seen { leader: (1, 2), leader_has_no_room: true, ..seen(10) })), Ok(()));
        assert_eq!(budget.observe(Some(Seen { leader: (1, 2), leader_has_no_room: true, ..seen(19) })), Ok(()));
        assert!(budget.observe(Some(Seen { leader: (1, 2), leader_has_no_room: true, ..seen(20) })).is_err());
    }

    #[test]
    fn destinations_may_keep_too_much_for_as_long_as_a_decree_takes() {
        let mut budget = Budget::default();
        for at in 0..30 {
            assert_eq!(budget.observe(Some(Seen { kept: 100, ..seen(at) })), Ok(()));
        }
        for at in 30..41 {
            assert_eq!(budget.observe(Some(Seen { kept: 101, ..seen(at) })), Ok(()), "{at}");
        }
        assert!(budget.observe(Some(Seen { kept: 101, ..seen(41) })).is_err());
    }

    #[test]
    fn a_leader_that_commits_nothing_or_is_new_is_given_time() {
        let mut budget = Budget::default();
        for at in 0..30 {
            assert_eq!(budget.observe(Some(Seen { kept: 101, txids: 7, ..seen(at) })), Ok(()));
        }
        let mut budget = Budget::default();
        for at in 0..100 {
            let leader = (0, at / 9);
            assert_eq!(budget.observe(Some(Seen { kept: 101, leader, ..seen(at) })), Ok(()));
        }
        assert_eq!(budget.observe(None), Ok(()));
    }

    #[test]
    fn a_leader_that_had_no_majority_is_given_time_once_it_has() {
        let mut budget = Budget::default();
        for at in 0..50_u64 {
            let seen = Seen { kept: 101, txids: at.min(5) + at.saturating_sub(30), ..seen(at) };
            assert_eq!(budget.observe(Some(seen)).is_err(), at > 41, "{at}");
            if at > 41 {
                return;
            }
        }
        panic!("it is never seen");
    }

    #[test]
    fn what_is_let_in_without_room_is_seen() {
        let mut budget = Budget::default();
        let starved = |at, txids| Seen { no_majority_has_room: true, txids, ..seen(at) };
        for at in 0..10 {
            assert_eq!(budget.observe(Some(starved(at, at))), Ok(()));
        }
        for at in 10..20 {
            assert_eq!(budget.observe(Some(starved(at, 10))), Ok(()));
        }
        assert_eq!(budget.observe(Some(starved(20, 11))), Ok(()), "there may have been room for a moment");
        assert_eq!(budget.observe(Some(starved(21, 12))), Ok(()));
        assert_eq!(budget.observe(Some(starved(22, 11))), Ok(()), "nothing since");
        assert!(budget.observe(Some(starved(23, 12))).is_err());
        assert_eq!(Budget::default().observe(Some(starved(0, 11))), Ok(()));
    }
}
