//! No process ends by itself, and none says what must never be said, whatever happens around it. (One that has to end, such as a
//! node whose disk failed a sync, is expected by the scenario, and is no event of the history.)

use super::facts::Facts;
use super::outcome::{Property, Violation};

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    let heard = facts.endings.iter().chain(&facts.complaints);
    found.extend(heard.map(|(at, what)| Violation {
        property: Property::Processes,
        what: what.clone(),
        at_ms: at.ms,
        evidence: vec![at.line],
    }));
}
