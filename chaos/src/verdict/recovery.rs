//! Promises 4 and 6, seen from their end: once the faults are over nothing stays stuck, and it is well again in time.

use super::facts::{At, Facts};
use super::outcome::{Property, Violation};

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    found.extend(facts.stuck.iter().map(|(at, what)| violation(*at, what.clone(), vec![at.line])));
    let limit = facts.limits.recovery_ms;
    let late = facts.recovered.iter().filter(|(_, recovery)| recovery.after_ms > limit);
    found.extend(late.map(|(at, recovery)| {
        let what = format!("{} took {} ms to get well, of {limit} ms at most", recovery.what, recovery.after_ms);
        violation(*at, what, vec![at.line])
    }));
    let Some(healed) = facts.healed else { return };
    for (name, database) in &facts.databases {
        let is_asked_for = !database.promises.is_empty();
        if is_asked_for && database.promises.iter().all(|given| given.asked.at.line < healed.line) {
            let what = format!("{name}: nothing was promised any more after the faults were over");
            found.push(violation(healed, what, vec![healed.line]));
        }
    }
}

fn violation(at: At, what: String, evidence: Vec<u64>) -> Violation {
    Violation { property: Property::Recovery, what, at_ms: at.ms, evidence }
}
