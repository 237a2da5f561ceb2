use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Epoch, Txid};

use super::*;
use crate::state::{decode_record, encode_record};

const LEN: u32 = 100;

fn name() -> DatabaseName {
    "app".parse().unwrap()
}

fn claim(agent_id: u64) -> v1::Command {
    let claim = v1::ClaimCommand { database: "app".to_owned(), agent_id, agent_label: format!("host{agent_id}") };
    v1::Command { command: Some(Command::Claim(claim)) }
}

fn part(first: u64, last: u64, before: u64, after: u64) -> v1::SegmentPart {
    v1::SegmentPart {
        first,
        last,
        checksum_before: before,
        checksum_after: after,
        page_count: 3,
        commit_time_ms: 1000,
        page_size: 4096,
        is_last: true,
        ..v1::SegmentPart::default()
    }
}

fn append(epoch: u64, stream: u64, part: v1::SegmentPart) -> v1::Command {
    let append =
        v1::AppendCommand { database: "app".to_owned(), lineage: 1, epoch, part: Some(part), payload_len: LEN, stream };
    v1::Command { command: Some(Command::Append(append)) }
}

fn refusal(effect: &Effect) -> Option<Reason> {
    match effect.applied {
        Applied::Refused { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn first_claim_begins_lineage_one_and_the_next_raises_the_epoch() {
    let mut state = ClusterState::default();
    let head = v1::Head { lineage: 1, ..v1::Head::default() };
    assert_eq!(state.apply(&claim(7), 1, 0).applied, Applied::Claimed { epoch: Epoch(1), head: head.clone() });
    assert_eq!(state.apply(&claim(8), 2, 0).applied, Applied::Claimed { epoch: Epoch(2), head });
    assert_eq!(state.databases()[&name()].agent_id, 8);
}

#[test]
fn refuses_an_append_of_an_older_epoch_and_one_that_does_not_continue_the_head() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    state.apply(&claim(2), 2, 0);
    assert_eq!(refusal(&state.apply(&append(1, 0, part(1, 1, 0, 5)), 3, LEN)), Some(Reason::Fenced));
    assert_eq!(refusal(&state.apply(&append(2, 0, part(2, 2, 0, 5)), 4, LEN)), Some(Reason::NotAdjacent));
    assert_eq!(refusal(&state.apply(&append(2, 0, part(1, 1, 9, 5)), 5, LEN)), Some(Reason::NotAdjacent));
    assert_eq!(refusal(&state.apply(&append(2, 0, part(1, 1, 0, 5)), 6, LEN + 1)), Some(Reason::Invalid));
    let effect = state.apply(&append(2, 0, part(1, 3, 0, 5)), 7, LEN);
    let (_, record) = effect.record.unwrap();
    assert_eq!((record.first, record.last, record.entries), (Txid(1), Txid(3), vec![7]));
}

#[test]
fn a_repeated_append_is_refused_with_the_head_that_covers_it() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    state.apply(&append(1, 0, part(1, 3, 0, 5)), 2, LEN);
    let before = state.clone();
    let again = state.apply(&append(1, 0, part(1, 3, 0, 5)), 3, LEN);
    let Applied::Refused { reason, head, .. } = again.applied else { panic!("{again:?}") };
    assert_eq!((reason, head.txid, head.checksum), (Reason::NotAdjacent, 3, 5));
    assert_eq!(state, before);
}

#[test]
fn a_segment_in_parts_is_visible_at_its_last_part_only() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    for number in 0..3 {
        let mut one = part(1, 1, 0, 5);
        (one.part, one.is_last) = (number, number == 2);
        let effect = state.apply(&append(1, 4, one), 10 + u64::from(number), LEN);
        assert_eq!(refusal(&effect), None);
        match effect.record {
            None => assert_eq!(state.databases()[&name()].head.txid, 0),
            Some((_, record)) => {
                assert_eq!(number, 2);
                assert_eq!((record.entries, record.bytes), (vec![10, 11, 12], 300));
            }
        }
    }
    assert_eq!(state.databases()[&name()].head.txid, 1);
    assert!(state.databases()[&name()].open.is_none());
}

#[test]
fn parts_of_different_streams_never_make_up_one_segment() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    let mut one = part(1, 1, 0, 5);
    one.is_last = false;
    state.apply(&append(1, 4, one.clone()), 2, LEN);
    state.apply(&append(1, 5, one.clone()), 3, LEN);
    (one.part, one.is_last) = (1, true);
    assert_eq!(refusal(&state.apply(&append(1, 4, one.clone()), 4, LEN)), Some(Reason::NotAdjacent));
    assert_eq!(state.apply(&append(1, 5, one), 5, LEN).record.unwrap().1.entries, vec![3, 5]);
}

