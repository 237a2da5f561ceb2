//! When faults strike: decided before a run, from its seed.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::FaultPlan;

/// A fault's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// When it begins, from the beginning of the run.
    pub at: Duration,
    /// Which of the scenario's faults, by its place.
    pub plan: usize,
    /// How long it lasts.
    pub lasts: Duration,
}

/// The times of all faults that begin within `span`, in order. Each is moved by up to a fifth of its period, and lasts up to a
/// fourth longer or shorter, so that faults meet in other ways with every seed.
pub fn schedule(plans: &[FaultPlan], span: Duration, rng: &mut impl Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        let mut nominal = plan.after;
        while nominal < span {
            let period = plan.every.unwrap_or(plan.after);
            let at = nominal + period.mul_f64(rng.random_range(0.0..=0.2));
            let lasts = plan.lasts.mul_f64(rng.random_range(0.75..=1.25));
            if at < span {
                steps.push(Step { at, plan: index, lasts });
            }
            match plan.every {
                Some(every) => nominal += every.max(Duration::from_millis(100)),
                None => break,
            }
        }
    }
    steps.sort();
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::scenario::{Action, Target};

    fn plan(after: u64, every: Option<u64>) -> FaultPlan {
        let every = every.map(Duration::from_secs);
        let lasts = Duration::from_secs(2);
        FaultPlan {
            action: Action::Kill,
            to: Target::Leader,
            from: None,
            after: Duration::from_secs(after),
            every,
            lasts,
        }
    }

    #[test]
    fn a_fault_without_a_period_strikes_once() {
        let steps = schedule(&[plan(5, None)], Duration::from_secs(600), &mut StdRng::seed_from_u64(1));
        assert_eq!(steps.len(), 1);
    }

    proptest! {
        #[test]
        fn equal_seeds_give_equal_times_inside_the_span(
            plans in prop::collection::vec((0u64..30, prop::option::of(0u64..20)), 0..5), span in 1u64..200, seed: u64,
        ) {
            let plans: Vec<_> = plans.into_iter().map(|(after, every)| plan(after, every)).collect();
            let span = Duration::from_secs(span);
            let steps = schedule(&plans, span, &mut StdRng::seed_from_u64(seed));
            prop_assert!(steps.is_sorted() && steps.iter().all(|step| step.at < span && step.plan < plans.len()));
            prop_assert_eq!(steps, schedule(&plans, span, &mut StdRng::seed_from_u64(seed)));
        }
    }
}
