//! How much of what is pending survives a cut of power.

use rand::{Rng, RngExt};

/// The shares (0 to 1) of a cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survival {
    keep: f64,
    tear: f64,
    /// Whether changes of names survive in their order up to some moment, as in the journal of a file system. Else each
    /// survives by itself, though never without those that it rests on.
    pub(super) names_in_order: bool,
}

impl Survival {
    #[cfg(test)]
    pub(super) const NOTHING: Self = Self { keep: 0.0, tear: 0.0, names_in_order: false };

    /// One cut in five loses everything that is pending and one keeps it.
    pub(super) fn draw(rng: &mut dyn Rng) -> Self {
        let names_in_order = rng.random_bool(0.5);
        match rng.random_range(0..5) {
            0 => Self { keep: 0.0, tear: 0.0, names_in_order },
            1 => Self { keep: 1.0, tear: 0.0, names_in_order },
            _ => Self { keep: rng.random_range(0.1..0.95), tear: 0.2, names_in_order },
        }
    }

    /// Whether this one survives.
    pub(super) fn keeps(self, rng: &mut dyn Rng) -> bool {
        rng.random_bool(self.keep)
    }

    /// Whether one that survives does so in part.
    pub(super) fn tears(self, rng: &mut dyn Rng) -> bool {
        rng.random_bool(self.tear)
    }

    /// How many of `count` things in a row survive.
    pub(super) fn prefix(self, count: usize, rng: &mut dyn Rng) -> usize {
        match self.keep {
            0.0 => 0,
            1.0 => count,
            _ => rng.random_range(0..=count),
        }
    }
}
