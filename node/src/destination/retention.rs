//! How long a destination's history is kept.

use std::time::Duration;

/// Whether the cluster deletes what has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// The leader deletes it, once the cluster has decreed so and the grace period is over.
    #[default]
    Expired,
    /// Nothing is ever deleted: the bucket's own rules do it, or the credentials may not.
    Never,
}

/// How long what is there is kept, for one destination. Ages are those of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every state that some merged object or snapshot gives can be restored for this long.
    pub age: Duration,
    /// As many of the newest snapshots, and what follows them, are kept however old they are; at least 1.
    pub snapshots: usize,
    /// Every single transaction can be restored for this long.
    pub transactions: Duration,
    /// The states that level 1 gives can be restored for this long.
    pub level_one: Duration,
    /// What the cluster has decreed to be deletable stays for this long, for the sake of restores that are under way.
    pub grace: Duration,
    /// Whether anything is deleted.
    pub deletion: Deletion,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_hours(720),
            snapshots: 1,
            transactions: Duration::from_hours(24),
            level_one: Duration::from_hours(168),
            grace: Duration::from_hours(1),
            deletion: Deletion::Expired,
        }
    }
}
