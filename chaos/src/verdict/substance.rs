//! A run that put nothing to the test is no success: what it had to show, it has shown.

use super::facts::{Cast, Database, Facts};
use super::outcome::{Property, Violation};

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    let mut missing = Vec::new();
    match &facts.cast {
        None => missing.push("the history has no beginning".to_owned()),
        Some(cast) if cast.databases.is_empty() => missing.push("there was no database".to_owned()),
        Some(cast) => cast.databases.iter().for_each(|name| missing.extend(database(facts, cast, name))),
    }
    let (commits, at_least) = (facts.counts.commits, facts.limits.commits_at_least);
    if commits < at_least {
        missing.push(format!("{commits} transactions were committed, of {at_least} at least"));
    }
    if facts.healed.is_none() {
        missing.push("it was never said that all faults were over".to_owned());
    }
    if facts.ended.is_none() {
        missing.push("the run did not come to its end".to_owned());
    }
    let (at_ms, evidence) = facts.last.map_or((0, Vec::new()), |last| (last.ms, vec![last.line]));
    let violation = |what| Violation { property: Property::Vacuous, what, at_ms, evidence: evidence.clone() };
    found.extend(missing.into_iter().map(violation));
}

fn database(facts: &Facts, cast: &Cast, name: &str) -> Option<String> {
    let empty = Database::default();
    let database = facts.databases.get(name).unwrap_or(&empty);
    let mut lacks = Vec::new();
    if database.source.commits == 0 {
        lacks.push("nothing was committed".to_owned());
    }
    if database.promises.is_empty() {
        lacks.push("nothing was promised".to_owned());
    }
    if !database.restores.iter().any(|restore| restore.outcome.is_ok()) {
        lacks.push("nothing was restored".to_owned());
    }
    if !database.restores.iter().any(|restore| restore.outcome.is_ok() && restore.at_rest && restore.txid.is_some()) {
        lacks.push("nothing was restored at rest by its txid".to_owned());
    }
    if database.claims.is_empty() {
        lacks.push("no agent's log tells of a claim".to_owned());
    }
    if database.source.rest().is_none() {
        lacks.push("the source was never at rest".to_owned());
    }
    let newest = |source: &&String| {
        let mut restores = database.restores.iter();
        !restores.any(|restore| {
            restore.at_rest && restore.rest.is_some() && restore.txid.is_none() && restore.source == **source
        })
    };
    let unasked: Vec<&str> = cast.nodes.iter().chain(&cast.destinations).filter(newest).map(String::as_str).collect();
    if !unasked.is_empty() {
        lacks.push(format!("nobody asked {} for the newest at rest", unasked.join(", ")));
    }
    (!lacks.is_empty()).then(|| format!("{name}: {}", lacks.join("; ")))
}
