//! What goes wrong with a disk while its machine lives, and how long its calls take.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::random::Random;

/// Shares (0 to 1) of calls that a fault strikes. The default is a disk without faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskFaults {
    /// Of syncs of files and directories that fail. Pages of the file that the failed sync did not get to are clean
    /// from then on and readable as long as the machine has power, but no later sync makes them durable.
    pub sync_error: f64,
    /// Of reads that fail.
    pub read_error: f64,
    /// Of writes that fail, with all or nothing of them done.
    pub write_error: f64,
    /// Of syncs that take 50 to 600 ms.
    pub stall: f64,
}

/// How long usual syncs take.
const SYNC: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(1);
/// How long slow ones take, one in [`SLOW_SYNC_SHARE`].
const SLOW_SYNC: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(3);
const SLOW_SYNC_SHARE: f64 = 0.15;
const STALL: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(600);
/// How long other calls take when the page cache does not answer at once.
const UNCACHED: Range<Duration> = Duration::from_micros(20)..Duration::from_micros(400);
const UNCACHED_READ_SHARE: f64 = 0.04;
const UNCACHED_WRITE_SHARE: f64 = 0.02;
const UNCACHED_NAME_SHARE: f64 = 0.1;

/// What a call does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Reads of files.
    Read,
    /// Writes to files.
    Write,
    /// Looks at names and changes of them.
    Name,
    /// Syncs.
    Sync,
}

impl DiskFaults {
    /// How long a call takes; `None` if it ends at once.
    pub(super) fn delay(&self, action: Action, random: &mut Random) -> Option<Duration> {
        let share = match action {
            Action::Read => UNCACHED_READ_SHARE,
            Action::Write => UNCACHED_WRITE_SHARE,
            Action::Name => UNCACHED_NAME_SHARE,
            Action::Sync if self.stall > 0.0 && random.chance(self.stall) => return Some(random.duration(STALL)),
            Action::Sync => {
                let range = if random.chance(SLOW_SYNC_SHARE) { SLOW_SYNC } else { SYNC };
                return Some(random.duration(range));
            }
        };
        random.chance(share).then(|| random.duration(UNCACHED))
    }

    fn error_share(&self, action: Action) -> f64 {
        match action {
            Action::Read => self.read_error,
            Action::Write => self.write_error,
            Action::Sync => self.sync_error,
            Action::Name => 0.0,
        }
    }

    /// Whether calls can fail at all.
    pub(super) fn strikes_at(&self, action: Action) -> bool {
        self.error_share(action) > 0.0
    }

    /// Whether a call fails.
    pub(super) fn fails(&self, action: Action, random: &mut Random) -> bool {
        random.chance(self.error_share(action))
    }
}

/// The error of a disk that cannot.
pub(super) fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// The error of a full disk.
pub(super) fn no_space_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}
