//! Properties of the simulated disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::*;
use seawall_host::disk::{Disk, OpenMode, RawFile};

use super::{Crash, Dice, DiskFaults, SimDisk};

mod kv;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

fn now<T>(future: BoxFuture<'_, T>) -> T {
    future.now_or_never().expect("an instantaneous disk answers at once")
}

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::instantaneous(Dice::seeded(seed));
    disk.prepare_directories(Path::new("/d")).unwrap();
    disk
}

fn open(disk: &SimDisk, name: &str) -> Arc<dyn RawFile> {
    now(disk.open(path(name), OpenMode::OpenOrCreate)).unwrap()
}

fn write(file: &Arc<dyn RawFile>, offset: u64, bytes: &[u8]) {
    now(file.write_at(offset, vec![Bytes::copy_from_slice(bytes)])).unwrap();
}

fn sync_names(disk: &SimDisk) {
    now(disk.sync_directory(PathBuf::from("/d"))).unwrap();
}

fn peek(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.peek(&path(name)).map(|bytes| bytes.to_vec())
}

/// A file under a durable name with durable `contents`.
fn durable(disk: &SimDisk, name: &str, contents: &[u8]) -> Arc<dyn RawFile> {
    let file = open(disk, name);
    write(&file, 0, contents);
    now(file.sync()).unwrap();
    sync_names(disk);
    file
}

/// How often `outcome` answers each of its answers, over many seeds.
fn outcomes<T: Ord>(outcome: impl Fn(u64) -> T) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    (0..300).for_each(|seed| *counts.entry(outcome(seed)).or_insert(0) += 1);
    counts
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, byte: u8 },
    SetLen(usize),
    Sync,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5 * PAGE, 1..2 * PAGE, 1..=255_u8).prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        2 => (0..6 * PAGE).prop_map(Step::SetLen),
        2 => Just(Step::Sync),
        1 => Just(Step::Restart),
    ]
}

