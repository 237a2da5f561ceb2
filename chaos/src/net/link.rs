//! What the links between hosts do to packets. Decisions only; [`super::router`] carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt};

/// A host, by its place in the network.
pub type HostIndex = usize;

/// A queue this long in front of a slow link drops what comes on top, as a router's would.
const LONGEST_QUEUE: Duration = Duration::from_secs(2);

/// What happens to packets of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Nothing passes.
    pub cut: bool,
    /// Each packet takes this much longer,
    pub delay: Duration,
    /// and up to this much more, at random. Packets do not overtake one another.
    pub jitter: Duration,
    /// This share of packets is lost, 0.0 to 1.0.
    pub loss: f64,
    /// At most so many bytes a second.
    pub bytes_per_second: Option<u64>,
}

impl Default for Effect {
    fn default() -> Self {
        Self { cut: false, delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0.0, bytes_per_second: None }
    }
}

impl Effect {
    /// Nothing passes.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }

    /// What a link suffers that suffers both.
    fn and(self, other: Self) -> Self {
        Self {
            cut: self.cut || other.cut,
            delay: self.delay + other.delay,
            jitter: self.jitter + other.jitter,
            loss: 1.0 - (1.0 - self.loss) * (1.0 - other.loss),
            bytes_per_second: [self.bytes_per_second, other.bytes_per_second].into_iter().flatten().min(),
        }
    }
}

/// What is wrong with links at present: faults that overlap add up, and each can be taken back alone.
#[derive(Default)]
pub(super) struct Links {
    faults: BTreeMap<u64, Fault>,
    next_fault: u64,
    /// When a link is free again, and when its last packet arrives, from the same beginning as the router's times.
    traffic: BTreeMap<(HostIndex, HostIndex), Traffic>,
}

struct Fault {
    from: BTreeSet<HostIndex>,
    to: BTreeSet<HostIndex>,
    effect: Effect,
}

#[derive(Clone, Copy, Default)]
struct Traffic {
    free_at: Duration,
    last_arrival: Duration,
}

impl Links {
    /// From now on packets of each host in `from` to each in `to` suffer `effect`. The answer takes it back.
    pub(super) fn begin(
        &mut self,
        from: impl IntoIterator<Item = HostIndex>,
        to: impl IntoIterator<Item = HostIndex>,
        effect: Effect,
    ) -> u64 {
        self.next_fault += 1;
        let fault = Fault { from: from.into_iter().collect(), to: to.into_iter().collect(), effect };
        self.faults.insert(self.next_fault, fault);
        self.next_fault
    }

    /// Takes a fault back.
    pub(super) fn end(&mut self, fault: u64) {
        self.faults.remove(&fault);
    }

    /// When a packet of `bytes` that is sent at `now` arrives; never, if the answer is none.
    pub(super) fn arrival(
        &mut self,
        now: Duration,
        from: HostIndex,
        to: HostIndex,
        bytes: usize,
        rng: &mut impl Rng,
    ) -> Option<Duration> {
        let mut effect = Effect::default();
        for fault in self.faults.values() {
            if fault.from.contains(&from) && fault.to.contains(&to) {
                effect = effect.and(fault.effect);
            }
        }
        if effect.cut || (effect.loss > 0.0 && rng.random_bool(effect.loss.min(1.0))) {
            return None;
        }
        let traffic = self.traffic.entry((from, to)).or_default();
        let mut leaves = now;
        if let Some(rate) = effect.bytes_per_second {
            leaves = leaves.max(traffic.free_at) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            if leaves - now > LONGEST_QUEUE {
                return None;
            }
            traffic.free_at = leaves;
        }
        let jitter = effect.jitter.mul_f64(rng.random_range(0.0..=1.0));
        // In order: TCP takes what comes late for lost.
        traffic.last_arrival = traffic.last_arrival.max(leaves + effect.delay + jitter);
        Some(traffic.last_arrival)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn a_cut_is_one_way_and_ends() {
        let (mut links, mut rng) = (Links::default(), rng());
        let fault = links.begin([0], [1, 2], Effect::cut());
        assert_eq!(links.arrival(MS, 0, 1, 100, &mut rng), None);
        assert_eq!(links.arrival(MS, 0, 2, 100, &mut rng), None);
        assert_eq!(links.arrival(MS, 1, 0, 100, &mut rng), Some(MS));
        links.end(fault);
        assert_eq!(links.arrival(MS, 0, 1, 100, &mut rng), Some(MS));
    }

    #[test]
    fn faults_on_one_link_add_up_and_end_one_by_one() {
        let (mut links, mut rng) = (Links::default(), rng());
        let slow = links.begin([0], [1], Effect { delay: 20 * MS, ..Effect::default() });
        let slower = links.begin([0, 1], [0, 1], Effect { delay: 5 * MS, ..Effect::default() });
        assert_eq!(links.arrival(MS, 0, 1, 1, &mut rng), Some(26 * MS));
        assert_eq!(links.arrival(MS, 1, 0, 1, &mut rng), Some(6 * MS));
        links.end(slow);
        assert_eq!(links.arrival(100 * MS, 0, 1, 1, &mut rng), Some(105 * MS));
        links.end(slower);
        assert_eq!(links.arrival(200 * MS, 0, 1, 1, &mut rng), Some(200 * MS));
    }

    #[test]
    fn a_narrow_link_takes_its_time_and_drops_what_its_queue_cannot_hold() {
        let (mut links, mut rng) = (Links::default(), rng());
        links.begin([0], [1], Effect { bytes_per_second: Some(1000), ..Effect::default() });
        let arrivals: Vec<_> = (0..30).map(|_| links.arrival(MS, 0, 1, 100, &mut rng)).collect();
        assert_eq!(arrivals[0], Some(101 * MS));
        assert_eq!(arrivals[19], Some(2001 * MS));
        assert!(arrivals[20..].iter().all(Option::is_none));
    }

    #[test]
    fn a_lossy_link_loses_its_share() {
        let (mut links, mut rng) = (Links::default(), rng());
        links.begin([0], [1], Effect { loss: 0.25, ..Effect::default() });
        let lost = (0..4000).filter(|_| links.arrival(MS, 0, 1, 1, &mut rng).is_none()).count();
        assert!((800..1200).contains(&lost), "{lost} of 4000");
    }

    proptest! {
        #[test]
        fn packets_of_a_link_arrive_in_order_and_never_before_they_were_sent(
            sent in prop::collection::vec((0u64..50, 1usize..9000), 1..60),
            delay in 0u64..100, jitter in 0u64..100, rate in prop::option::of(10_000u64..1_000_000),
        ) {
            let (mut links, mut rng) = (Links::default(), rng());
            let effect = Effect {
                delay: delay as u32 * MS, jitter: jitter as u32 * MS, bytes_per_second: rate, ..Effect::default()
            };
            links.begin([0], [1], effect);
            let (mut now, mut last) = (MS, MS);
            for (pause, bytes) in sent {
                now += pause as u32 * MS;
                if let Some(arrival) = links.arrival(now, 0, 1, bytes, &mut rng) {
                    prop_assert!(arrival >= now + delay as u32 * MS && arrival >= last);
                    last = arrival;
                }
            }
        }
    }
}