#[test]
fn a_claim_aborts_a_segment_in_parts() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    let mut one = part(1, 1, 0, 5);
    one.is_last = false;
    state.apply(&append(1, 4, one.clone()), 2, LEN);
    state.apply(&claim(2), 3, 0);
    (one.part, one.is_last) = (1, true);
    assert_eq!(refusal(&state.apply(&append(2, 4, one), 4, LEN)), Some(Reason::NotAdjacent));
}

#[test]
fn commit_times_and_progress_only_rise() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    state.apply(&append(1, 0, part(1, 4, 0, 5)), 2, LEN);
    let mut early = part(5, 5, 5, 6);
    early.commit_time_ms = 10;
    assert_eq!(state.apply(&append(1, 0, early), 3, LEN).record.unwrap().1.commit_time_ms, 1000);
    let report = |watermark, snapshot, bytes| v1::Command {
        command: Some(Command::Progress(v1::ProgressCommand {
            destinations: vec![v1::DestinationProgress {
                database: "app".to_owned(),
                destination: "s3".to_owned(),
                lineage: 1,
                watermark,
                snapshot,
                bytes_since_snapshot: bytes,
                ..v1::DestinationProgress::default()
            }],
            ..v1::ProgressCommand::default()
        })),
    };
    let seen = |state: &ClusterState| {
        let known = &state.databases()[&name()].destinations["s3"];
        (known.watermark, known.snapshot, known.bytes_since_snapshot)
    };
    state.apply(&report(3, 2, 70), 4, 0);
    state.apply(&report(2, 1, 90), 5, 0);
    assert_eq!(seen(&state), (3, 2, 70));
    state.apply(&report(5, 4, 10), 6, 0);
    assert_eq!(seen(&state), (5, 4, 10));
    state.apply(&report(99, 4, 10), 7, 0);
    assert_eq!(seen(&state), (5, 4, 10), "nothing passes the head");
}

#[test]
fn what_is_abandoned_is_let_go_of_if_it_came_by_that_stream() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    let first = v1::SegmentPart { is_last: false, ..part(1, 9, 0, 5) };
    let stream = 7;
    state.apply(&append(1, stream, first), 2, LEN);
    let abandon = |database: &str, stream| v1::Command {
        command: Some(Command::Abandon(v1::AbandonCommand { database: database.to_owned(), stream })),
    };
    for (other, index) in
        [abandon("app", stream + 1), abandon("no such", stream), abandon("//", stream)].iter().zip(3..)
    {
        state.apply(other, index, 0);
        assert!(state.databases()[&name()].open.is_some());
    }
    let before = state.databases()[&name()].clone();
    state.apply(&abandon("app", stream), 6, 0);
    let after = &state.databases()[&name()];
    assert_eq!(*after, DatabaseState { open: None, ..before });
    state.apply(&abandon("app", stream), 7, 0);
    assert_eq!(ClusterState::from_manifest(state.to_manifest()).unwrap(), state);
}

#[test]
fn a_destination_is_detached_where_it_was_judged_and_until_it_gets_on() {
    seawall_host::real::install();
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    state.apply(&append(1, 0, part(1, 9, 0, 5)), 2, LEN);
    let news = |watermark, detached| v1::Command {
        command: Some(Command::Progress(v1::ProgressCommand {
            destinations: vec![v1::DestinationProgress {
                database: "app".to_owned(),
                destination: "s3".to_owned(),
                lineage: 1,
                watermark,
                detached,
                ..v1::DestinationProgress::default()
            }],
            ..v1::ProgressCommand::default()
        })),
    };
    let seen = |state: &ClusterState| {
        let known = state.databases()[&name()].destinations.get("s3");
        known.map(|known| (known.watermark, known.detached))
    };
    let mut index = 3;
    let mut after = |watermark, detached| {
        state.apply(&news(watermark, detached), index, 0);
        index += 1;
        seen(&state)
    };
    assert_eq!(after(2, true), None, "nothing was there yet, so nothing was judged");
    assert_eq!(after(0, true), Some((0, true)), "one that never had anything");
    assert_eq!(after(0, false), Some((0, true)));
    assert_eq!(after(3, false), Some((3, false)), "it got on");
    assert_eq!(after(2, true), Some((3, false)), "judged before it got on");
    assert_eq!(after(4, true), Some((3, false)));
    assert_eq!(after(3, true), Some((3, true)));
    assert_eq!(after(2, false), Some((3, true)), "late news of before");
    assert_eq!(after(3, false), Some((3, true)));
    assert_eq!(after(9, false), Some((9, false)), "gone on from a snapshot");
    assert_eq!(ClusterState::from_manifest(state.to_manifest()).unwrap(), state);
}

