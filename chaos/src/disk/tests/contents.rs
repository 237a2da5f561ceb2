//! The contents of one file against a plain vector and the versions that it had.

use std::ffi::OsStr;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::contents::{PAGE, SECTOR};
use super::super::pending::{ROOT, Refusal, State};
use super::super::survival::Survival;
use super::somebody;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, byte: u8 },
    SetLen(usize),
    Sync,
    FailSync,
    CutPower(u64),
}

const LARGEST: usize = 5 * PAGE;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..LARGEST, 1..2 * PAGE, 1..=u8::MAX).prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        2 => (0..LARGEST).prop_map(Step::SetLen),
        2 => Just(Step::Sync),
        1 => Just(Step::FailSync),
        1 => any::<u64>().prop_map(Step::CutPower),
    ]
}

fn sector(version: &[u8], index: usize) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let there = version.get(index * SECTOR..).unwrap_or_default();
    let len = there.len().min(SECTOR);
    bytes[..len].copy_from_slice(&there[..len]);
    bytes
}

/// Whether `found` could be what `versions` left: each sector is that of one of them, up to the end of the file. Where the file
/// `was_cut`, it may be that of an older version than the cut, with zeros behind it.
fn is_made_of(found: &[u8], versions: &[Vec<u8>], was_cut: bool) -> Result<(), TestCaseError> {
    let shortest = versions.iter().map(Vec::len).min().unwrap_or(0);
    let longest = versions.iter().map(Vec::len).max().unwrap_or(0);
    prop_assert!((shortest..=longest).contains(&found.len()), "{} not in {shortest}..={longest}", found.len());
    for index in 0..found.len().div_ceil(SECTOR) {
        let end = found.len().min((index + 1) * SECTOR) - index * SECTOR;
        let here = sector(found, index);
        let is_like = |version: &Vec<u8>| {
            let there = sector(version, index);
            let zeros = if was_cut { here[..end].iter().rev().take_while(|byte| **byte == 0).count() } else { 0 };
            there[..end - zeros] == here[..end - zeros]
        };
        prop_assert!(versions.iter().any(is_like), "sector {index} was never like this");
    }
    Ok(())
}

proptest! {
    #[test]
    fn reads_what_was_written_and_keeps_what_was_synced(steps in proptest::collection::vec(step(), 1..40)) {
        let mut state = State::new(1 << 30, somebody());
        let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
        state.sync_directory(ROOT).unwrap();
        let mut expected = Vec::new();
        // What the file was like at its last sync, and at every moment since.
        let mut versions = vec![Vec::new()];
        let (mut gave_up, mut was_cut) = (false, false);
        for step in steps {
            match step {
                Step::Write { offset, len, byte } => {
                    state.write(file, offset as u64, &vec![byte; len]).unwrap();
                    expected.resize(expected.len().max(offset + len), 0);
                    expected[offset..offset + len].fill(byte);
                    versions.push(expected.clone());
                }
                Step::SetLen(len) => {
                    state.set_len(file, len as u64).unwrap();
                    was_cut |= len < expected.len();
                    expected.resize(len, 0);
                    versions.push(expected.clone());
                }
                Step::Sync => {
                    let sync = state.begin_sync(file).unwrap();
                    state.finish_sync(file, sync).unwrap();
                    // Pages that were given up stay so.
                    if !gave_up {
                        versions = vec![expected.clone()];
                        was_cut = false;
                    }
                }
                Step::FailSync => {
                    let sync = state.begin_sync(file).unwrap();
                    state.fail_sync(file, sync);
                    gave_up = true;
                }
                Step::CutPower(seed) => {
                    let mut rng = StdRng::seed_from_u64(seed);
                    let survival = Survival::draw(&mut rng);
                    state.lose_power(survival, &mut rng);
                    expected = state.read(file, 0, 10 * LARGEST).unwrap();
                    is_made_of(&expected, &versions, was_cut)?;
                    versions = vec![expected.clone()];
                    (gave_up, was_cut) = (false, false);
                }
            }
            prop_assert_eq!(&state.read(file, 0, 10 * LARGEST).unwrap(), &expected);
            let allocated = state.attributes(file).unwrap().pages;
            prop_assert_eq!(state.used_pages(), allocated);
        }
    }
}

#[test]
fn nothing_that_is_pending_survives_the_worst_cut() {
    let mut state = State::new(1 << 20, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    state.sync_directory(ROOT).unwrap();
    state.write(file, 0, b"synced").unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.finish_sync(file, sync).unwrap();
    state.write(file, 3, b"pending").unwrap();
    let lost = state.lose_power(Survival::NOTHING, &mut StdRng::seed_from_u64(0));
    assert_eq!(state.read(file, 0, 100).unwrap(), b"synced");
    assert_eq!((lost.pending_pages, lost.dropped_pages, lost.pending_lengths, lost.lost_lengths), (1, 1, 1, 1));
    assert!(lost.is_something());
}

#[test]
fn what_is_written_while_a_sync_runs_is_not_in_it() {
    let mut state = State::new(1 << 20, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    state.sync_directory(ROOT).unwrap();
    state.write(file, 0, b"before").unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.write(file, 0, b"during").unwrap();
    state.finish_sync(file, sync).unwrap();
    assert_eq!(state.read(file, 0, 100).unwrap(), b"during");
    state.lose_power(Survival::NOTHING, &mut StdRng::seed_from_u64(0));
    assert_eq!(state.read(file, 0, 100).unwrap(), b"before");
}

#[test]
fn a_failed_sync_gives_its_pages_up_for_good() {
    let mut state = State::new(1 << 20, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    state.sync_directory(ROOT).unwrap();
    state.write(file, 0, &[1; PAGE]).unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.fail_sync(file, sync);
    state.write(file, PAGE as u64, &[2; PAGE]).unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.finish_sync(file, sync).unwrap();
    assert_eq!(state.read(file, 0, PAGE).unwrap(), [1; PAGE]);
    let lost = state.lose_power(Survival::NOTHING, &mut StdRng::seed_from_u64(0));
    assert_eq!(lost.given_up_pages, 1);
    assert_eq!(state.read(file, 0, PAGE).unwrap(), [0; PAGE]);
    assert_eq!(state.read(file, PAGE as u64, PAGE).unwrap(), [2; PAGE]);
}

#[test]
fn a_full_disk_takes_what_fits_and_is_full_until_there_is_room() {
    let mut state = State::new(2 * PAGE as u64, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    assert_eq!(state.write(file, 0, &[1; 3 * PAGE]).unwrap(), 2 * PAGE);
    assert_eq!(state.write(file, 2 * PAGE as u64, b"more").unwrap_err(), Refusal::Full);
    // What is there can be overwritten.
    assert_eq!(state.write(file, 0, b"same").unwrap(), 4);
    assert_eq!(state.create_file(ROOT, OsStr::new("other"), somebody()).unwrap_err(), Refusal::Full);
    state.set_len(file, PAGE as u64).unwrap();
    let other = state.create_file(ROOT, OsStr::new("other"), somebody()).unwrap();
    state.open(file).unwrap();
    state.unlink(ROOT, OsStr::new("file")).unwrap();
    assert_eq!(state.used_pages(), 1);
    state.close(file);
    assert_eq!(state.used_pages(), 0);
    assert_eq!(state.write(other, 0, &[1; 2 * PAGE]).unwrap(), 2 * PAGE);
    // A cut that undoes the removal finds more than fits, and then the disk is full.
    state.set_capacity(PAGE as u64);
    assert_eq!((state.free_pages(), state.used_pages()), (0, 2));
}
