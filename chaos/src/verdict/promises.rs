//! Promise 1: no acknowledged write is lost. A successful `seawall sync` promises that everything committed before it began is
//! in the state it names, that this state can be given back from then on, and so can every later one.

use super::facts::{Database, Facts, Given, Place, Restore, place};
use super::outcome::{Property, Violation};

/// A restore from whatever can serve it.
const ANY: &str = "any";

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    for (name, database) in &facts.databases {
        let check = Check { facts, name, database };
        found.extend(check.promises_go_forward());
        found.extend(check.receipts_are_kept());
        found.extend(database.restores.iter().flat_map(|restore| check.restored(restore)));
    }
}

struct Check<'a> {
    facts: &'a Facts,
    name: &'a str,
    database: &'a Database,
}

impl Check<'_> {
    /// What was promised before a sync began is in what it promises.
    fn promises_go_forward(&self) -> Vec<Violation> {
        let promises = &self.database.promises;
        let mut furthest: Vec<&Given> = Vec::with_capacity(promises.len());
        for given in promises {
            let before = furthest.last().copied().filter(|before| there(before) >= there(given));
            furthest.push(before.unwrap_or(given));
        }
        let behind = promises.iter().filter_map(|given| {
            let known = promises.partition_point(|earlier| earlier.at.line < given.asked.at.line);
            let earlier = *furthest.get(known.checked_sub(1)?)?;
            (there(earlier) > there(given)).then(|| {
                let what = format!(
                    "{}: a sync promised {}, and one that began later promised {}",
                    self.name,
                    show(there(earlier)),
                    show(there(given))
                );
                self.lost(given.at.ms, what, vec![earlier.at.line, given.asked.at.line, given.at.line])
            })
        });
        behind.collect()
    }

    /// A promise names every destination that was to be waited for, at the promised state or later.
    fn receipts_are_kept(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for given in &self.database.promises {
            let waited_for = match (&given.asked.receipt[..], &self.facts.cast) {
                ("quorum", _) | ("all", None) => continue,
                ("all", Some(cast)) => cast.destinations.clone(),
                (destination, _) => vec![destination.to_owned()],
            };
            for destination in waited_for {
                let watermark = given.promise.destinations.get(&destination).copied();
                if watermark.is_none_or(|watermark| watermark < given.promise.position.txid) {
                    let at = watermark.map_or("not named".to_owned(), |watermark| format!("at txid {watermark}"));
                    let what =
                        format!("{}: a sync promised {}, and {destination} was {at}", self.name, show(there(given)));
                    found.push(self.lost(given.at.ms, what, vec![given.asked.at.line, given.at.line]));
                }
            }
        }
        found
    }

    fn restored(&self, restore: &Restore) -> Vec<Violation> {
        let before = &self.database.promises[..restore.promises];
        match &restore.outcome {
            Ok(content) => {
                let restored = place(&content.position);
                let mut found = self.rows_are_there(restore, restored, content.seq);
                if restore.at_rest && restore.txid.is_none() {
                    found.extend(self.is_the_newest(restore, before, restored, (content.seq, content.chain)));
                }
                found
            }
            Err(message) if restore.at_rest => {
                self.should_have_been_given(restore, before, message).into_iter().collect()
            }
            // While faults act a restore may fail; that nothing was lost shows at rest.
            Err(_) => Vec::new(),
        }
    }

    /// The state has every row that was committed before the syncs whose promises it includes began.
    fn rows_are_there(&self, restore: &Restore, restored: Place, seq: u64) -> Vec<Violation> {
        let promises = self.database.promises.iter();
        let missing = promises
            .filter(|given| given.asked.seq > seq && there(given) <= restored && self.includes(given, restored));
        // One that lacks the most says it all.
        let worst = missing.max_by_key(|given| given.asked.seq);
        let violation = worst.map(|given| {
            let what = format!(
                "{}: {} was promised after row {} had been committed, and {} restored from {} ends with row {seq}",
                self.name,
                show(there(given)),
                given.asked.seq,
                show(restored),
                restore.source
            );
            self.lost(restore.at.ms, what, vec![given.asked.at.line, given.at.line, restore.at.line])
        });
        violation.into_iter().collect()
    }

    /// Whether a later state, of the same history, has to have the rows of a promise: not if the source may have lost them since.
    fn includes(&self, given: &Given, restored: Place) -> bool {
        let Some(life) = given.life else { return false };
        if given.promise.position.lineage != restored.0 {
            return false;
        }
        if there(given) == restored || life == self.database.source.now() {
            return true;
        }
        // Up to what was promised in the same life it cannot have.
        self.database.promises.iter().any(|other| other.life == Some(life) && there(other) >= restored)
    }

    /// At rest the newest state is what the applications left, and no promise is ahead of it.
    fn is_the_newest(&self, restore: &Restore, before: &[Given], restored: Place, last: (u64, u64)) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Some(given) = before.iter().max_by_key(|given| there(given)).filter(|given| there(given) > restored) {
            let (promised, newest) = (show(there(given)), show(restored));
            let what =
                format!("{}: {promised} was promised, and the newest from {} is {newest}", self.name, restore.source);
            found.push(self.lost(restore.at.ms, what, vec![given.at.line, restore.at.line]));
        }
        if let Some(rest) = restore.rest.filter(|rest| (rest.seq, rest.chain) != last) {
            let what = format!(
                "{}: the source ended with row {} (chain {}), and the newest from {} with row {} (chain {})",
                self.name, rest.seq, rest.chain, restore.source, last.0, last.1
            );
            found.push(self.lost(restore.at.ms, what, vec![rest.at.line, restore.at.line]));
        }
        found
    }

    fn should_have_been_given(&self, restore: &Restore, before: &[Given], message: &str) -> Option<Violation> {
        let newest = before.iter().max_by_key(|given| there(given))?;
        let (given, what) = match restore.txid {
            None => (newest, "the newest".to_owned()),
            Some(txid) if restore.source == ANY => {
                // A txid without a lineage is one of the newest.
                let asked = (newest.promise.position.lineage, txid);
                let given = before.iter().filter(|given| there(given) == asked).max_by_key(|given| given.at.ms)?;
                let age = restore.at.ms - given.at.ms;
                if there(newest) != asked && self.facts.limits.history_kept_ms.is_some_and(|kept| age > kept) {
                    return None;
                }
                (given, show(asked))
            }
            // Of older states a single source may lack some.
            Some(_) => return None,
        };
        let promised = show(there(given));
        let what = format!(
            "{}: {what} cannot be restored from {}, and {promised} was promised: {message}",
            self.name, restore.source
        );
        Some(self.lost(restore.at.ms, what, vec![given.at.line, restore.at.line]))
    }

    fn lost(&self, at_ms: u64, what: String, evidence: Vec<u64>) -> Violation {
        Violation { property: Property::NothingLost, what, at_ms, evidence }
    }
}

fn there(given: &Given) -> Place {
    place(&given.promise.position)
}

/// A place in words.
fn show((lineage, txid): Place) -> String {
    match lineage {
        1 => format!("txid {txid}"),
        _ => format!("txid {txid} of lineage {lineage}"),
    }
}
