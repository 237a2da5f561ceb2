//! Work spread over worker processes.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::seat::{Launcher, Seat};

/// How worker processes are used.
#[derive(Args, Clone, Debug)]
pub(super) struct Pool {
    /// Worker processes; one per core unless given.
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// Real seconds after which a run counts as hung.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,
}

impl Pool {
    /// How many processes work at once.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    /// How worker processes are started.
    pub(super) fn launcher(&self) -> Launcher {
        Launcher::new(Duration::from_secs(self.limit))
    }

    /// Does `work` with every item, handed out in order, and gives the results with their item's place to `each` as
    /// they come. Once `each` breaks, no further item is handed out; those under way still end. So all items before
    /// one that `each` has seen have been, or will be, seen too.
    ///
    /// # Errors
    /// The first error of `work`.
    pub(super) fn spread<I: Send, T: Send>(
        &self,
        items: impl Iterator<Item = I> + Send,
        work: impl Fn(&mut Seat, I) -> anyhow::Result<T> + Sync,
        mut each: impl FnMut(usize, T) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        let queue = Mutex::new(items.enumerate());
        let stopped = AtomicBool::new(false);
        let (results, finished) = mpsc::channel();
        let mut error = None;
        thread::scope(|scope| {
            for _ in 0..self.jobs() {
                let (queue, stopped, work, results) = (&queue, &stopped, &work, results.clone());
                let mut seat = Seat::new(&self.launcher());
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some((index, item)) = next else { break };
                        let result = work(&mut seat, item);
                        // The receiver lives as long as this scope.
                        let _ = results.send((index, result));
                    }
                });
            }
            drop(results);
            for (index, result) in finished {
                let flow = result.map(|result| each(index, result)).unwrap_or_else(|failed| {
                    error.get_or_insert(failed);
                    ControlFlow::Break(())
                });
                if flow.is_break() {
                    stopped.store(true, Ordering::Relaxed);
                }
            }
        });
        error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pool(jobs: usize) -> Pool {
        Pool { jobs: Some(jobs), limit: 1 }
    }

    #[test]
    fn every_item_is_done_once() {
        let mut sum = 0;
        let each = |index, square| {
            assert_eq!(square, index * index);
            sum += square;
            ControlFlow::Continue(())
        };
        pool(4).spread(0..100, |_, item: usize| Ok(item * item), each).unwrap();
        assert_eq!(sum, 328_350);
    }

    #[test]
    fn after_a_break_everything_before_it_was_seen_and_not_much_after_it() {
        let mut seen = BTreeSet::new();
        let work = |_: &mut Seat, item: usize| {
            thread::sleep(Duration::from_millis(1));
            Ok(item)
        };
        let each = |index, _| {
            seen.insert(index);
            if index == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        pool(3).spread(0..10_000, work, each).unwrap();
        assert!((0..=20).all(|index| seen.contains(&index)), "{seen:?}");
        assert!(seen.len() < 5_000, "{} were handed out", seen.len());
    }

    #[test]
    fn an_error_ends_it() {
        let work = |_: &mut Seat, item: usize| if item == 3 { anyhow::bail!("no process") } else { Ok(()) };
        let error = pool(2).spread(0.., work, |_, ()| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string(), "no process");
    }
}
