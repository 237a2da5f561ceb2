//! No process takes more and more: no leak of memory, descriptors or disk.
//!
//! A figure is never above its cap. Beyond that, a life of at least [`Limits::leak_after_ms`](super::Limits) with at least 32
//! samples is cut into quarters by time, and the medians of the second, third and last are compared; the first is for caches that
//! fill and files that open. It leaks if from the second to the last
//!
//! - it grew by more than the kind's `floor`: an allocator and a cache move by some MiB, a log by some of its 64 MiB pieces; and
//! - it grew by more than the kind's `percent`: what is large moves more; and
//! - each of the two steps has at least a quarter of the growth. A leak goes on at its pace (one half each, while what warms up
//!   grows less and less); a single step, such as a higher load or an outage's backlog, has it all at once and then stops.
//!
//! Medians, because an outage, a snapshot or a restore makes a peak, which is no leak: peaks are what the caps are for. The
//! databases grow by what the applications write, and so do the nodes' images of them; the floor of the disk is above that.

use super::facts::{At, Facts, Sample};
use super::limits::Growth;
use super::outcome::{Property, Violation};

/// Fewer samples than this, eight a quarter, have no median worth the name.
const SAMPLES_AT_LEAST: usize = 32;

/// The part of the growth that each step has to have, as a divisor.
const STEP_PART: u64 = 4;

/// One figure of a sample.
type Figure = fn(&Sample) -> u64;

/// Checks every life. How many were long enough to ask whether they grow.
pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) -> u64 {
    let mut asked = 0;
    for ((process, pid), samples) in &facts.lives {
        let quarters = Quarters::of(samples, facts.limits.leak_after_ms);
        asked += u64::from(quarters.is_some());
        let kinds: [(&str, Growth, Figure); 3] = [
            ("bytes of memory", facts.limits.memory, |sample| sample.memory),
            ("descriptors", facts.limits.descriptors, |sample| sample.descriptors),
            ("bytes of disk", facts.limits.disk, |sample| sample.disk),
        ];
        for (kind, limit, figure) in kinds {
            let over = |sample: &&Sample| limit.cap.is_some_and(|cap| figure(sample) > cap);
            if let Some(sample) = samples.iter().filter(over).max_by_key(|sample| figure(sample)) {
                let what = format!(
                    "{process} (pid {pid}) took {} {kind}, of {} at most",
                    figure(sample),
                    limit.cap.unwrap_or_default()
                );
                found.push(violation(sample.at, what, vec![sample.at.line]));
            }
            let Some(quarters) = &quarters else { continue };
            let medians @ [second, third, last] = quarters.medians(figure);
            if is_leak(medians, limit) {
                let what = format!(
                    "{process} (pid {pid}) takes more and more {kind}: {second}, {third} and {last} in the second, third and last quarter of {} s, {} an hour",
                    quarters.length_ms() / 1000,
                    // The middles of the second and the last quarter are half a life apart.
                    (last - second).saturating_mul(7_200_000) / quarters.length_ms().max(1)
                );
                found.push(violation(quarters.end(), what, quarters.evidence()));
            }
        }
    }
    asked
}

/// Whether the medians of the second, third and last quarter are those of something that grows on and on.
fn is_leak([second, third, last]: [u64; 3], limit: Growth) -> bool {
    let growth = last.saturating_sub(second);
    let step = growth / STEP_PART;
    growth > limit.floor
        && growth.saturating_mul(100) > second.saturating_mul(limit.percent)
        && third.saturating_sub(second) >= step
        && last.saturating_sub(third) >= step
}

/// The second, third and last quarter of a life.
struct Quarters<'a> {
    life: &'a [Sample],
    parts: [&'a [Sample]; 3],
}

impl<'a> Quarters<'a> {
    /// Nothing if the life is too short.
    fn of(life: &'a [Sample], at_least_ms: u64) -> Option<Self> {
        let (first, last) = (life.first()?.at.ms, life.last()?.at.ms);
        if life.len() < SAMPLES_AT_LEAST || last - first < at_least_ms {
            return None;
        }
        let cut = |quarter: u64| life.partition_point(|sample| sample.at.ms < first + (last - first) * quarter / 4);
        let parts = [&life[cut(1)..cut(2)], &life[cut(2)..cut(3)], &life[cut(3)..]];
        // One that was hardly looked at for a while tells nothing of it.
        parts.iter().all(|part| !part.is_empty()).then_some(Self { life, parts })
    }

