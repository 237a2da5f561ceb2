//! Changes of real files (SQLite's), announced by whoever makes them.

use std::path::Path;
use std::sync::Arc;

use seawall_host::watch::ChangeSignal;
use tokio::sync::Notify;

use super::SimWorld;
use super::machine::Machine;
use crate::random::Stream;

/// One in so many changes is missed.
const MISSED: u64 = 20;

pub(super) fn watch(world: &SimWorld, path: &Path) -> ChangeSignal {
    let notify = Arc::new(Notify::new());
    let mut state = world.state();
    let machine = state.current;
    let watches = &mut state.machine_mut(machine).watches;
    watches.retain(|(_, signal)| signal.strong_count() > 0);
    watches.push((path.to_owned(), Arc::downgrade(&notify)));
    ChangeSignal::new(notify, None)
}

/// Rings for every watched file whose path begins like `path`: a database's changes are its WAL's too. Files are known
/// by their paths alone: programs that share a host have machines of their own here.
pub(super) fn touched(world: &SimWorld, path: &Path) {
    let begins = path.as_os_str().as_encoded_bytes();
    let ringing: Vec<Arc<Notify>> = {
        let mut state = world.state();
        let machines = (0..state.machine_count()).map(Machine);
        let watches = machines.flat_map(|machine| &state.machine(machine).watches);
        let watched = watches.filter(|(path, _)| path.as_os_str().as_encoded_bytes().starts_with(begins));
        let signals: Vec<_> = watched.filter_map(|(_, signal)| signal.upgrade()).collect();
        let heard = |_: &Arc<Notify>| state.draw(Stream::Schedule, |random| random.below(MISSED)) > 0;
        signals.into_iter().filter(heard).collect()
    };
    ringing.iter().for_each(|signal| signal.notify_one());
}
