//! What time it is in the cluster, from the wall clocks of its voters. Pure.

use seawall_host::time::UnixMillis;

/// The latest time that the clocks of a majority of the voters have reached: `None` as long as fewer than a majority are
/// known. `clocks` has one place for each voter.
///
/// Where all are known this is their median, the lower of the two for an even number. A clock that is not known counts
/// as one that is behind: no minority of wrong clocks puts this ahead, whichever others are silent. To be ahead would do
/// lasting harm, because commit times never fall; to be behind is mended by the next answer.
pub(super) fn cluster_time(clocks: &[Option<UnixMillis>]) -> Option<UnixMillis> {
    let majority = clocks.len() / 2 + 1;
    let mut known: Vec<UnixMillis> = clocks.iter().flatten().copied().collect();
    known.sort_unstable_by(|a, b| b.cmp(a));
    known.get(majority - 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(clocks: &[Option<i64>]) -> Option<i64> {
        let clocks: Vec<Option<UnixMillis>> = clocks.iter().map(|clock| clock.map(UnixMillis)).collect();
        cluster_time(&clocks).map(|time| time.0)
    }

    #[test]
    fn is_the_median_the_lower_one_of_an_even_number() {
        assert_eq!(time(&[Some(7)]), Some(7));
        assert_eq!(time(&[Some(7), Some(5)]), Some(5));
        assert_eq!(time(&[Some(7), Some(5), Some(900)]), Some(7));
        assert_eq!(time(&[Some(7), Some(5), Some(900), Some(6)]), Some(6));
    }

    #[test]
    fn needs_a_majority_and_takes_who_is_silent_for_behind() {
        assert_eq!(time(&[]), None);
        assert_eq!(time(&[None]), None);
        assert_eq!(time(&[Some(7), None, None]), None);
        assert_eq!(time(&[Some(7), Some(900), None]), Some(7));
        // Two of five voters are ahead, and two are silent.
        assert_eq!(time(&[Some(7), Some(900), Some(901), None, None]), Some(7));
    }

    proptest! {
        #[test]
        fn one_wrong_clock_of_three_has_no_influence_beyond_the_span_of_the_others(
            right in (0_i64..1 << 50, 0_i64..1 << 50), wrong: i64, place in 0_usize..3,
        ) {
            let mut clocks = vec![Some(right.0), Some(right.1)];
            clocks.insert(place, Some(wrong));
            let now = time(&clocks).unwrap();
            prop_assert!(right.0.min(right.1) <= now && now <= right.0.max(right.1));
        }

        #[test]
        fn no_minority_of_wrong_clocks_puts_it_ahead_whoever_is_silent(
            right in prop::collection::vec(prop::option::of(0_i64..1000), 1..6), wrong in prop::collection::vec(1000_i64.., 0..5),
        ) {
            prop_assume!(wrong.len() < right.len());
            let highest = right.iter().flatten().copied().max();
            let clocks: Vec<Option<i64>> = right.into_iter().chain(wrong.into_iter().map(Some)).collect();
            prop_assert!(time(&clocks).is_none_or(|now| Some(now) <= highest));
        }

        #[test]
        fn a_majority_of_clocks_has_reached_it(clocks in prop::collection::vec(prop::option::of(any::<i64>()), 0..8)) {
            if let Some(now) = time(&clocks) {
                prop_assert!(clocks.iter().flatten().filter(|clock| **clock >= now).count() > clocks.len() / 2);
            } else {
                prop_assert!(clocks.iter().flatten().count() <= clocks.len() / 2);
            }
        }
    }
}
