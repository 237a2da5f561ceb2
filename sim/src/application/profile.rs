//! What one application does to one database, drawn once.

use std::time::Duration;

use super::sqlite::CheckpointMode;
use crate::random::Random;

/// One thing an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Changes a few rows.
    Update,
    /// Adds a few rows.
    Insert,
    /// Adds many rows in one transaction.
    BulkInsert,
    /// Deletes a few rows.
    Delete,
    /// Deletes most rows.
    Clear,
    /// Changes every row; no writer chooses that by itself.
    Rewrite,
    /// Rewrites the database without its holes.
    Vacuum,
    /// Gives free pages at the end back (in incremental mode).
    IncrementalVacuum,
    /// Changes rows, takes some of that back, changes others.
    Savepoints,
    /// Changes rows and takes all of it back.
    Rollback,
    /// Keeps a transaction open while others work.
    LongTransaction,
    /// Creates or drops a table.
    Schema,
    /// A checkpoint of the application's own.
    Checkpoint(CheckpointMode),
}

/// The `auto_vacuum` of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AutoVacuum {
    /// Free pages stay in the file.
    None = 0,
    /// The file shrinks with every commit.
    Full = 1,
    /// The file shrinks when asked.
    Incremental = 2,
}

/// How one database is made and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Bytes of a page.
    pub page_size: u32,
    /// What becomes of free pages.
    pub auto_vacuum: AutoVacuum,
    /// Whether every commit is synced (`synchronous=FULL`, otherwise `NORMAL`).
    pub syncs_commits: bool,
    /// Frames after which a commit checkpoints.
    pub autocheckpoint: u32,
    /// Pages that a connection caches; more in one transaction spill into the WAL before the commit.
    pub cache_pages: u32,
    /// Above this the application deletes rather than inserts.
    pub target_pages: u32,
    /// Mean pause between two transactions of a writer.
    pub pause: Duration,
    /// Connections that write.
    pub writers: u32,
    /// Connections that now and then read for long.
    pub readers: u32,
    /// What a writer does, and how often in comparison.
    pub actions: Vec<(Action, u32)>,
}

impl Profile {
    /// Draws one. `disruptive` applications also checkpoint, vacuum and change their schema.
    pub fn draw(random: &mut Random, disruptive: bool) -> Self {
        let page_size = [512, 1024, 4096][random.index(3)];
        let large = random.chance(0.1);
        let target_pages = if large { random.range(150..300) } else { random.range(12..60) } as u32;
        // Large databases cost more real time a commit.
        let pause = if large { 200..500 } else { 50..300 };
        let mut weights = |base: &[(Action, u32)]| -> Vec<(Action, u32)> {
            base.iter().map(|(action, weight)| (*action, random.below(u64::from(*weight) + 1) as u32)).collect()
        };
        let mut actions = vec![(Action::Update, 2)];
        actions.extend(weights(&[
            (Action::Update, 40),
            (Action::Insert, 20),
            (Action::BulkInsert, 6),
            (Action::Delete, 12),
            (Action::Clear, 3),
            (Action::Savepoints, 6),
            (Action::Rollback, 4),
            (Action::LongTransaction, 4),
            (Action::IncrementalVacuum, 3),
        ]));
        if disruptive {
            let checkpoints = CheckpointMode::ALL.map(|mode| (Action::Checkpoint(mode), 3));
            actions.extend(weights(&checkpoints));
            actions.extend(weights(&[(Action::Vacuum, 2), (Action::Schema, 3)]));
        }
        Self {
            page_size,
            auto_vacuum: [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental][random.index(3)],
            syncs_commits: random.chance(0.5),
            autocheckpoint: [1000, 1000, 100, 20, 0][random.index(5)],
            cache_pages: [2000, 2000, 5][random.index(3)],
            target_pages,
            pause: random.duration(Duration::from_millis(pause.start)..Duration::from_millis(pause.end)),
            writers: if random.chance(0.25) { 2 } else { 1 },
            readers: random.below(3) as u32,
            actions,
        }
    }

    /// The next thing a writer does.
    pub fn choose(&self, random: &mut Random) -> Action {
        let total: u32 = self.actions.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(u64::from(total)) as u32;
        for (action, weight) in &self.actions {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Update
    }

    /// The pause before a writer's next transaction: now and then none, so that commits come in bursts, and now and
    /// then long enough for everything to come to rest.
    pub fn draw_pause(&self, random: &mut Random) -> Duration {
        match random.below(20) {
            0..=5 => random.duration(Duration::ZERO..self.pause / 20),
            6..=18 => random.duration(self.pause / 5..self.pause * 2),
            _ => random.duration(self.pause * 2..self.pause * 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn applications_differ_and_only_disruptive_ones_disturb() {
        let mut random = Random::new(1, Stream::Application);
        let profiles: Vec<Profile> = (0..50).map(|_| Profile::draw(&mut random, false)).collect();
        let disturbs = |profile: &Profile| {
            profile
                .actions
                .iter()
                .any(|(action, _)| matches!(action, Action::Checkpoint(_) | Action::Vacuum | Action::Schema))
        };
        assert!(!profiles.iter().any(disturbs));
        assert!(disturbs(&Profile::draw(&mut random, true)));
        for size in [512, 1024, 4096] {
            assert!(profiles.iter().any(|profile| profile.page_size == size));
        }
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen() {
        let mut random = Random::new(2, Stream::Application);
        let mut profile = Profile::draw(&mut random, false);
        profile.actions = vec![(Action::Clear, 0), (Action::Insert, 1), (Action::Delete, 0), (Action::Update, 2)];
        let chosen: Vec<Action> = (0..200).map(|_| profile.choose(&mut random)).collect();
        assert!(chosen.contains(&Action::Insert) && chosen.contains(&Action::Update));
        assert!(chosen.iter().all(|action| matches!(action, Action::Insert | Action::Update)));
    }
}
