//! A failed write or sync of the log file ends the program.
//!
//! Source: Seawall's design, "a failed fsync ends the process": what is on the disk is not known then, and nothing may be
//! told to be durable any more. A write that finds no room is none: all of it is written again before anything is synced.

use std::collections::BTreeMap;
use std::path::Path;

use crate::world::Machine;

/// So many looks after the failure, none of them during a pause, the program may still be there: the call that failed
/// has to return.
const LOOKS: u32 = 5;

/// The programs that went on although their log had failed.
#[derive(Clone, Debug, Default)]
pub struct FailedWrites {
    /// At how many looks, by machine and life.
    alive: BTreeMap<(Machine, u32), u32>,
}

impl FailedWrites {
    /// Takes in a look at a program that runs. `failed` is a file of its log of which a write or sync failed in this life.
    ///
    /// # Errors
    /// If it should have ended, in words.
    pub fn check(&mut self, machine: Machine, life: u32, failed: Option<&Path>) -> Result<(), String> {
        let Some(failed) = failed else { return Ok(()) };
        let looks = self.alive.entry((machine, life)).or_default();
        *looks += 1;
        if *looks <= LOOKS {
            return Ok(());
        }
        Err(format!("a write or sync of {} failed on {machine}, and the node goes on", failed.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_moment_to_end_and_another_life_begins_anew() {
        let mut oracle = FailedWrites::default();
        let piece = Some(Path::new("/data/log/1"));
        for life in 1..4 {
            for _ in 0..LOOKS {
                assert_eq!(oracle.check(Machine(1), life, piece), Ok(()));
            }
        }
        for _ in 0..100 {
            assert_eq!(oracle.check(Machine(2), 1, None), Ok(()));
        }
        assert!(oracle.check(Machine(1), 3, piece).unwrap_err().contains("/data/log/1"));
    }
}
