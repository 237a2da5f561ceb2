//! The end of a run: all faults are over. Everything has to get well within a limit; then every place has to give back what was
//! promised.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::history::Event;
use crate::journal::{self, SourceCopy};
use crate::play::Say;
use crate::restoration::Restore;
use crate::stage::Stage;
use crate::watch::Syncs;

/// Between two looks at something that is to get well.
const PERIOD: Duration = Duration::from_millis(300);

/// Restores beside one another.
const RESTORES: usize = 2;

/// Waits until the cluster has a leader and each agent's database is at every destination. Applications go on meanwhile.
pub(crate) fn recover(stage: &Stage, syncs: &[Syncs], say: Say<'_>) {
    let healed = Instant::now();
    let limit = stage.scenario().recovery_limit;
    stage.recorder().record(Event::Healed);
    let left = || limit.saturating_sub(healed.elapsed()).max(Duration::from_secs(1));
    say("waiting for a leader that reaches all nodes");
    until(stage, "a leader that reaches all nodes", healed, limit, || stage.whole_cluster());
    for sync in syncs {
        say(&format!("waiting until {} is at all destinations", sync.database));
        let what = format!("{} at all destinations", sync.database);
        until(stage, &what, healed, limit, || {
            sync.once("all", left()).map(|_promise| ()).map_err(|error| error.to_string())
        });
    }
}

/// Tries until it works, and writes down how long that took, or how it looked when there was no time left.
fn until(stage: &Stage, what: &str, began: Instant, limit: Duration, mut attempt: impl FnMut() -> Result<(), String>) {
    let what = what.to_owned();
    let after_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let outcome = loop {
        match attempt() {
            Ok(()) => break Event::Recovered { what, after_ms: after_ms() },
            Err(state) if began.elapsed() >= limit => break Event::Stuck { what, state, after_ms: after_ms() },
            Err(_) => thread::sleep(PERIOD),
        }
    };
    stage.recorder().record(outcome);
}

/// With the applications stopped: restores the newest state from each node and each destination, and every state that was
/// promised from wherever it is. At most `most` of the promised states of a database are restored, spread over all of them.
pub(crate) fn restore(stage: &Stage, most: usize, say: Say<'_>) -> anyhow::Result<()> {
    let scratch = stage.scratch();
    let (mut work, mut copies) = (Vec::new(), Vec::new());
    for agent in stage.agents() {
        let copy = SourceCopy::new(&agent.path, scratch)?;
        let journal = journal::inspect(copy.path())?;
        stage.recorder().source_at_rest(&agent.database, &journal)?;
        for (origin, source) in stage.sources(&agent.database) {
            let copy = Some(copy.path().to_owned());
            work.push(Restore { database: agent.database.clone(), origin, source, txid: None, at_rest: true, copy });
        }
        let promised = stage.recorder().promised(&agent.database);
        let states: BTreeSet<u64> = promised.into_iter().map(|position| position.txid).collect();
        let states: Vec<u64> = states.into_iter().collect();
        for txid in spread(&states, most) {
            let (origin, source) = ("any".to_owned(), stage.any_source(&agent.database));
            let (database, txid) = (agent.database.clone(), Some(txid));
            work.push(Restore { database, origin, source, txid, at_rest: true, copy: None });
        }
        copies.push(copy);
    }
    let next = AtomicUsize::new(0);
    let carry_out = || {
        while let Some(restore) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            say(&format!("restoring: {} of {}", next.load(Ordering::Relaxed).min(work.len()), work.len()));
            restore.carry_out(stage)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..RESTORES).map(|_| scope.spawn(carry_out)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// At most `most` of these, the first and the last among them, evenly spread.
fn spread(states: &[u64], most: usize) -> Vec<u64> {
    if states.len() <= most {
        return states.to_vec();
    }
    let last = states.len() - 1;
    (0..most).map(|index| states[index * last / (most - 1).max(1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_over_all_and_keeps_both_ends() {
        let states: Vec<u64> = (1..=100).collect();
        assert_eq!(spread(&states, 200), states);
        let some = spread(&states, 10);
        assert_eq!((some.len(), some[0], some[9]), (10, 1, 100));
        assert!(some.is_sorted_by(|a, b| a < b));
    }
}
