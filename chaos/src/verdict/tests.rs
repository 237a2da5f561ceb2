//! Planted violations: a good history passes, and with one thing broken it does not.

use proptest::prelude::*;

use super::testing::{APPLICATIONS, DATABASE, Step, checksum, history};
use super::{Judge, Property, Verdict};
use crate::history::{Event, Promise, Recorded, RestoredContent};

fn judged(history: &[Recorded]) -> Verdict {
    let mut judge = Judge::default();
    history.iter().for_each(|recorded| judge.see(recorded));
    judge.verdict()
}

/// One thing that is broken, and what that violates.
type Plant = (&'static str, Property, fn(&mut Vec<Recorded>));

/// Changes the last event that `change` takes.
fn last(history: &mut [Recorded], mut change: impl FnMut(&mut Event) -> bool) {
    history.iter_mut().rev().any(|recorded| change(&mut recorded.event));
}

fn newest(history: &mut [Recorded], change: impl Fn(&mut RestoredContent)) {
    last(history, |event| match event {
        Event::Restored { txid: None, at_rest: true, content, .. } => {
            change(content);
            true
        }
        _ => false,
    });
}

fn promise(history: &mut [Recorded], change: impl Fn(&mut Promise)) {
    last(history, |event| match event {
        Event::SyncPromised { promise, .. } => {
            change(promise);
            true
        }
        _ => false,
    });
}

/// Replaces the last restore at rest whose `txid` is (not) given by one that failed.
fn fail(history: &mut [Recorded], is_named: bool) {
    last(history, |event| match event {
        Event::Restored { database, source, txid, at_rest: true, .. } if txid.is_some() == is_named => {
            let (database, source, txid) = (database.clone(), source.clone(), *txid);
            *event = Event::RestoreFailed { database, source, txid, at_rest: true, message: "gone".into() };
            true
        }
        _ => false,
    });
}

fn insert_before_the_healing(history: &mut Vec<Recorded>, event: Event) {
    let healed = history.iter().position(|recorded| recorded.event == Event::Healed).unwrap();
    let at_ms = history[healed].at_ms;
    history.insert(healed, Recorded { at_ms, event });
}

fn application() -> (String, String) {
    (APPLICATIONS[0].into(), DATABASE.into())
}

const PLANTS: &[Plant] = &[
    ("a committed row is not in what was promised", Property::NothingLost, |history| {
        last(history, |event| match event {
            Event::SyncBegan { seq, .. } => {
                *seq += 1;
                true
            }
            _ => false,
        });
    }),
    ("the newest is older than a promise", Property::NothingLost, |history| {
        newest(history, |content| {
            content.position.txid -= 1;
            content.position.checksum = checksum(content.position.txid);
        });
    }),
    ("the newest lacks the last row", Property::NothingLost, |history| newest(history, |content| content.seq -= 1)),
    ("a promised txid is gone", Property::NothingLost, |history| fail(history, true)),
    ("the newest is gone", Property::NothingLost, |history| fail(history, false)),
    ("a later promise is of less", Property::NothingLost, |history| {
        promise(history, |promise| promise.position.txid = 1)
    }),
    ("a destination was not waited for", Property::NothingLost, |history| {
        promise(history, |promise| promise.destinations.clear());
    }),
    ("a destination is behind its receipt", Property::NothingLost, |history| {
        promise(history, |promise| *promise.destinations.get_mut("s3").unwrap() -= 1);
    }),
    ("a file is not whole", Property::NeverWrong, |history| {
        newest(history, |content| content.problem = Some("a gap".into()))
    }),
    ("a page differs", Property::NeverWrong, |history| newest(history, |content| content.equals_source = Some(false))),
    ("another chain", Property::NeverWrong, |history| newest(history, |content| content.chain += 1)),
    ("a row that never was", Property::NeverWrong, |history| newest(history, |content| content.seq += 1000)),
    ("another checksum", Property::NeverWrong, |history| {
        newest(history, |content| content.position.checksum = checksum(0))
    }),
    ("another txid than asked for", Property::NeverWrong, |history| {
        last(history, |event| match event {
            Event::Restored { txid: Some(txid), .. } => {
                *txid += 1;
                true
            }
            _ => false,
        });
    }),
    ("a later state with fewer rows", Property::NeverWrong, |history| {
        last(history, |event| match event {
            Event::Restored { txid: None, content, .. } => {
                (content.position.txid, content.position.checksum) = (9999, checksum(9999));
                (content.seq, content.chain) = (0, 1);
                true
            }
            _ => false,
        });
    }),
    ("an older epoch promises", Property::OneWriter, |history| promise(history, |promise| promise.epoch = 0)),
    ("no claim is told of", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::Claimed { .. }));
    }),
    ("no txid is asked for at rest", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::Restored { txid: Some(_), at_rest: true, .. }));
    }),
    ("an older epoch promises beyond a newer claim", Property::OneWriter, |history| {
        let (agent, database) = ("agent-y".to_owned(), DATABASE.to_owned());
        let claimed = Event::Claimed { agent, database, epoch: 1000, lineage: 1, txid: 1 };
        insert_before_the_healing(history, claimed);
    }),
    ("two agents share an epoch", Property::OneWriter, |history| {
        promise(history, |promise| promise.epoch = 1);
        last(history, |event| match event {
            Event::SyncBegan { agent, .. } => {
                *agent = "agent-x".into();
                true
            }
            _ => false,
        });
    }),
    ("a row is lost in the source", Property::LeftAlone, |history| {
        let (application, database) = application();
        let healed = history.iter().position(|recorded| recorded.event == Event::Healed).unwrap();
        let at_ms = history[healed].at_ms;
        let seq = 100_000;
        let event = Event::Committed { application: application.clone(), database: database.clone(), seq, chain: 7 };
        insert_before_the_healing(history, event);
        let event = Event::Resumed { application, database, seq: 0, chain: 1 };
        history.insert(healed + 1, Recorded { at_ms, event });
    }),
    ("a row is reported with two chains", Property::LeftAlone, |history| {
        let (application, database) = application();
        for chain in [7, 8] {
            let (application, database) = (application.clone(), database.clone());
            insert_before_the_healing(history, Event::Committed { application, database, seq: 1_000_000, chain });
        }
    }),
    ("stuck", Property::Recovery, |history| {
        let event = Event::Stuck { what: "a leader".into(), state: "none".into(), after_ms: 9 };
        insert_before_the_healing(history, event);
    }),
    ("well too late", Property::Recovery, |history| {
        last(history, |event| match event {
            Event::Recovered { after_ms, .. } => {
                *after_ms = 120_001;
                true
            }
            _ => false,
        });
    }),
    ("no promise after the healing", Property::Recovery, |history| {
        let promised =
            history.iter().rposition(|recorded| matches!(recorded.event, Event::SyncPromised { .. })).unwrap();
        history.remove(promised);
    }),
    ("a process takes too much", Property::Resources, |history| {
        last(history, |event| match event {
            Event::Sampled { descriptors, .. } => {
                *descriptors = 5000;
                true
            }
            _ => false,
        });
    }),
    ("a process ends by itself", Property::Processes, |history| {
        let event = Event::EndedByItself { process: "node-1".into(), ending: "signal 6".into() };
        insert_before_the_healing(history, event);
    }),
    ("a process panics", Property::Processes, |history| {
        insert_before_the_healing(history, Event::Complained { process: "node-1".into(), line: "panicked at".into() });
    }),
    ("no end", Property::Vacuous, |history| drop(history.pop())),
    ("no beginning", Property::Vacuous, |history| drop(history.remove(0))),
    ("no healing", Property::Vacuous, |history| history.retain(|recorded| recorded.event != Event::Healed)),
    ("a node is not asked", Property::Vacuous, |history| {
        history.retain(
            |recorded| !matches!(&recorded.event, Event::Restored { source, at_rest: true, .. } if source == "node-3"),
        );
    }),
    ("no promise", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::SyncPromised { .. }));
    }),
    ("no commit", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::Committed { .. }));
    }),
    ("no restore", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::Restored { .. }));
    }),
    ("no rest", Property::Vacuous, |history| {
        history.retain(|recorded| !matches!(recorded.event, Event::SourceAtRest { .. }));
    }),
];