fn commands() -> impl Strategy<Value = Vec<v1::Command>> {
    let part = (0u64..6, 0u64..3, 0u64..4, 0u64..4, 0u32..3, any::<bool>(), any::<bool>(), -5i64..5).prop_map(
        |(first, more, before, after, number, is_last, resync, time)| v1::SegmentPart {
            part: number,
            is_last,
            resync,
            commit_time_ms: time,
            ..part(first, first + more, before, after)
        },
    );
    let one = prop_oneof![
        1 => (0u64..3).prop_map(claim),
        12 => (0u64..4, 0u64..2, part).prop_map(|(epoch, stream, part)| append(epoch, stream, part)),
        1 => Just(v1::Command { command: None }),
    ];
    prop::collection::vec(one, 0..200)
}

/// Follows the head with random appends that often fit, so that long histories come up too.
fn steered(mut commands: Vec<v1::Command>, steer: Vec<bool>) -> Vec<v1::Command> {
    let mut state = ClusterState::default();
    for (at, command) in commands.iter_mut().enumerate() {
        if let (Some(Command::Append(append)), Some(true), Some(database)) =
            (&mut command.command, steer.get(at), state.databases().get(&name()))
        {
            let part = append.part.as_mut().unwrap();
            let length = part.last - part.first;
            append.epoch = database.epoch.0;
            (part.first, part.last) = (database.head.txid + 1, database.head.txid + 1 + length);
            part.checksum_before = database.head.checksum;
        }
        state.apply(command, at as u64, LEN);
    }
    commands
}

proptest! {
    #[test]
    fn any_commands_leave_a_history_without_gap_or_fork(
        commands in commands(),
        steer in prop::collection::vec(prop::bool::weighted(0.7), 200),
    ) {
        let mut state = ClusterState::default();
        let mut history: Vec<SegmentRecord> = Vec::new();
        let mut epoch = 0;
        for (index, command) in steered(commands, steer).iter().enumerate() {
            let effect = state.apply(command, index as u64, LEN);
            if let Applied::Claimed { epoch: granted, .. } = effect.applied {
                prop_assert_eq!(granted.0, epoch + 1);
                epoch += 1;
            }
            if let Some((_, record)) = effect.record {
                let (txid, checksum, time) = history.last().map_or((0, Checksum::EMPTY, 0), |last| {
                    (last.last.0, last.checksum_after, last.commit_time_ms)
                });
                prop_assert_eq!(record.first.0, txid + 1);
                prop_assert!(record.last >= record.first);
                prop_assert_eq!(record.checksum_before, checksum);
                prop_assert!(record.commit_time_ms >= time);
                prop_assert_eq!(record.epoch.0, epoch);
                prop_assert!(record.entries.is_sorted());
                let Some(Command::Append(append)) = &command.command else { panic!("only appends make records") };
                prop_assert_eq!(append.epoch, epoch);
                prop_assert_eq!(&decode_record(encode_record(&record, 0)).unwrap(), &record);
                history.push(record);
            }
        }
        if let Some(database) = state.databases().get(&name()) {
            prop_assert_eq!(database.head.txid, history.last().map_or(0, |last| last.last.0));
        }
        prop_assert_eq!(&ClusterState::from_manifest(state.to_manifest()).unwrap(), &state);
    }
}

#[test]
fn of_verifications_the_newest_counts_and_is_in_the_manifest() {
    let mut state = ClusterState::default();
    state.apply(&claim(1), 1, 0);
    let found = |time_ms, lineage, text: &str| v1::Command {
        command: Some(Command::Progress(v1::ProgressCommand {
            verifications: vec![v1::VerificationResult {
                database: "app".to_owned(),
                destination: "s3".to_owned(),
                lineage,
                time_ms,
                problems: 1,
                text: text.to_owned(),
                ..v1::VerificationResult::default()
            }],
            ..v1::ProgressCommand::default()
        })),
    };
    for (index, command) in
        [found(5, 1, "new"), found(4, 1, "old"), found(5, 1, "again"), found(6, 2, "none")].into_iter().enumerate()
    {
        state.apply(&command, index as u64 + 2, 0);
    }
    let known = |state: &ClusterState| state.databases().values().next().unwrap().verifications["s3"].clone();
    assert_eq!((known(&state).time_ms, known(&state).text.as_str()), (5, "new"));
    state.apply(&found(7, 1, &"ä".repeat(1000)), 9, 0);
    assert_eq!(known(&state).text, "ä".repeat(150), "texts are bounded");
    assert_eq!(ClusterState::from_manifest(state.to_manifest()), Ok(state));
}