    fn medians(&self, figure: Figure) -> [u64; 3] {
        self.parts.map(|part| {
            let mut figures: Vec<u64> = part.iter().map(figure).collect();
            figures.sort_unstable();
            figures[figures.len() / 2]
        })
    }

    fn length_ms(&self) -> u64 {
        self.end().ms - self.life[0].at.ms
    }

    fn end(&self) -> At {
        self.life[self.life.len() - 1].at
    }

    /// The middle samples of the three parts.
    fn evidence(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part[part.len() / 2].at.line).collect()
    }
}

fn violation(at: At, what: String, evidence: Vec<u64>) -> Violation {
    Violation { property: Property::Resources, what, at_ms: at.ms, evidence }
}

#[cfg(test)]
mod tests {
    use super::super::{Judge, Limits, Verdict};
    use super::*;
    use crate::history::{Event, Recorded};

    const MIB: u64 = 1 << 20;

    /// The verdict on one process whose figures (memory, descriptors, disk) are those of each of `minutes` minutes, ten samples each.
    fn judged(minutes: u64, figures: impl Fn(f64) -> (u64, u64, u64)) -> Vec<String> {
        let mut judge = Judge::default();
        for number in 0..=minutes * 10 {
            let (resident_bytes, descriptors, disk_bytes) = figures(number as f64 / (minutes * 10) as f64);
            let event = Event::Sampled { process: "node-1".into(), pid: 7, resident_bytes, descriptors, disk_bytes };
            judge.see(&Recorded { at_ms: number * 6000, event });
        }
        let Verdict { violations, counts, .. } = judge.verdict();
        assert_eq!((counts.lives, counts.lives_asked_for_growth), (1, u64::from(minutes >= 10)));
        violations
            .into_iter()
            .filter(|violation| violation.property == Property::Resources)
            .map(|violation| violation.what)
            .collect()
    }

    fn memory(minutes: u64, figure: impl Fn(f64) -> f64) -> Vec<String> {
        judged(minutes, |time| (figure(time) as u64 * MIB, 50, 0))
    }

    #[test]
    fn what_grows_on_and_on_is_a_leak() {
        let found = memory(60, |time| 100.0 + 120.0 * time);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("node-1 (pid 7) takes more and more bytes of memory: "), "{found:?}");
        assert!(found[0].ends_with("of 3600 s, 125829120 an hour"), "{found:?}");
        // With noise and peaks upon it.
        let noise = |time: f64| 30.0 * (time * 977.0).sin() + if (time * 53.0).fract() < 0.1 { 300.0 } else { 0.0 };
        assert_eq!(memory(60, |time| 200.0 + 200.0 * time + noise(time)).len(), 1);
        assert_eq!(judged(10, |time| (MIB, 40 + (100.0 * time) as u64, 0)).len(), 1);
        assert_eq!(judged(60, |time| (MIB, 40, (4000.0 * time) as u64 * MIB)).len(), 1);
    }

    #[test]
    fn what_warms_up_steps_or_peaks_is_none() {
        let none = Vec::<String>::new();
        assert_eq!(memory(60, |_| 300.0), none);
        assert_eq!(memory(60, |time| 400.0 * (1.0 - (-12.0 * time).exp())), none, "a cache that fills");
        assert_eq!(memory(60, |time| if time > 0.8 { 300.0 } else { 100.0 }), none, "a late step");
        assert_eq!(memory(60, |time| if time > 0.4 { 300.0 } else { 100.0 }), none, "an early step");
        assert_eq!(memory(60, |time| if (time * 7.0).fract() < 0.2 { 700.0 } else { 100.0 }), none, "peaks");
        assert_eq!(memory(60, |time| 100.0 + 30.0 * time), none, "less than the floor");
        assert_eq!(memory(60, |time| 800.0 + 100.0 * time), none, "a little of much");
        assert_eq!(memory(60, |time| 300.0 - 200.0 * time), none, "what falls");
        assert_eq!(memory(9, |time| 100.0 + 400.0 * time), none, "a short life");
    }

    #[test]
    fn a_cap_holds_in_the_shortest_life() {
        let cap = Limits::default().memory.cap.unwrap() / MIB;
        let found = memory(1, |time| if time == 0.5 { cap as f64 + 1.0 } else { 50.0 });
        assert_eq!(
            found,
            [format!("node-1 (pid 7) took {} bytes of memory, of {} at most", (cap + 1) * MIB, cap * MIB)]
        );
        assert_eq!(judged(1, |_| (MIB, 1025, 0)).len(), 1);
    }
}
