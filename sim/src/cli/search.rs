//! The search for a smaller run that still fails, over any function that tells whether one does.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::run::{FaultFamily, RunOptions};

/// Durations are tried in steps of this, so that commands stay readable.
const GRAIN: Duration = Duration::from_millis(10);
/// Bisection stops when the rest is this small a share of the duration.
const CLOSE_ENOUGH: u32 = 20;
/// Made smaller in one respect, a run may become smaller in another: so often all is tried again.
const ROUNDS: usize = 3;

/// What a failing run showed that directs the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it failed, if it lived to tell.
    pub(super) at: Option<Duration>,
    /// How many nodes it had, if it lived to tell.
    pub(super) nodes: Option<usize>,
    /// The families that were on; all that are not switched off, if it did not live to tell.
    pub(super) families: BTreeSet<FaultFamily>,
}

/// Looks for the smallest run that fails, starting at one that does.
pub(super) struct Search<F> {
    /// Runs options: something if they fail in the same way.
    fails: F,
    /// Runs that may still be tried.
    budget: usize,
    best: RunOptions,
    seen: Seen,
}

impl<F: FnMut(&RunOptions) -> Option<Seen>> Search<F> {
    /// A search from `options`, which failed showing `seen`, over at most `budget` further runs.
    pub(super) fn new(options: RunOptions, seen: Seen, budget: usize, fails: F) -> Self {
        Self { fails, budget, best: options, seen }
    }

    /// The smallest failing run found.
    pub(super) fn run(mut self) -> RunOptions {
        for _ in 0..ROUNDS {
            let before = self.best.clone();
            self.shorten();
            self.drop_families();
            self.drop_nodes();
            if self.best == before || self.budget == 0 {
                break;
            }
        }
        self.best
    }

    /// Tries one change of the best run, and keeps it if the run still fails.
    fn attempt(&mut self, change: impl FnOnce(&mut RunOptions)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        let Some(seen) = (self.fails)(&candidate) else { return false };
        self.best = candidate;
        self.seen = seen;
        true
    }

    /// Bisects the duration. First it is cut just behind the failure, which mostly lies before the end.
    fn shorten(&mut self) {
        if let Some(end) = self.seen.at.map(grain_above).filter(|end| *end < self.best.duration) {
            self.attempt(|run| run.duration = end);
        }
        let mut lasts_too_short = Duration::ZERO;
        while self.budget > 0 {
            let high = self.best.duration;
            let middle = grain_above((lasts_too_short + high) / 2);
            if high - lasts_too_short <= (high / CLOSE_ENOUGH).max(GRAIN) || middle >= high {
                break;
            }
            if !self.attempt(|run| run.duration = middle) {
                lasts_too_short = middle;
            }
        }
    }

    /// Delta debugging: drops chunks of families, first all of them, then ever smaller ones.
    fn drop_families(&mut self) {
        let mut chunks = 1;
        loop {
            let families: Vec<_> = self.seen.families.iter().copied().collect();
            if families.is_empty() || self.budget == 0 {
                break;
            }
            let size = families.len().div_ceil(chunks);
            let dropped = families.chunks(size).any(|chunk| self.attempt(|run| run.without.extend(chunk)));
            if dropped {
                chunks = (chunks - 1).max(1);
            } else if size == 1 {
                break;
            } else {
                chunks = (chunks * 2).min(families.len());
            }
        }
    }

    /// Tries the smallest clusters first.
    fn drop_nodes(&mut self) {
        let Some(nodes) = self.seen.nodes else { return };
        let _ = [1, 3, 5]
            .into_iter()
            .filter(|fewer| *fewer < nodes)
            .any(|fewer| self.attempt(|run| run.nodes = Some(fewer)));
    }
}

