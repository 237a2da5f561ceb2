//! Promise 2: never a wrong database. What a restore gives is whole, is a state that the source was in, and is the same one
//! whenever and from wherever it is asked for. And promise 7, as far as rows show it: the source itself keeps what was committed.

use std::collections::BTreeMap;

use super::facts::{At, Database, Facts, Place, Restore, place};
use super::outcome::{Property, Violation};
use super::source::Known;
use crate::history::RestoredContent;

pub(super) fn check(facts: &Facts, found: &mut Vec<Violation>) {
    for (name, database) in &facts.databases {
        found.extend(
            database
                .source
                .contradictions
                .iter()
                .map(|violation| Violation { what: format!("{name}: {}", violation.what), ..violation.clone() }),
        );
        let check = Check { name, database };
        for restore in &database.restores {
            if let Ok(content) = &restore.outcome {
                check.content(restore, content, found);
            }
        }
        check.one_checksum(found);
        check.one_content(found);
    }
}

struct Check<'a> {
    name: &'a str,
    database: &'a Database,
}

impl Check<'_> {
    fn content(&self, restore: &Restore, content: &RestoredContent, found: &mut Vec<Violation>) {
        let from = format!("txid {} from {}", content.position.txid, restore.source);
        let line = restore.at.line;
        let mut wrong = |what: String, evidence| found.push(self.wrong(restore.at, what, evidence));
        if let Some(problem) = &content.problem {
            wrong(format!("{from}: {problem}"), vec![line]);
        }
        if content.equals_source == Some(false) {
            wrong(format!("{from} does not equal the source page by page"), vec![line]);
        }
        if let Some(txid) = restore.txid.filter(|txid| *txid != content.position.txid) {
            wrong(format!("txid {txid} was asked for, and {from} was given"), vec![line]);
        }
        let (seq, chain) = (content.seq, content.chain);
        match self.database.source.knows(seq, chain) {
            Known::Fits => {}
            Known::Other(mut lines) => {
                lines.push(line);
                wrong(format!("{from} ends with row {seq} and chain {chain}, which the source never had"), lines);
            }
            Known::Never => wrong(format!("{from} ends with row {seq}, which the source never had"), vec![line]),
        }
    }

    /// One checksum for a state, for ever.
    fn one_checksum(&self, found: &mut Vec<Violation>) {
        let promised = self.database.promises.iter().map(|given| (given.at, &given.promise.position));
        let restored = self.restored().map(|(restore, content)| (restore.at, &content.position));
        let mut seen: BTreeMap<Place, (At, &str)> = BTreeMap::new();
        for (at, position) in promised.chain(restored) {
            let (first, checksum) = *seen.entry(place(position)).or_insert((at, &position.checksum));
            if checksum != position.checksum {
                let what = format!("txid {} has checksum {checksum} and checksum {}", position.txid, position.checksum);
                found.push(self.wrong(first.max(at), what, vec![first.line, at.line]));
            }
        }
    }

    /// One last row for a state; and later states have no fewer rows, unless the source may have lost some in between.
    fn one_content(&self, found: &mut Vec<Violation>) {
        let mut seen: BTreeMap<Place, (&Restore, &RestoredContent)> = BTreeMap::new();
        for (restore, content) in self.restored() {
            let (first, before) = *seen.entry(place(&content.position)).or_insert((restore, content));
            if (before.seq, before.chain) != (content.seq, content.chain) {
                let what = format!(
                    "txid {} ends with row {} (chain {}) from {}, and with row {} (chain {}) from {}",
                    content.position.txid,
                    before.seq,
                    before.chain,
                    first.source,
                    content.seq,
                    content.chain,
                    restore.source
                );
                found.push(self.wrong(restore.at, what, vec![first.at.line, restore.at.line]));
            }
        }
        let spans = self.spans();
        let places: Vec<_> = seen.into_iter().collect();
        for pair in places.windows(2) {
            let [(earlier, (first, before)), (later, (restore, content))] = pair else { continue };
            let is_one_life = earlier.0 == later.0 && spans.iter().any(|span| span.0 <= *earlier && *later <= span.1);
            if is_one_life && content.seq < before.seq {
                let what = format!(
                    "txid {} ends with row {}, and txid {}, later, with row {}",
                    earlier.1, before.seq, later.1, content.seq
                );
                found.push(self.wrong(first.at.max(restore.at), what, vec![first.at.line, restore.at.line]));
            }
        }
    }

    /// For each life of the source the states that are certain to be of it. The first life begins with everything, the present
    /// one has no end, and in between promises tell.
    fn spans(&self) -> Vec<(Place, Place)> {
        let now = self.database.source.now();
        let span = |life: u32| {
            let promised = self.database.promises.iter().filter(|given| given.life == Some(life));
            let places: Vec<Place> = promised.map(|given| place(&given.promise.position)).collect();
            let first = if life == 0 { Some((0, 0)) } else { places.iter().min().copied() };
            let last = if life == now { Some((u64::MAX, u64::MAX)) } else { places.iter().max().copied() };
            first.zip(last)
        };
        (0..=now).filter_map(span).collect()
    }

    fn restored(&self) -> impl Iterator<Item = (&Restore, &RestoredContent)> {
        self.database.restores.iter().filter_map(|restore| Some((restore, restore.outcome.as_ref().ok()?)))
    }

    fn wrong(&self, at: At, what: String, evidence: Vec<u64>) -> Violation {
        Violation { property: Property::NeverWrong, what: format!("{}: {what}", self.name), at_ms: at.ms, evidence }
    }
}
