//! What is decided about room, without looking at any disk.

use seawall_host::disk::Space;
use seawall_host::probe::mutant;

/// Once there is too little room, there is enough again only with this much more than the reserve (a 16th of it).
const MARGIN_SHIFT: u32 = 4;

/// What a node's data may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceOptions {
    /// Bytes that the data directory may take; `None`: as many as the file system has.
    pub budget: Option<u64>,
    /// Bytes kept free; `None`: a twentieth of the budget, at least 256 MiB, at most 4 GiB, but never more than a
    /// quarter of the budget.
    pub reserve: Option<u64>,
    /// Percent of the budget that destinations may keep of the log.
    pub destination_share: u8,
}

/// How much room a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSpace {
    /// Bytes that its data takes.
    pub used: u64,
    /// Bytes that its data may take.
    pub budget: u64,
    /// Bytes that it may still take, of its budget and of the file system.
    pub free: u64,
    /// Below this much free, it takes in nothing new.
    pub reserve: u64,
    /// Bytes of log that one destination may keep here.
    pub destination_limit: u64,
}

/// What a voter last said of its room, and what was let in since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that it may still take.
    pub free: u64,
    /// Below this much free, it takes in nothing new.
    pub reserve: u64,
    /// Bytes of log that one destination may keep there.
    pub destination_limit: u64,
}

impl NodeSpace {
    /// As peers are told.
    pub fn room(&self) -> Room {
        Room { free: self.free, reserve: self.reserve, destination_limit: self.destination_limit }
    }

    /// Whether there is room for what can be written later just as well: copies, and what rests on the log file.
    pub fn has_room_for_copies(&self, bytes: u64) -> bool {
        self.free.saturating_sub(bytes) >= self.reserve / 2
    }
}

impl Room {
    /// Whether something new may be taken in, or, `was_lacking`, may be again.
    fn is_enough(self, was_lacking: bool) -> bool {
        let margin = if was_lacking { self.reserve >> MARGIN_SHIFT } else { 0 };
        self.free >= self.reserve.saturating_add(margin)
    }
}

/// How much room there is on a file system of which the node's data takes `used` bytes.
pub fn judge(file_system: Space, used: u64, options: &SpaceOptions) -> NodeSpace {
    let budget = options.budget.unwrap_or(file_system.total);
    let usual = (budget / 20).clamp(256 << 20, 4 << 30).min(budget / 4);
    // Where others take the disk, the data cannot get to its budget.
    let attainable = budget.min(used.saturating_add(file_system.available));
    let reserve = options.reserve.unwrap_or(usual);
    let share = |of| percent(of, options.destination_share);
    NodeSpace {
        used,
        budget,
        free: file_system.available.min(budget.saturating_sub(used)),
        reserve,
        // A node whose data is small yet: its newest pieces of the log are most of it, and no destination lags for them.
        destination_limit: share(attainable).max(share(budget).min(reserve / 2)),
    }
}

fn percent(of: u64, percent: u8) -> u64 {
    (of / 100).saturating_mul(u64::from(percent))
}

/// Why nothing new may be let in, if so. The leader itself needs room, and so does a majority of the voters: `others`
/// are those beside it, as they last said, `None` one that is silent. Where those with room are no majority, a full one
/// would have to help out. If there is none, nothing is committed before somebody who is silent now has answered.
pub fn who_lacks_room(own: Room, others: &[Option<Room>], was_lacking: bool) -> Option<Lack> {
    if mutant("admission-ignores-space") {
        return None;
    }
    if !own.is_enough(was_lacking) {
        return Some(Lack { is_leader: true, room: own });
    }
    if mutant("admission-ignores-peers") {
        return None;
    }
    let needed = others.len().div_ceil(2);
    let (with_room, full): (Vec<Room>, Vec<Room>) =
        others.iter().flatten().partition(|room| room.is_enough(was_lacking));
    if with_room.len() >= needed {
        return None;
    }
    let fullest = full.into_iter().max_by_key(|room| room.reserve.saturating_sub(room.free))?;
    Some(Lack { is_leader: false, room: fullest })
}

/// To whom a leader without room may hand over, by Raft id: the voters with room, if they are a majority without it.
/// `was_lacking` tells whether it had none before.
pub fn heirs(own: Room, others: impl IntoIterator<Item = (u64, Option<Room>)>, was_lacking: bool) -> Vec<u64> {
    if own.is_enough(was_lacking) || mutant("leader-without-room-stays") {
        return Vec::new();
    }
    let (mut heirs, mut voters) = (Vec::new(), 1);
    for (id, room) in others {
        voters += 1;
        // With a margin, so that leadership does not come back at once; and one that is silent may be away.
        if room.is_some_and(|room| room.is_enough(true)) {
            heirs.push(id);
        }
    }
    if heirs.len() > voters / 2 { heirs } else { Vec::new() }
}

/// Whose room is too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The leader's own; else that of so many others that no majority is left.
    pub is_leader: bool,
    /// The leader's, or that of the fullest of them.
    pub room: Room,
}