fn steps() -> Vec<Step> {
    use Step::{Claim, Commit, Fault, PowerCut, Refused, Restore, Sync};
    let told = |application| Commit { application, is_told: true };
    let untold = Commit { application: 1, is_told: false };
    vec![told(0), Fault, Sync { all: false }, Claim, untold, told(0), Sync { all: true }, Restore { promise: 1 }]
        .into_iter()
        .chain([told(1), told(0), PowerCut { rows: 2 }, Refused, told(1), Sync { all: false }, Restore { promise: 3 }])
        .collect()
}

#[test]
fn a_good_history_passes() {
    let verdict = judged(&history(&steps()));
    assert!(verdict.passed, "{verdict}");
    assert_eq!((verdict.counts.promises, verdict.counts.refusals, verdict.counts.fall_backs), (5, 1, 1));
    assert!(verdict.to_string().starts_with("PASSED\nseen: 8 commits, 5 promises"), "{verdict}");
    assert_eq!(verdict.counts.longest_recovery.as_ref().unwrap().what, "a leader");
}

#[test]
fn each_planted_violation_is_found() {
    for (name, property, plant) in PLANTS {
        let mut history = history(&steps());
        plant(&mut history);
        let verdict = judged(&history);
        assert!(verdict.violations.iter().any(|violation| violation.property == *property), "{name}: {verdict}");
        let lines = history.len() as u64;
        assert!(
            verdict.violations.iter().flat_map(|violation| &violation.evidence).all(|line| (1..=lines).contains(line))
        );
    }
}

