//! Names against a plain map and the moments since the last syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::pending::{InodeNumber, ROOT, Refusal, State};
use super::super::survival::Survival;
use super::somebody;

#[derive(Clone, Debug)]
enum Step {
    Create(Place),
    Rename(Place, Place),
    Link(Place, Place),
    Unlink(Place),
    SyncDirectory(bool),
    CutPower(u64),
}

/// A name in one of two directories.
type Place = (bool, u8);

fn place() -> impl Strategy<Value = Place> {
    (any::<bool>(), 0..4_u8)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => place().prop_map(Step::Create),
        3 => (place(), place()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (place(), place()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => place().prop_map(Step::Unlink),
        2 => any::<bool>().prop_map(Step::SyncDirectory),
        1 => any::<u64>().prop_map(Step::CutPower),
    ]
}

fn name(place: Place) -> OsString {
    OsString::from(format!("f{}", place.1))
}

type Names = BTreeMap<Place, InodeNumber>;

struct Tree {
    state: State,
    directories: [InodeNumber; 2],
}

impl Tree {
    fn new() -> Self {
        let mut state = State::new(1 << 20, somebody());
        let directories = ["a", "b"].map(|name| state.create_directory(ROOT, OsStr::new(name), somebody()).unwrap());
        state.sync_directory(ROOT).unwrap();
        Self { state, directories }
    }

    fn directory(&self, place: Place) -> InodeNumber {
        self.directories[usize::from(place.0)]
    }

    fn names(&self) -> Names {
        let mut names = Names::new();
        for second in [false, true] {
            for (name, number) in self.state.list(self.directory((second, 0))).unwrap() {
                let digit: u8 = name.to_str().unwrap()[1..].parse().unwrap();
                names.insert((second, digit), number);
            }
        }
        names
    }
}

proptest! {
    #[test]
    fn changes_of_names_happen_and_those_that_were_synced_stay(steps in proptest::collection::vec(step(), 1..60)) {
        let mut tree = Tree::new();
        let mut expected = Names::new();
        // What each name stood for at the last sync of its directory, and at every moment since.
        let mut moments = [vec![Names::new()], vec![Names::new()]];
        for step in steps {
            match step {
                Step::Create(place) => {
                    let created = tree.state.create_file(tree.directory(place), &name(place), somebody());
                    match expected.get(&place) {
                        Some(_) => prop_assert_eq!(created, Err(Refusal::Exists)),
                        None => _ = expected.insert(place, created.unwrap()),
                    }
                }
                Step::Rename(from, to) => {
                    let places = ((tree.directory(from), name(from)), (tree.directory(to), name(to)));
                    let renamed = tree.state.rename((places.0.0, &places.0.1), (places.1.0, &places.1.1));
                    match expected.get(&from).copied() {
                        None => prop_assert_eq!(renamed, Err(Refusal::NotFound)),
                        // Two names of one file both stay.
                        Some(number) if expected.get(&to) == Some(&number) => renamed.unwrap(),
                        Some(number) => {
                            renamed.unwrap();
                            expected.remove(&from);
                            expected.insert(to, number);
                        }
                    }
                }
                Step::Link(from, to) => {
                    if let Some(&number) = expected.get(&from) {
                        let linked = tree.state.link(number, tree.directory(to), &name(to));
                        match expected.get(&to) {
                            Some(_) => prop_assert_eq!(linked, Err(Refusal::Exists)),
                            None => _ = expected.insert(to, number),
                        }
                    }
                }
                Step::Unlink(place) => {
                    let removed = tree.state.unlink(tree.directory(place), &name(place));
                    prop_assert_eq!(removed.is_ok(), expected.remove(&place).is_some());
                }
                Step::SyncDirectory(second) => {
                    tree.state.sync_directory(tree.directory((second, 0))).unwrap();
                    moments[usize::from(second)].clear();
                }
                Step::CutPower(seed) => {
                    let mut rng = StdRng::seed_from_u64(seed);
                    let survival = Survival::draw(&mut rng);
                    tree.state.lose_power(survival, &mut rng);
                    expected = tree.names();
                    for place in (0..4).flat_map(|digit| [(false, digit), (true, digit)]) {
                        let stood_for: BTreeSet<Option<InodeNumber>> =
                            moments[usize::from(place.0)].iter().map(|names| names.get(&place).copied()).collect();
                        prop_assert!(stood_for.contains(&expected.get(&place).copied()), "{place:?}");
                    }
                    moments.iter_mut().for_each(Vec::clear);
                }
            }
            let names = tree.names();
            prop_assert_eq!(&names, &expected);
            // Whatever has a name can be used.
            for number in names.values() {
                let links = names.values().filter(|other| *other == number).count();
                prop_assert_eq!(tree.state.attributes(*number).unwrap().links as usize, links);
            }
            moments.iter_mut().for_each(|moments| moments.push(names.clone()));
        }
    }
}

#[test]
fn a_file_without_a_synced_name_is_gone_however_well_its_contents_are_synced() {
    let mut state = State::new(1 << 20, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    state.write(file, 0, b"contents").unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.finish_sync(file, sync).unwrap();
    let lost = state.lose_power(Survival::NOTHING, &mut StdRng::seed_from_u64(0));
    assert_eq!((lost.pending_names, lost.lost_names), (1, 1));
    assert_eq!(state.lookup(ROOT, OsStr::new("file")), Err(Refusal::NotFound));
    assert_eq!((state.inodes(), state.used_pages()), (1, 0));
}

#[test]
fn a_removal_that_was_not_synced_is_undone_with_all_that_was_in_the_file() {
    let mut state = State::new(1 << 20, somebody());
    let file = state.create_file(ROOT, OsStr::new("file"), somebody()).unwrap();
    state.write(file, 0, b"contents").unwrap();
    let sync = state.begin_sync(file).unwrap();
    state.finish_sync(file, sync).unwrap();
    state.sync_directory(ROOT).unwrap();
    state.unlink(ROOT, OsStr::new("file")).unwrap();
    assert_eq!(state.used_pages(), 0);
    state.lose_power(Survival::NOTHING, &mut StdRng::seed_from_u64(0));
    assert_eq!(state.lookup(ROOT, OsStr::new("file")), Ok(file));
    assert_eq!(state.read(file, 0, 100).unwrap(), b"contents");
    assert_eq!(state.used_pages(), 1);
    // Once it is synced, nothing is kept of it.
    state.unlink(ROOT, OsStr::new("file")).unwrap();
    state.sync_directory(ROOT).unwrap();
    assert_eq!(state.inodes(), 1);
}
