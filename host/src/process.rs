//! The program itself: when it is asked to stop, and when it must.

use crate::watch::ChangeSignal;
use crate::world;

/// Completes when the machine asks this program to stop (SIGTERM, SIGINT).
pub async fn termination() {
    world::current().termination().await;
}

/// Rings when the machine asks this program to look at its configuration again (SIGHUP). From the first call on the
/// signal does nothing else.
pub fn hang_ups() -> ChangeSignal {
    world::current().hang_ups()
}

/// Lets this process have as many descriptors open as the machine allows it at most; answers how many that are, if
/// there is a limit.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let asked = limit.current;
    limit.current = limit.maximum;
    if asked != limit.maximum && setrlimit(Resource::Nofile, limit).is_err() {
        return asked;
    }
    limit.maximum
}

/// Ends the program at once, with the reason in its log: for states in which going on could lose data,
/// such as a failed fsync.
pub fn halt(reason: &str) -> ! {
    world::current().halt(reason)
}