#[test]
fn a_violation_is_shown_with_its_lines() {
    let mut history = history(&[]);
    newest(&mut history, |content| content.problem = Some("row 8 of the journal follows row 6".into()));
    let verdict = judged(&history);
    let line =
        history.iter().rposition(|recorded| matches!(recorded.event, Event::Restored { txid: None, .. })).unwrap() + 1;
    let shown = verdict.to_string();
    let expected = format!(
        "FAILED: 1 violation\n  something wrong was given back:\n    0.{:03} s: app: txid 4 from any: row 8 of the journal follows row 6 (line {line})\n",
        (line - 1) * 10
    );
    assert!(shown.starts_with(&expected), "{shown}");
}

#[test]
fn nothing_at_all_is_no_success() {
    let verdict = judged(&[]);
    assert!(!verdict.passed);
    assert!(verdict.violations.iter().all(|violation| violation.property == Property::Vacuous));
}

#[test]
fn history_that_is_kept_no_longer_may_be_gone_and_the_newest_may_not() {
    for (is_newest, passes) in [(false, true), (true, false)] {
        let mut history = history(&steps());
        let Event::Began { limits, .. } = &mut history[0].event else { panic!("a history begins") };
        limits.history_kept_ms = Some(1);
        let named =
            |recorded: &Recorded| matches!(recorded.event, Event::Restored { txid: Some(_), at_rest: true, .. });
        let until = if is_newest { history.len() } else { history.iter().position(named).unwrap() + 1 };
        fail(&mut history[..until], true);
        assert_eq!(judged(&history).passed, passes);
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, prop::bool::weighted(0.8)).prop_map(|(application, is_told)| Step::Commit { application, is_told }),
        3 => any::<bool>().prop_map(|all| Step::Sync { all }),
        1 => Just(Step::Refused),
        1 => (0..4usize).prop_map(|rows| Step::PowerCut { rows }),
        1 => Just(Step::Claim),
        2 => (0..50usize).prop_map(|promise| Step::Restore { promise }),
        1 => Just(Step::Fault),
    ]
}

proptest! {
    #[test]
    fn good_histories_pass(steps in prop::collection::vec(step(), 0..60)) {
        let verdict = judged(&history(&steps));
        prop_assert!(verdict.passed, "{}", verdict);
    }

    #[test]
    fn a_broken_history_never_passes(steps in prop::collection::vec(step(), 0..60), plant in 0..PLANTS.len()) {
        let (name, _, plant) = PLANTS[plant];
        let mut history = history(&steps);
        plant(&mut history);
        prop_assert!(!judged(&history).passed, "{}", name);
    }

    #[test]
    fn a_history_is_read_as_it_was_written(steps in prop::collection::vec(step(), 0..20)) {
        for recorded in history(&steps) {
            let line = serde_json::to_string(&recorded).unwrap();
            prop_assert_eq!(serde_json::from_str::<Recorded>(&line).unwrap(), recorded);
        }
    }
}
