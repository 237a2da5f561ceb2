//! When to checkpoint, when to give way, when to hold the write lock for it: decisions on plain values.

use std::time::Duration;

/// What the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Frames captured.
    pub captured: u32,
    /// Frames committed: more than are captured if something came just now.
    pub committed: u32,
    /// Frames whose pages are in the database file.
    pub backfilled: u32,
    /// Since the last commit was captured.
    pub idle: Duration,
    /// Since the last checkpoint of this agent.
    pub since_checkpoint: Duration,
    /// Checkpoints in a row after which the WAL could not restart.
    pub failed_checkpoints: u32,
    /// Since the last attempt to hold the write lock.
    pub since_barrier: Duration,
    /// Attempts to hold the write lock in a row that gave nothing.
    pub failed_barriers: u32,
    /// Backfill soon: the WAL holds frames that would not survive a crash.
    pub urgent: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Move the guard to read mark 0, so that whoever writes next restarts the WAL.
    GiveWay,
    /// Backfill what readers allow; takes no lock that a writer waits for.
    Checkpoint,
    /// Take the write lock for some milliseconds to backfill the last frames too.
    Barrier,
}

/// Frames from which on the WAL is backfilled: SQLite's own default for automatic checkpoints.
pub const SOFT_LIMIT: u32 = 1000;
/// Frames from which on the write lock is worth taking.
pub const HARD_LIMIT: u32 = 4000;
/// A writer that pauses for this long is idle.
pub const IDLE: Duration = Duration::from_millis(10);
/// After this long without a commit the rest of the WAL is backfilled, however little it is.
pub const QUIET: Duration = Duration::from_secs(5);
/// Checkpoints of a busy database come at most this often, and less often while they are in vain: each syncs the
/// database file.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_CHECKPOINT_PAUSE: Duration = Duration::from_millis(640);
const BARRIER_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_BARRIER_PAUSE: Duration = Duration::from_secs(5);
/// The most that is captured while the write lock is held, in bytes.
pub const SEAL_BYTES: u64 = 4 << 20;

/// Decides what a guard on a read mark above 0 does about the WAL, once everything is captured.
pub fn decide(situation: &Situation) -> Action {
    let &Situation { captured, backfilled, idle, since_checkpoint, since_barrier, failed_barriers, .. } = situation;
    let behind = captured.saturating_sub(backfilled);
    if behind == 0 && situation.committed == captured && (idle >= IDLE || captured >= SOFT_LIMIT) {
        // What keeps the WAL from restarting is the guard alone.
        return Action::GiveWay;
    }
    let pause = BARRIER_PAUSE.saturating_mul(1 << failed_barriers.min(7)).min(LONGEST_BARRIER_PAUSE);
    // Behind by less than a checkpoint's worth means the last one got through to about here: only the writer's speed
    // keeps the WAL from being sealed.
    if captured >= HARD_LIMIT && behind < SOFT_LIMIT && idle < IDLE && since_barrier >= pause {
        return Action::Barrier;
    }
    if behind == 0 {
        return Action::Nothing;
    }
    let due = captured >= SOFT_LIMIT || idle >= QUIET || situation.urgent;
    let in_vain = if idle >= IDLE || behind >= SOFT_LIMIT { 0 } else { situation.failed_checkpoints.min(7) };
    let pause = CHECKPOINT_PAUSE.saturating_mul(1 << in_vain).min(LONGEST_CHECKPOINT_PAUSE);
    if due && since_checkpoint >= pause { Action::Checkpoint } else { Action::Nothing }
}

/// When the guard took care of the WAL last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upkeep {
    /// The last commit, as nanoseconds of the machine's clock.
    pub(super) last_commit: u64,
    pub(super) last_checkpoint: Option<u64>,
    pub(super) failed_checkpoints: u32,
    pub(super) last_barrier: Option<u64>,
    pub(super) failed_barriers: u32,
    pub(super) urgent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Situation = Situation {
        captured: 100,
        committed: 100,
        backfilled: 0,
        idle: Duration::ZERO,
        since_checkpoint: Duration::MAX,
        failed_checkpoints: 0,
        since_barrier: Duration::MAX,
        failed_barriers: 0,
        urgent: false,
    };

    #[test]
    fn a_short_wal_is_left_alone_until_it_is_quiet() {
        assert_eq!(decide(&CALM), Action::Nothing);
        assert_eq!(decide(&Situation { idle: IDLE, ..CALM }), Action::Nothing);
        assert_eq!(decide(&Situation { idle: QUIET, ..CALM }), Action::Checkpoint);
        assert_eq!(decide(&Situation { urgent: true, ..CALM }), Action::Checkpoint);
    }

    #[test]
    fn gives_way_when_idle_and_everything_is_backfilled() {
        let backfilled = Situation { backfilled: 100, ..CALM };
        assert_eq!(decide(&backfilled), Action::Nothing);
        assert_eq!(decide(&Situation { idle: IDLE, ..backfilled }), Action::GiveWay);
        let long = Situation { captured: SOFT_LIMIT, committed: SOFT_LIMIT, backfilled: SOFT_LIMIT, ..CALM };
        assert_eq!(decide(&long), Action::GiveWay);
        assert_eq!(decide(&Situation { committed: SOFT_LIMIT + 1, ..long }), Action::Nothing);
    }

    #[test]
    fn checkpoints_above_the_soft_limit_but_not_all_the_time() {
        let long = Situation { captured: SOFT_LIMIT, ..CALM };
        assert_eq!(decide(&long), Action::Checkpoint);
        assert_eq!(decide(&Situation { since_checkpoint: Duration::from_millis(1), ..long }), Action::Nothing);
        let in_vain = Situation { backfilled: SOFT_LIMIT - 1, failed_checkpoints: 3, ..long };
        assert_eq!(decide(&in_vain), Action::Checkpoint);
        assert_eq!(decide(&Situation { since_checkpoint: Duration::from_millis(100), ..in_vain }), Action::Nothing);
    }

    #[test]
    fn holds_the_write_lock_only_above_the_hard_limit_after_a_checkpoint_got_through_and_with_back_off() {
        let far = Situation { captured: HARD_LIMIT, backfilled: HARD_LIMIT - 10, ..CALM };
        assert_eq!(decide(&far), Action::Barrier);
        assert_eq!(decide(&Situation { backfilled: 0, ..far }), Action::Checkpoint);
        let soon = Situation { since_barrier: Duration::from_millis(60), ..far };
        assert_eq!(decide(&soon), Action::Barrier);
        assert_ne!(decide(&Situation { failed_barriers: 1, ..soon }), Action::Barrier);
        assert_ne!(decide(&Situation { captured: HARD_LIMIT - 1, ..far }), Action::Barrier);
        assert_eq!(decide(&Situation { backfilled: HARD_LIMIT, committed: HARD_LIMIT + 1, ..far }), Action::Barrier);
        let tired = Situation { failed_barriers: 99, since_barrier: LONGEST_BARRIER_PAUSE, ..far };
        assert_eq!(decide(&tired), Action::Barrier);
    }
}
