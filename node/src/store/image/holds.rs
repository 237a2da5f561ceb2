//! Which holds an image has, and which more it gets while folds wait for them.

use std::collections::BTreeMap;
use std::time::Duration;

use seawall_host::time::Instant;
use seawall_proto::position::Position;

/// Who keeps folding from going on.
#[derive(Debug, Default)]
pub(super) struct Holds {
    limits: BTreeMap<u64, Instant>,
    next: u64,
    /// Folds that wait, and since when the first of them has.
    waiting: usize,
    waiting_since: Option<Instant>,
}

/// How a hold behaves towards folds that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// It lets them go first, unless others last as long as it will.
    InTurn,
    /// It begins at once, and lasts no longer than the others do.
    Alongside,
    /// It begins at once if the image is at this position, of which its taker was told under another hold.
    At(Position),
}

impl Holds {
    /// Until when a hold on an image at `position` that is wanted for `limit` may last; `None` if it has to wait.
    ///
    /// However many come, a fold waits no longer than until those end that it found, or for the longest limit that
    /// was asked for with [`Terms::At`].
    pub(super) fn grant(&self, now: Instant, limit: Duration, terms: Terms, position: Position) -> Option<Instant> {
        let wanted = now + limit;
        let Some(waiting_since) = self.waiting_since else { return Some(wanted) };
        let others = self.last_limit().unwrap_or(now);
        let most = match terms {
            Terms::At(told) if told == position => others.max(waiting_since + limit),
            Terms::Alongside => others,
            Terms::InTurn | Terms::At(_) => return (others >= wanted).then_some(wanted),
        };
        Some(wanted.min(most)).filter(|until| *until > now)
    }

    /// Begins a hold; answers its number.
    pub(super) fn begin(&mut self, until: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.limits.insert(id, until);
        id
    }

    pub(super) fn end(&mut self, id: u64) {
        self.limits.remove(&id);
    }

    pub(super) fn lasts(&self, id: u64) -> bool {
        self.limits.contains_key(&id)
    }

    /// Ends the holds whose limits have passed.
    pub(super) fn expire(&mut self, now: Instant) {
        self.limits.retain(|_, limit| *limit > now);
    }

    pub(super) fn expire_all(&mut self) {
        self.limits.clear();
    }

    /// The limit of the hold that may last longest.
    pub(super) fn last_limit(&self) -> Option<Instant> {
        self.limits.values().max().copied()
    }

    /// A fold waits from now on.
    pub(super) fn fold_waits(&mut self, now: Instant) {
        self.waiting += 1;
        self.waiting_since.get_or_insert(now);
    }

    /// A fold waits no more.
    pub(super) fn fold_goes_on(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.waiting_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;
    use seawall_proto::position::{Lineage, Txid};

    use super::*;

    const HERE: Position = Position { lineage: Lineage(1), txid: Txid(7), checksum: Checksum(7) };
    const ELSEWHERE: Position = Position { lineage: Lineage(1), txid: Txid(8), checksum: Checksum(8) };
    const TERMS: [Terms; 3] = [Terms::InTurn, Terms::Alongside, Terms::At(HERE)];

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// Until which second a hold for `limit` seconds lasts that is asked for at second `now`.
    fn granted(holds: &Holds, now: u64, limit: u64, terms: Terms) -> Option<u64> {
        let until = holds.grant(at(now), Duration::from_secs(limit), terms, HERE)?;
        Some(until.as_nanos() / 1_000_000_000)
    }

    #[test]
    fn every_hold_begins_while_no_fold_waits() {
        let mut holds = Holds::default();
        for terms in TERMS {
            assert_eq!(granted(&holds, 5, 10, terms), Some(15));
        }
        holds.begin(at(8));
        for terms in TERMS {
            assert_eq!(granted(&holds, 5, 10, terms), Some(15));
        }
    }

    #[test]
    fn a_waiting_fold_waits_no_longer_for_holds_in_turn_or_alongside() {
        let mut holds = Holds::default();
        let first = holds.begin(at(10));
        holds.fold_waits(at(2));
        assert_eq!(granted(&holds, 4, 10, Terms::InTurn), None);
        assert_eq!(granted(&holds, 4, 6, Terms::InTurn), Some(10));
        assert_eq!(granted(&holds, 4, 10, Terms::Alongside), Some(10));
        assert_eq!(granted(&holds, 4, 3, Terms::Alongside), Some(7));
        // Nothing lasts that it could share: the fold is about to go on.
        assert_eq!(granted(&holds, 10, 10, Terms::Alongside), None);
        holds.end(first);
        assert_eq!(granted(&holds, 4, 10, Terms::Alongside), None);
        holds.fold_goes_on();
        assert_eq!(granted(&holds, 11, 10, Terms::Alongside), Some(21));
    }

    #[test]
    fn who_was_told_of_a_position_outlasts_the_others_within_bounds() {
        let mut holds = Holds::default();
        holds.begin(at(10));
        holds.fold_waits(at(2));
        assert_eq!(granted(&holds, 4, 100, Terms::At(HERE)), Some(102));
        assert_eq!(granted(&holds, 4, 100, Terms::At(ELSEWHERE)), None);
        assert_eq!(granted(&holds, 10, 100, Terms::At(HERE)), Some(102));
    }

    #[test]
    fn holds_that_overlap_without_end_starve_no_fold() {
        let mut holds = Holds::default();
        holds.begin(at(10));
        holds.fold_waits(at(1));
        // Every second somebody is told of the position and begins to read; the fold goes on when no hold is left.
        let went_on = (2..1000).find(|&now| {
            holds.expire(at(now));
            for (limit, terms) in [(10, Terms::Alongside), (300, Terms::At(HERE))] {
                if let Some(until) = holds.grant(at(now), Duration::from_secs(limit), terms, HERE) {
                    holds.begin(until);
                }
            }
            holds.last_limit().is_none()
        });
        assert_eq!(went_on, Some(301));
    }
}
