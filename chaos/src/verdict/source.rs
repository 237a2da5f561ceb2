//! What the applications said of their own database.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::At;
use super::outcome::{Property, Violation};
use crate::history::Generation;

/// The chain before the first row.
const FIRST_CHAIN: u64 = 1;

/// What the applications said of their own database, life by life: a life ends where the source may fall back.
#[derive(Default)]
pub(super) struct Source {
    generation: Generation,
    lives: BTreeMap<u32, Life>,
    applications: BTreeSet<String>,
    rest: Option<Rest>,
    pub(super) commits: u64,
    /// What the reports say against one another (promise 7).
    pub(super) contradictions: Vec<Violation>,
}

/// The applications stopped here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) at: At,
    pub(super) seq: u64,
    pub(super) chain: u64,
}

#[derive(Default)]
struct Life {
    /// Chain and line of each row that was reported.
    rows: BTreeMap<u64, (u64, u64)>,
    /// The lowest row that was found or reported: rows below are those of the life before.
    first: Option<u64>,
    /// The last row of each application.
    last: BTreeMap<String, (u64, u64)>,
}

/// Whether a row is the source's.
pub(super) enum Known {
    /// It was reported, or may be one that was lost before anyone could.
    Fits,
    /// Another chain was reported, at these lines.
    Other(Vec<u64>),
    /// Nobody reported it, and the whole source is known.
    Never,
}

impl Source {
    /// The life that goes on now.
    pub(super) fn now(&self) -> u32 {
        self.generation.now()
    }

    /// Where it is at rest, if it is.
    pub(super) fn rest(&self) -> Option<Rest> {
        self.rest
    }

    pub(super) fn fall_back(&mut self) {
        self.generation.fall_back();
        self.rest = None;
    }

    pub(super) fn committed(&mut self, at: At, application: &str, seq: u64, chain: u64) {
        self.commits += 1;
        let life = self.generation.committed(application);
        self.report(at, life, seq, chain);
        let last = self.lives.entry(life).or_default().last.entry(application.to_owned()).or_default();
        *last = (*last).max((seq, at.line));
        if self.rest.is_some_and(|rest| seq > rest.seq) {
            self.rest = None;
        }
    }

    pub(super) fn resumed(&mut self, at: At, application: &str, seq: u64, chain: u64) {
        self.applications.insert(application.to_owned());
        let life = self.generation.resumed(application);
        if let Some((last, line)) = self.lives.get(&life).and_then(|life| life.last.get(application)).copied()
            && last > seq
        {
            let what = format!(
                "{application} committed row {last}, and found the journal ending with row {seq} when it was started"
            );
            self.contradict(at, what, vec![line, at.line]);
        }
        self.report(at, life, seq, chain);
    }

    pub(super) fn at_rest(&mut self, at: At, seq: u64, chain: u64, unreported: &[(u64, u64)]) {
        let life = self.generation.now();
        for &(seq, chain) in unreported {
            self.report(at, life, seq, chain);
        }
        if let Some((&last, &(_, line))) = self.lives.get(&life).and_then(|life| life.rows.last_key_value())
            && last > seq
        {
            self.contradict(
                at,
                format!("row {last} was committed, and the source at rest ends with row {seq}"),
                vec![line, at.line],
            );
        }
        self.report(at, life, seq, chain);
        self.rest = Some(Rest { at, seq, chain });
    }

    /// Whether the source had a row with this chain as its last.
    pub(super) fn knows(&self, seq: u64, chain: u64) -> Known {
        if seq == 0 {
            return if chain == FIRST_CHAIN { Known::Fits } else { Known::Other(Vec::new()) };
        }
        let reports: Vec<(u64, u64)> = self.lives.values().filter_map(|life| life.rows.get(&seq)).copied().collect();
        let may_be_lost =
            || self.lives.range(..self.now()).any(|(_, life)| life.may_have_had(seq, self.applications.len()));
        if reports.iter().any(|(reported, _)| *reported == chain) || may_be_lost() {
            Known::Fits
        } else if !reports.is_empty() {
            Known::Other(reports.into_iter().map(|(_, line)| line).collect())
        } else if self.rest.is_some() {
            Known::Never
        } else {
            Known::Fits
        }
    }

