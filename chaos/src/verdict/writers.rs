//! Promise 3: one writer. Nothing of an older epoch that is ordered after a newer claim is ever acknowledged.
//!
//! A fenced agent that has not heard of it may still say of what it shipped before that it is safe: it is.

use std::collections::BTreeMap;

use super::facts::{Database, Facts, Given, place};
use super::outcome::{Property, Violation};

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    for (name, database) in &facts.databases {
        found.extend(older_beyond_newer(name, database));
        found.extend(shared_epochs(name, database));
        found.extend(beyond_a_claim(name, database));
    }
}

/// Nothing that an older epoch promised lies beyond what a newer one promised, whenever either was heard: the newer one goes on
/// from where the older one was ended.
fn older_beyond_newer(name: &str, database: &Database) -> Vec<Violation> {
    // The furthest and the nearest promise of each epoch.
    let mut epochs: BTreeMap<u64, (&Given, &Given)> = BTreeMap::new();
    for given in &database.promises {
        let (furthest, nearest) = epochs.entry(given.promise.epoch).or_insert((given, given));
        let there = place(&given.promise.position);
        if there > place(&furthest.promise.position) {
            *furthest = given;
        }
        if there < place(&nearest.promise.position) {
            *nearest = given;
        }
    }
    let mut found = Vec::new();
    let mut before: Option<&Given> = None;
    for (furthest, nearest) in epochs.into_values() {
        if let Some(older) = before.filter(|older| place(&older.promise.position) > place(&nearest.promise.position)) {
            let what = format!(
                "{name}: txid {} was promised under epoch {}, and txid {} under epoch {}",
                older.promise.position.txid, older.promise.epoch, nearest.promise.position.txid, nearest.promise.epoch
            );
            found.push(violation(older.at.ms.max(nearest.at.ms), what, vec![older.at.line, nearest.at.line]));
        }
        let further = before.filter(|older| place(&older.promise.position) > place(&furthest.promise.position));
        before = Some(further.unwrap_or(furthest));
    }
    found
}

/// Nothing of an older epoch was acknowledged that is ordered after a newer claim: that was granted where the older one ended.
fn beyond_a_claim(name: &str, database: &Database) -> Vec<Violation> {
    let mut found = Vec::new();
    for claim in &database.claims {
        let of_older = database.promises.iter().filter(|given| given.promise.epoch < claim.epoch);
        let Some(furthest) = of_older.max_by_key(|given| place(&given.promise.position)) else { continue };
        if place(&furthest.promise.position) > claim.head {
            let what = format!(
                "{name}: {} was granted epoch {} at txid {}, and txid {} was promised under epoch {}",
                claim.agent, claim.epoch, claim.head.1, furthest.promise.position.txid, furthest.promise.epoch
            );
            found.push(violation(furthest.at.ms, what, vec![furthest.at.line, claim.at.line]));
        }
    }
    found
}

/// An epoch is one agent's.
fn shared_epochs(name: &str, database: &Database) -> Vec<Violation> {
    let mut owners: BTreeMap<u64, &Given> = BTreeMap::new();
    let mut found = Vec::new();
    for given in &database.promises {
        let epoch = given.promise.epoch;
        let first = owners.entry(epoch).or_insert(given);
        if first.asked.agent != given.asked.agent {
            let what =
                format!("{name}: {} and {} both promised under epoch {epoch}", first.asked.agent, given.asked.agent);
            found.push(violation(given.at.ms, what, vec![first.at.line, given.at.line]));
        }
    }
    found
}

fn violation(at_ms: u64, what: String, evidence: Vec<u64>) -> Violation {
    Violation { property: Property::OneWriter, what, at_ms, evidence }
}
