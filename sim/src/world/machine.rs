//! Machines of the simulated world.

use std::fmt;

/// A machine: nodes, and the hosts of applications and their agents. Number 0 is nobody's: the simulator's own tasks
/// (faults, oracles) run there, and it never fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine(pub u32);

impl Machine {
    /// The simulator's own.
    pub const SIMULATOR: Self = Self(0);
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}