    fn report(&mut self, at: At, life: u32, seq: u64, chain: u64) {
        let life = self.lives.entry(life).or_default();
        life.first = Some(life.first.map_or(seq, |first| first.min(seq)));
        let (reported, line) = match seq {
            0 => (FIRST_CHAIN, at.line),
            _ => *life.rows.entry(seq).or_insert((chain, at.line)),
        };
        if reported != chain {
            let what = format!("row {seq} was reported with chain {reported} and with chain {chain}");
            self.contradict(at, what, vec![line, at.line]);
        }
    }

    fn contradict(&mut self, at: At, what: String, evidence: Vec<u64>) {
        self.contradictions.push(Violation { property: Property::LeftAlone, what, at_ms: at.ms, evidence });
    }
}

impl Life {
    /// Whether this life, which has ended, may have had a row that nobody reported: each application can have committed one more
    /// than it could tell.
    fn may_have_had(&self, seq: u64, applications: usize) -> bool {
        let last = self.rows.last_key_value().map_or(0, |(last, _)| *last);
        !self.rows.contains_key(&seq)
            && self.first.is_some_and(|first| first < seq)
            && seq <= last + applications as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(line: u64) -> At {
        At { line, ms: line }
    }

    fn fits(source: &Source, seq: u64, chain: u64) -> bool {
        matches!(source.knows(seq, chain), Known::Fits)
    }

    #[test]
    fn a_phantom_that_was_rolled_back_is_found() {
        let mut source = Source::default();
        source.resumed(at(1), "one", 0, 1);
        source.committed(at(2), "one", 1, 11);
        // Killed in the middle of row 2, whose number is given again.
        source.resumed(at(3), "one", 1, 11);
        source.committed(at(4), "one", 2, 22);
        assert!(fits(&source, 2, 22) && fits(&source, 0, 1) && !fits(&source, 0, 7));
        assert!(matches!(source.knows(2, 99), Known::Other(lines) if lines == [4]));
        // Until the source is known nothing follows from a row that nobody reported yet.
        assert!(fits(&source, 3, 33));
        source.at_rest(at(5), 2, 22, &[]);
        assert!(matches!(source.knows(3, 33), Known::Never));
        assert!(source.contradictions.is_empty());
    }

    #[test]
    fn a_row_that_was_lost_before_anyone_told_of_it_may_be_in_a_state() {
        let mut source = Source::default();
        source.resumed(at(1), "one", 0, 1);
        (1..=5).for_each(|seq| source.committed(at(1 + seq), "one", seq, 10 * seq));
        source.fall_back();
        // Printed before the power cut, read after it: of the life before.
        source.committed(at(7), "one", 6, 60);
        source.resumed(at(8), "one", 3, 30);
        source.committed(at(9), "one", 4, 44);
        source.at_rest(at(10), 4, 44, &[]);
        assert!(source.contradictions.is_empty(), "{:?}", source.contradictions);
        assert!(fits(&source, 4, 40) && fits(&source, 4, 44) && fits(&source, 6, 60));
        assert!(fits(&source, 7, 123), "one more than it could tell of");
        assert!(!fits(&source, 8, 123) && !fits(&source, 4, 45));
    }

    #[test]
    fn a_source_that_loses_rows_without_a_reason_is_told() {
        let mut source = Source::default();
        source.resumed(at(1), "one", 0, 1);
        source.committed(at(2), "one", 1, 11);
        source.committed(at(3), "two", 2, 22);
        // Another application's row may be read before what this one found when it started.
        source.resumed(at(4), "one", 1, 11);
        assert!(source.contradictions.is_empty());
        source.at_rest(at(5), 1, 11, &[]);
        assert_eq!(source.contradictions.len(), 1);
        assert_eq!(source.contradictions[0].evidence, [3, 5]);
        source.committed(at(6), "two", 3, 33);
        assert!(source.rest().is_none(), "what goes on is not at rest");
    }
}