fn sector(contents: &[u8], number: usize) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let start = (number * SECTOR).min(contents.len());
    let there = &contents[start..contents.len().min(start + SECTOR)];
    bytes[..there.len()].copy_from_slice(there);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Programs read what they wrote; a loss of power leaves in each sector what was synced last or anything newer,
    /// up to a length's end, and what is synced since is there.
    #[test]
    fn files_keep_what_is_synced(steps in prop::collection::vec(step(), 1..40), seed: u64) {
        let disk = disk(seed);
        let mut file = durable(&disk, "f", b"");
        let mut model: Vec<u8> = Vec::new();
        // Every form of the contents since the last sync, that one first.
        let mut forms = vec![model.clone()];
        for step in steps {
            match step {
                Step::Write { offset, len, byte } => {
                    write(&file, offset as u64, &vec![byte; len]);
                    model.resize(model.len().max(offset + len), 0);
                    model[offset..offset + len].fill(byte);
                }
                Step::SetLen(len) => {
                    now(file.set_len(len as u64)).unwrap();
                    model.resize(len, 0);
                }
                Step::Sync => {
                    now(file.sync()).unwrap();
                    forms.clear();
                }
                Step::Restart => {
                    disk.crash(Crash::Process);
                    prop_assert!(now(file.read_at(0, 1)).is_err());
                    file = open(&disk, "f");
                }
            }
            forms.push(model.clone());
            prop_assert_eq!(peek(&disk, "f").unwrap(), model.clone());
            prop_assert_eq!(disk.used_bytes() % PAGE as u64, 0);
        }
        disk.crash(Crash::Power);
        let left = peek(&disk, "f").unwrap();
        let shortest = forms.iter().map(Vec::len).min().unwrap();
        let longest = forms.iter().map(Vec::len).max().unwrap();
        prop_assert!((shortest..=longest).contains(&left.len()), "{} bytes", left.len());
        if forms.len() == 1 {
            prop_assert_eq!(&left, &forms[0]);
        }
        for number in 0..left.len().div_ceil(SECTOR) {
            let found = sector(&left, number);
            // Where the file ends or ended inside of the sector, the rest is zeros.
            let fits = |form: &Vec<u8>| {
                let form = sector(form, number);
                found.iter().zip(form).all(|(found, form)| *found == form || *found == 0)
            };
            let is_boundary = left.len() / SECTOR == number || forms.iter().any(|form| form.len() / SECTOR == number);
            let is_known = forms.iter().any(|form| sector(form, number) == found) || found == [0; SECTOR] && forms.iter().any(|form| form.len() <= number * SECTOR);
            prop_assert!(is_known || is_boundary && forms.iter().any(fits), "sector {number} is of no form");
        }
        // What is left is durable.
        disk.crash(Crash::Power);
        prop_assert_eq!(peek(&disk, "f").unwrap(), left);
    }

    /// Each name is what it was at the last sync of its directory, or became since; a synced file whose name is there
    /// is whole.
    #[test]
    fn names_keep_what_is_synced(steps in prop::collection::vec((0..6_u8, 0..4_u8, 0..4_u8), 1..40), seed: u64) {
        let disk = disk(seed);
        let mut written = 0_u8;
        let name = |number: u8| format!("n{number}");
        let names = |disk: &SimDisk| -> BTreeMap<u8, Option<Vec<u8>>> { (0..4).map(|number| (number, peek(disk, &name(number)))).collect() };
        let mut forms = vec![names(&disk)];
        for (action, one, other) in steps {
            let (from, to) = (path(&name(one)), path(&name(other)));
            match action {
                0 | 1 => {
                    if let Ok(file) = now(disk.open(from, OpenMode::CreateNew)) {
                        written += 1;
                        // Synced before its name can be: no form of this name is a half-written file.
                        forms.push(names(&disk));
                        now(file.write_and_sync(0, vec![Bytes::from(vec![written; 5000])])).unwrap();
                    }
                }
                2 => _ = now(disk.rename(from, to)),
                3 => _ = now(disk.hard_link(from, to)),
                4 => _ = now(disk.remove_file(from)),
                _ => {
                    sync_names(&disk);
                    forms.clear();
                }
            }
            forms.push(names(&disk));
        }
        disk.crash(Crash::Power);
        for (number, left) in names(&disk) {
            let is_known = forms.iter().any(|form| form[&number] == left);
            prop_assert!(is_known, "n{number} has {:?} bytes", left.map(|bytes| bytes.len()));
        }
        let before = names(&disk);
        disk.crash(Crash::Power);
        prop_assert_eq!(names(&disk), before);
    }

    /// Space is counted as it is used, whatever happens to names and open files.
    #[test]
    fn space_is_what_files_take(steps in prop::collection::vec((0..7_u8, 0..3_u8, 0..3_u8), 1..40), seed: u64) {
        let disk = disk(seed);
        let name = |number: u8| format!("n{number}");
        let mut opened = Vec::new();
        for (action, one, other) in steps {
            match action {
                0 | 1 => {
                    let file = open(&disk, &name(one));
                    write(&file, u64::from(other) * PAGE as u64, &[1]);
                    opened.push(file);
                }
                2 => _ = now(disk.rename(path(&name(one)), path(&name(other)))),
                3 => _ = now(disk.remove_file(path(&name(one)))),
                4 => opened.clear(),
                5 => disk.crash(if one == 0 { Crash::Process } else { Crash::Power }),
                _ => sync_names(&disk),
            }
        }
        opened.clear();
        let pages = |(path, _): (PathBuf, u64)| disk.peek(&path).unwrap().chunks(PAGE).filter(|page| page.iter().any(|byte| *byte != 0)).count();
        let used: usize = disk.list_all().into_iter().map(pages).sum();
        // Torn pages may be all zeros and yet take space.
        prop_assert!(disk.used_bytes() >= (used * PAGE) as u64);
        prop_assert!(disk.used_bytes() <= disk.list_all().iter().map(|(_, len)| len.next_multiple_of(PAGE as u64)).sum());
        for (path, _) in disk.list_all() {
            now(disk.remove_file(path)).unwrap();
        }
        prop_assert_eq!(disk.used_bytes(), 0);
    }

    /// The same seed does the same.
    #[test]
    fn seeds_decide(seed: u64) {
        let run = || {
            let disk = disk(seed);
            let file = durable(&disk, "f", &[1; 3 * PAGE]);
            for number in 0..20_u64 {
                write(&file, number * 1000, &[number as u8; 3000]);
                open(&disk, &format!("n{number}"));
            }
            disk.crash(Crash::Power);
            let rot = disk.rot_one(|_, len| len);
            (disk.list_all(), peek(&disk, "f"), rot)
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn a_sync_of_a_new_file_does_not_take_its_name_along() {
    let counts = outcomes(|seed| {
        let disk = disk(seed);
        let file = open(&disk, "f");
        write(&file, 0, b"hello");
        now(file.sync()).unwrap();
        disk.crash(Crash::Power);
        peek(&disk, "f")
    });
    assert_eq!(counts.keys().cloned().collect::<Vec<_>>(), [None, Some(b"hello".to_vec())]);
    assert!(counts.values().all(|count| *count > 60), "{counts:?}");
}

#[test]
fn renames_happen_wholly_or_not_at_all() {
    let counts = outcomes(|seed| {
        let disk = disk(seed);
        durable(&disk, "f", b"old");
        let new = open(&disk, "f.tmp");
        write(&new, 0, b"new");
        now(new.sync()).unwrap();
        now(disk.rename(path("f.tmp"), path("f"))).unwrap();
        disk.crash(Crash::Power);
        (peek(&disk, "f").unwrap(), peek(&disk, "f.tmp"))
    });
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    let expected = [(new.clone(), None), (old.clone(), None), (old, Some(new))];
    assert_eq!(counts.keys().cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn what_takes_the_name_of_a_renamed_file_does_not_destroy_it() {
    for seed in 0..300 {
        let disk = disk(seed);
        durable(&disk, "a", b"old");
        now(disk.rename(path("a"), path("b"))).unwrap();
        open(&disk, "a");
        disk.crash(Crash::Power);
        let old = Some(b"old".to_vec());
        assert!(peek(&disk, "a") == old || peek(&disk, "b") == old, "seed {seed}");
    }
}

#[test]
fn unsynced_pages_are_kept_dropped_or_torn() {
    let counts = outcomes(|seed| {
        let disk = disk(seed);
        let file = durable(&disk, "f", &[1; PAGE]);
        write(&file, 0, &[2; PAGE]);
        disk.crash(Crash::Power);
        let left = peek(&disk, "f").unwrap();
        assert!(left.chunks(SECTOR).all(|sector| sector == [1; SECTOR] || sector == [2; SECTOR]));
        match left.iter().filter(|byte| **byte == 2).count() {
            0 => "dropped",
            PAGE => "kept",
            _ => "torn",
        }
    });
    assert_eq!(counts.len(), 3, "{counts:?}");
}

#[test]
fn killed_programs_leave_all_that_they_wrote() {
    let disk = disk(1);
    let file = open(&disk, "f");
    let lock = now(disk.lock(path("lock"))).unwrap();
    assert_eq!(now(disk.lock(path("lock"))).err().map(|error| error.kind()), Some(std::io::ErrorKind::WouldBlock));
    write(&file, 0, b"unsynced");
    disk.crash(Crash::Process);
    assert_eq!(peek(&disk, "f").unwrap(), b"unsynced");
    assert!(now(file.write_at(0, vec![Bytes::from_static(b"ghost")])).is_err());
    let second = now(disk.lock(path("lock"))).unwrap();
    drop(lock);
    assert!(now(disk.lock(path("lock"))).is_err(), "a guard of a former life releases nothing");
    drop(second);
    now(disk.lock(path("lock"))).unwrap();
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let disk = SimDisk::instantaneous(Dice::seeded(1));
    let mut contents = super::file::Contents::default();
    let put = |contents: &mut super::file::Contents, byte: u8| {
        contents.write(0, &[Bytes::from(vec![byte; PAGE])], 10).unwrap();
    };
    put(&mut contents, 1);
    let first = contents.begin_sync();
    put(&mut contents, 2);
    let second = contents.begin_sync();
    put(&mut contents, 3);
    // They end in another order than they began in.
    assert!(contents.finish_sync(second));
    assert!(contents.finish_sync(first));
    let nothing = super::state::Survival::NOTHING;
    disk.draw(|random| contents.lose_power(nothing, random));
    assert_eq!(contents.read(0, PAGE), vec![2; PAGE]);
}

#[test]
fn pages_of_a_failed_sync_are_read_but_never_made_durable() {
    let disk = disk(3);
    let file = durable(&disk, "f", &[1; PAGE]);
    write(&file, 0, &[2; PAGE]);
    disk.set_faults(DiskFaults { sync_error: 1.0, ..DiskFaults::default() });
    now(file.sync()).unwrap_err();
    disk.set_faults(DiskFaults::default());
    now(file.sync()).unwrap();
    assert_eq!(peek(&disk, "f").unwrap(), [2; PAGE]);
    disk.crash(Crash::Process);
    assert_eq!(peek(&disk, "f").unwrap(), [2; PAGE]);
    disk.crash(Crash::Power);
    assert_eq!(peek(&disk, "f").unwrap(), [1; PAGE]);
    // Written again, it is as good as any other.
    let file = open(&disk, "f");
    write(&file, 0, &[3; PAGE]);
    now(file.sync()).unwrap();
    disk.crash(Crash::Power);
    assert_eq!(peek(&disk, "f").unwrap(), [3; PAGE]);
}

#[test]
fn full_disks_refuse_and_keep_what_they_have() {
    let disk = disk(4);
    let file = durable(&disk, "f", &[1; 2 * PAGE]);
    disk.set_capacity(Some(3 * PAGE as u64));
    assert_eq!(now(disk.space(path(""))).unwrap().available, PAGE as u64);
    let error = now(file.write_at(0, vec![Bytes::from(vec![2; 4 * PAGE])])).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(peek(&disk, "f").unwrap(), [2; 3 * PAGE], "what fits is written");
    assert_eq!(now(disk.open(path("g"), OpenMode::CreateNew)).err().unwrap().kind(), std::io::ErrorKind::StorageFull);
    write(&file, 0, &[3; PAGE]);
    now(file.sync()).unwrap();
    now(file.set_len(PAGE as u64)).unwrap();
    assert_eq!(disk.used_bytes(), PAGE as u64);
    assert_eq!(now(disk.space(path(""))).unwrap().available, 2 * PAGE as u64);
}

#[test]
fn reads_and_writes_fail_when_told_to() {
    let disk = disk(5);
    let file = durable(&disk, "f", b"old");
    disk.set_faults(DiskFaults { read_error: 1.0, write_error: 1.0, ..DiskFaults::default() });
    assert!(now(file.read_at(0, 3)).is_err());
    assert!(now(file.write_at(0, vec![Bytes::from_static(b"new")])).is_err());
    assert!(matches!(&peek(&disk, "f").unwrap()[..], b"old" | b"new"));
}

#[test]
fn one_synced_bit_rots() {
    let disk = disk(6);
    durable(&disk, "spared", &[0; 100]);
    durable(&disk, "f", &[0; 5000]);
    write(&open(&disk, "unsynced"), 0, &[0; 100]);
    let rot = disk.rot_one(|path, len| if path.ends_with("spared") { 0 } else { len }).unwrap();
    assert_eq!(rot.path, path("f"));
    let left = peek(&disk, "f").unwrap();
    assert_eq!(left.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(left[rot.offset as usize], 1 << rot.bit);
    disk.crash(Crash::Power);
    assert_eq!(peek(&disk, "f").unwrap(), left);
    assert_eq!(disk.rot_one(|path, len| if path.ends_with("nothing") { len } else { 0 }), None);
}

#[test]
fn wiped_disks_are_empty() {
    let disk = disk(7);
    let file = durable(&disk, "f", b"gone");
    disk.wipe();
    assert!(disk.list_all().is_empty() && disk.used_bytes() == 0);
    assert!(now(file.read_at(0, 1)).is_err());
}

#[test]
fn removed_directories_come_back_in_part_at_most() {
    let counts = outcomes(|seed| {
        let disk = disk(seed);
        let below = path("below");
        now(disk.create_directories(below.clone())).unwrap();
        durable(&disk, "below/a", b"a");
        durable(&disk, "below/b", b"b");
        now(disk.sync_directory(below.clone())).unwrap();
        now(disk.remove_directory(below)).unwrap();
        assert!(disk.list_all().is_empty());
        disk.crash(Crash::Power);
        disk.list_all().len()
    });
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
}
