//! A leader lets no append in while its disk has less room than its reserve.
//!
//! Source: Seawall's design, promise 6: "nodes refuse appends before they run out".

use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::Machine;

/// How long a leader may take to notice: it looks every second, by a clock that may be slow.
const NOTICES: Duration = Duration::from_secs(3);

/// A look at a program that leads, or does not.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Where it runs.
    pub machine: Machine,
    /// Which life of it.
    pub life: u32,
    /// True virtual time.
    pub now: Duration,
    /// Whether it leads, and goes on doing so undisturbed.
    pub leads: bool,
    /// Whether its disk has less room than its reserve.
    pub short: bool,
    /// The last index of its log.
    pub last: u64,
    /// The last index under which it let in a payload itself.
    pub last_payload: u64,
}

/// The leaders whose disks are short of room.
#[derive(Clone, Debug)]
pub struct Room {
    /// Appends that were let in before and waited for something else: at most one a stream.
    streams: u32,
    leaders: BTreeMap<Machine, Short>,
}

#[derive(Clone, Copy, Debug)]
struct Short {
    life: u32,
    since: Duration,
    last: u64,
    /// Looks at which there were new payloads although it must have noticed.
    let_in: u32,
}

impl Room {
    /// For a cluster that serves so many streams at once.
    pub fn new(streams: u32) -> Self {
        Self { streams, leaders: BTreeMap::new() }
    }

    /// Takes in a look.
    ///
    /// # Errors
    /// If it lets in what it must refuse, in words.
    pub fn check(&mut self, look: &Look) -> Result<(), String> {
        let Look { machine, life, now, last, .. } = *look;
        if !look.leads || !look.short {
            self.leaders.remove(&machine);
            return Ok(());
        }
        let begun = Short { life, since: now, last, let_in: 0 };
        let known = self.leaders.entry(machine).or_insert(begun);
        if known.life != life {
            *known = begun;
        }
        if now.saturating_sub(known.since) > NOTICES && look.last_payload > known.last {
            known.let_in += 1;
        }
        known.last = known.last.max(last);
        if known.let_in <= self.streams {
            return Ok(());
        }
        let since = known.since;
        Err(format!("the disk of {machine}, which leads, is short of room since {since:?}, and it lets appends in"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64, last: u64) -> Look {
        let now = Duration::from_secs(seconds);
        Look { machine: Machine(1), life: 1, now, leads: true, short: true, last, last_payload: last }
    }

    #[test]
    fn what_was_under_way_may_still_come_and_nothing_else() {
        let mut room = Room::new(2);
        for second in 0..6 {
            assert_eq!(room.check(&look(second, second)), Ok(()));
        }
        assert_eq!(room.check(&look(7, 5)), Ok(()));
        assert!(room.check(&look(8, 9)).is_err());
    }

    #[test]
    fn a_leader_with_room_an_idle_one_and_one_that_restarts_pass() {
        let mut room = Room::new(0);
        for second in 0..100 {
            assert_eq!(room.check(&Look { short: second % 3 > 0, ..look(second, second) }), Ok(()));
        }
        for second in 100..200 {
            assert_eq!(room.check(&Look { last_payload: 3, ..look(second, second) }), Ok(()));
        }
        for life in 2..100 {
            assert_eq!(room.check(&Look { life, ..look(200 + u64::from(life), 1000) }), Ok(()));
        }
    }
}