/// The next multiple of the grain after `duration`.
fn grain_above(duration: Duration) -> Duration {
    let grains = duration.as_nanos() / GRAIN.as_nanos() + 1;
    GRAIN * u32::try_from(grains).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultFamily::{BitRot, Clocks, Crashes, Loss, Partitions, Wipes};

    /// A made-up defect: it shows at `at` when all of `needs` are on and there are `nodes`.
    struct Defect {
        at: Duration,
        needs: BTreeSet<FaultFamily>,
        nodes: usize,
        chosen: BTreeSet<FaultFamily>,
        tried: usize,
    }

    impl Defect {
        fn new(at: Duration, needs: &[FaultFamily], nodes: usize) -> Self {
            let chosen = FaultFamily::all().iter().copied().filter(|family| *family != Wipes).collect();
            Self { at, needs: needs.iter().copied().collect(), nodes, chosen, tried: 0 }
        }

        fn seen(&mut self, options: &RunOptions) -> Option<Seen> {
            self.tried += 1;
            let families: BTreeSet<_> = self.chosen.difference(&options.without).copied().collect();
            let nodes = options.nodes.unwrap_or(5);
            let fails = self.needs.is_subset(&families) && nodes >= self.nodes && options.duration > self.at;
            fails.then_some(Seen { at: Some(self.at), nodes: Some(nodes), families })
        }

        fn shrink(&mut self, budget: usize) -> RunOptions {
            let start = RunOptions::new(7);
            let seen = self.seen(&start).unwrap();
            Search::new(start, seen, budget, |options: &RunOptions| self.seen(options)).run()
        }
    }

    #[test]
    fn only_what_the_failure_needs_stays() {
        for needs in [&[][..], &[Loss], &[BitRot, Clocks], &[Crashes, Loss, Partitions]] {
            let mut defect = Defect::new(Duration::from_millis(17_123), needs, 3);
            let smallest = defect.shrink(1000);
            let kept: BTreeSet<_> = defect.chosen.difference(&smallest.without).copied().collect();
            assert_eq!(kept, defect.needs);
            assert_eq!((smallest.seed, smallest.nodes), (7, Some(3)));
            assert_eq!(smallest.duration, Duration::from_millis(17_130));
            assert!(!smallest.without.contains(&Wipes), "the seed did not choose it");
            assert!(defect.tried < 100, "{} runs", defect.tried);
        }
    }

    #[test]
    fn a_failure_after_the_faults_have_ended_is_bisected_too() {
        // It shows while the cluster heals, however long the faults lasted, provided they lasted 9 s.
        let mut tried = 0;
        let fails = |options: &RunOptions| {
            tried += 1;
            let healing = options.duration + Duration::from_secs(30);
            (options.duration >= Duration::from_secs(9)).then(|| Seen {
                at: Some(healing),
                nodes: Some(1),
                families: BTreeSet::new(),
            })
        };
        let start = RunOptions::new(1);
        let seen = Seen { at: Some(Duration::from_secs(90)), nodes: Some(1), families: BTreeSet::new() };
        let smallest = Search::new(start, seen, 1000, fails).run();
        assert!(smallest.duration >= Duration::from_secs(9) && smallest.duration < Duration::from_millis(9_500));
        assert!(tried < 40, "{tried} runs");
    }

    #[test]
    fn the_budget_is_kept_and_the_answer_still_fails() {
        for budget in 0..12 {
            let mut defect = Defect::new(Duration::from_secs(40), &[Loss, Clocks], 1);
            let smallest = defect.shrink(budget);
            assert!(defect.tried <= budget + 1);
            assert!(defect.seen(&smallest).is_some());
        }
    }

    #[test]
    fn a_run_that_never_tells_shrinks_by_trying() {
        let families: BTreeSet<_> = FaultFamily::all().iter().copied().collect();
        let fails = |options: &RunOptions| {
            let on: BTreeSet<_> = families.difference(&options.without).copied().collect();
            on.contains(&Crashes).then_some(Seen { at: None, nodes: None, families: on })
        };
        let seen = Seen { at: None, nodes: None, families: families.clone() };
        let smallest = Search::new(RunOptions::new(1), seen, 1000, fails).run();
        assert_eq!(families.difference(&smallest.without).copied().collect::<Vec<_>>(), [Crashes]);
        assert_eq!(smallest.nodes, None);
        assert!(smallest.duration <= GRAIN * 2);
    }
}