/// Bytes of log that one destination may keep: as many as the leader and a majority of the voters can spare.
pub fn destination_limit(own: Room, others: &[Option<Room>]) -> u64 {
    let mut limits: Vec<u64> = others.iter().flatten().map(|room| room.destination_limit).collect();
    limits.sort_unstable_by(|a, b| b.cmp(a));
    // Of three voters the leader and the better of the others, of five the second best.
    let needed = others.len().div_ceil(2);
    let majority = needed.checked_sub(1).and_then(|last| limits.get(last)).copied();
    own.destination_limit.min(majority.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SpaceOptions {
        SpaceOptions { budget: None, reserve: None, destination_share: 25 }
    }

    fn room(free: u64, reserve: u64) -> Room {
        Room { free, reserve, destination_limit: free }
    }

    #[test]
    fn what_is_free_is_within_the_budget_and_the_file_system() {
        let disk = Space { available: 60 << 30, total: 100 << 30 };
        let all = judge(disk, 10 << 30, &options());
        assert_eq!((all.budget, all.free, all.reserve), (100 << 30, 60 << 30, 4 << 30));
        let some = judge(disk, 10 << 30, &SpaceOptions { budget: Some(20 << 30), ..options() });
        assert_eq!((some.free, some.reserve), (10 << 30, 1 << 30));
        let over = judge(disk, 30 << 30, &SpaceOptions { budget: Some(20 << 30), ..options() });
        assert_eq!(over.free, 0);
        let full =
            judge(Space { available: 7, ..disk }, 10 << 30, &SpaceOptions { budget: Some(20 << 30), ..options() });
        assert_eq!(full.free, 7);
    }

    #[test]
    fn the_reserve_follows_the_budget_within_bounds() {
        let reserve = |total| judge(Space { available: 0, total }, 0, &options()).reserve;
        assert_eq!(reserve(64 << 20), 16 << 20);
        assert_eq!(reserve(1 << 30), 256 << 20);
        assert_eq!(reserve(20 << 30), 1 << 30);
        assert_eq!(reserve(10 << 40), 4 << 30);
        let own = SpaceOptions { reserve: Some(5), ..options() };
        assert_eq!(judge(Space { available: 0, total: 1 << 40 }, 0, &own).reserve, 5);
    }

    #[test]
    fn destinations_keep_their_share_of_what_the_data_can_get_to() {
        let limit = |available, used, budget| {
            let options = SpaceOptions { budget, ..options() };
            judge(Space { available, total: 100_000 }, used, &options).destination_limit
        };
        assert_eq!(limit(90_000, 10_000, None), 25_000);
        assert_eq!(limit(90_000, 10_000, Some(40_000)), 10_000);
        assert_eq!(limit(20_000, 10_000, Some(40_000)), 7_500, "others take the disk");
        assert_eq!(limit(0, 1_000, Some(40_000)), 5_000, "half of the reserve");
        let options = SpaceOptions { reserve: Some(30_000), ..options() };
        assert_eq!(judge(Space { available: 0, total: 40_000 }, 0, &options).destination_limit, 10_000);
    }

    #[test]
    fn nothing_is_let_in_below_the_reserve_and_until_there_is_a_margin_above_it() {
        let alone = |free, was| who_lacks_room(room(free, 1600), &[], was).is_some();
        assert!(!alone(1600, false));
        assert!(alone(1599, false));
        assert!(alone(1699, true));
        assert!(!alone(1700, true));
    }

    #[test]
    fn the_leader_and_a_majority_need_room() {
        let (full, free) = (Some(room(9, 10)), Some(room(11, 10)));
        let own = room(50, 10);
        for (others, lacks) in [
            (vec![full, free], false),
            (vec![full, full], true),
            (vec![full, None], true),
            (vec![free, None], false),
            (vec![None, None], false),
            (vec![full], true),
            (vec![free], false),
            (vec![full, full, free, free], false),
            (vec![full, full, full, free], true),
            (vec![full, None, None, free], true),
            (vec![full, free, None, free], false),
            (vec![None, None, None, free], false),
        ] {
            assert_eq!(who_lacks_room(own, &others, false).is_some(), lacks, "{others:?}");
        }
        let lack = who_lacks_room(own, &[full, Some(room(3, 10))], false);
        assert_eq!(lack, Some(Lack { is_leader: false, room: room(3, 10) }));
        assert!(who_lacks_room(room(9, 10), &[free, free], false).unwrap().is_leader);
    }

    #[test]
    fn a_leader_without_room_has_heirs_where_a_majority_has_room_without_it() {
        let (full, edge, free) = (Some(room(9, 16)), Some(room(16, 16)), Some(room(17, 16)));
        let after = |own, others: &[Option<Room>]| heirs(room(own, 16), (1..).zip(others.iter().copied()), false);
        assert_eq!(after(9, &[free, free]), [1, 2]);
        assert_eq!(after(16, &[free, free]), [0; 0], "it has room");
        assert_eq!(heirs(room(16, 16), [(1, free), (2, free)], true), [1, 2], "but none yet if it had none");
        for others in [&[free, full][..], &[free, None], &[free, edge], &[full, full], &[free], &[]] {
            assert_eq!(after(9, others), [0; 0], "{others:?}");
        }
        assert_eq!(after(9, &[free, full, free, free]), [1, 3, 4]);
        assert_eq!(after(9, &[free, full, None, free]), [0; 0]);
    }

    #[test]
    fn destinations_keep_what_a_majority_can_spare() {
        let with = |limit| Some(Room { free: 0, reserve: 0, destination_limit: limit });
        let own = Room { free: 0, reserve: 0, destination_limit: 50 };
        assert_eq!(destination_limit(own, &[]), 50);
        assert_eq!(destination_limit(own, &[None, None]), 50);
        assert_eq!(destination_limit(own, &[with(10), with(40)]), 40);
        assert_eq!(destination_limit(own, &[with(10), with(20)]), 20);
        assert_eq!(destination_limit(own, &[with(10), with(20), with(30), with(40)]), 30);
        assert_eq!(destination_limit(own, &[with(90), with(90)]), 50);
    }

    #[test]
    fn copies_leave_half_of_the_reserve() {
        let space = NodeSpace { used: 0, budget: 0, free: 100, reserve: 40, destination_limit: 0 };
        assert!(space.has_room_for_copies(80));
        assert!(!space.has_room_for_copies(81));
    }
}
