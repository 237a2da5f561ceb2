//! Where two traces that should be equal part.

use std::fmt;

use serde::Serialize;

use crate::run::TraceEvent;

/// Events before the difference that are shown with it.
const CONTEXT: usize = 5;

/// The first event in which two traces differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Its place, from 0.
    pub(super) index: usize,
    /// What both did just before.
    before: Vec<TraceEvent>,
    /// What the one did there; nothing if it had ended.
    one: Option<TraceEvent>,
    /// What the other did there.
    other: Option<TraceEvent>,
}

impl Difference {
    /// The first difference of `one` and `other`, found by their hash chains: what differs once differs ever after.
    pub(super) fn first(one: &[TraceEvent], other: &[TraceEvent]) -> Option<Self> {
        let common = one.len().min(other.len());
        let (mut equal, mut differs) = (0, common);
        while equal < differs {
            let middle = equal + (differs - equal) / 2;
            if one[middle].hash == other[middle].hash {
                equal = middle + 1;
            } else {
                differs = middle;
            }
        }
        (equal < one.len().max(other.len())).then(|| Self {
            index: equal,
            before: one[equal.saturating_sub(CONTEXT)..equal].to_vec(),
            one: one.get(equal).cloned(),
            other: other.get(equal).cloned(),
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the first difference is event {}:", self.index)?;
        for event in &self.before {
            writeln!(f, "  both  {event}")?;
        }
        for (name, event) in [("one  ", &self.one), ("other", &self.other)] {
            match event {
                Some(event) => writeln!(f, "  {name} {event}")?,
                None => writeln!(f, "  {name} (had ended)")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trace(values: &[u64]) -> Vec<TraceEvent> {
        let mut hash = 1_u64;
        let event = |value: &u64| {
            hash = hash.wrapping_mul(31).wrapping_add(*value);
            let (at, kind) = (Duration::from_millis(*value), "draw".to_owned());
            TraceEvent { at, machine: 1, kind, value: *value, text: String::new(), hash }
        };
        values.iter().map(event).collect()
    }

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let values: Vec<u64> = (0..100).collect();
        for place in 0..100 {
            let mut changed = values.clone();
            changed[place] = 1000;
            let difference = Difference::first(&trace(&values), &trace(&changed)).unwrap();
            assert_eq!(difference.index, place);
            assert_eq!(difference.one.unwrap().value, place as u64);
            assert_eq!(difference.other.unwrap().value, 1000);
            assert_eq!(difference.before.len(), place.min(CONTEXT));
        }
    }

    #[test]
    fn a_trace_that_ends_early_differs_where_it_ends() {
        let difference = Difference::first(&trace(&[1, 2, 3]), &trace(&[1, 2])).unwrap();
        assert_eq!((difference.index, &difference.other), (2, &None));
        assert!(difference.to_string().contains("other (had ended)"), "{difference}");
    }

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(Difference::first(&trace(&[1, 2, 3]), &trace(&[1, 2, 3])), None);
        assert_eq!(Difference::first(&[], &[]), None);
    }
}
