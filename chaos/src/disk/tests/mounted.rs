//! Real files on real mounts.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::super::{FaultyDisk, SmallDisk};

/// The mount point outlives the disk: a `TempDir` is removed after what was mounted on it.
pub(super) struct Mounted<D> {
    pub(super) disk: D,
    _directory: TempDir,
}

/// What `mount` mounts, or nothing (said on standard error) where that cannot be. In CI it may only be forbidden.
pub(super) fn mounted<D>(mount: impl FnOnce(&Path) -> io::Result<D>) -> Option<Mounted<D>> {
    let directory = tempfile::tempdir().unwrap();
    match mount(directory.path()) {
        Ok(disk) => Some(Mounted { disk, _directory: directory }),
        Err(error) => {
            let is_forbidden = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound);
            assert!(std::env::var_os("CI").is_none() || is_forbidden, "{error}");
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

fn faulty(capacity: u64) -> Option<Mounted<FaultyDisk>> {
    mounted(|path| FaultyDisk::mount(path, capacity))
}

fn sync_directory(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

#[test]
fn what_was_synced_survives_each_cut_and_what_was_not_is_lost_in_some() {
    let Some(Mounted { disk, _directory }) = faulty(64 << 20) else { return };
    let mut rng = StdRng::seed_from_u64(1);
    let path = disk.path().join("log");
    File::create(&path).unwrap();
    sync_directory(disk.path());
    let mut synced: Vec<u8> = Vec::new();
    let (mut lost_some, mut kept_some) = (0, 0);
    for _ in 0..60 {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // What the last cut kept is overwritten, as a log does with a torn tail.
        file.set_len(synced.len() as u64).unwrap();
        let mut append = |synced: &mut Vec<u8>, sync: bool| {
            let mut record = vec![0; rng.random_range(1..20_000)];
            rng.fill(&mut record[..]);
            file.write_all_at(&record, synced.len() as u64).unwrap();
            synced.extend_from_slice(&record);
            if sync {
                file.sync_data().unwrap();
            }
        };
        append(&mut synced, true);
        let mut newest = synced.clone();
        append(&mut newest, false);
        // What the kernel has read, by the file that stays open and by another, is not to hide the loss.
        assert!(read(&path) == newest);
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).unwrap();
        assert!(bytes == newest);
        let lost = disk.cut_power(&mut rng);
        assert!(lost.pending_pages > 0);
        let found = read(&path);
        assert!(found.starts_with(&synced), "a synced record is gone");
        assert_eq!(fs::metadata(&path).unwrap().len(), found.len() as u64);
        assert_eq!(found != newest, lost.dropped_pages + lost.torn_pages + lost.lost_lengths > 0, "{lost}");
        if found == newest {
            kept_some += 1
        } else {
            lost_some += 1
        }
        assert_eq!(errno(&file.write_at(b"of an earlier life", 0).unwrap_err()), libc::ESTALE);
    }
    assert!(lost_some > 10 && kept_some > 3, "{lost_some} {kept_some}");
}

#[test]
fn a_rename_without_a_sync_of_its_directory_can_be_undone_and_one_with_cannot() {
    let Some(Mounted { disk, _directory }) = faulty(16 << 20) else { return };
    let mut rng = StdRng::seed_from_u64(2);
    let (path, temporary) = (disk.path().join("state"), disk.path().join("state.tmp"));
    fs::write(&path, "0").unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    sync_directory(disk.path());
    let (mut undone, mut done) = (0, 0);
    for turn in 1..60_u32 {
        let before = read(&path);
        let new = turn.to_string().into_bytes();
        let mut file = File::create(&temporary).unwrap();
        file.write_all(&new).unwrap();
        file.sync_data().unwrap();
        fs::rename(&temporary, &path).unwrap();
        let is_synced = turn % 3 == 0;
        if is_synced {
            sync_directory(disk.path());
        }
        assert!(read(&path) == new && !temporary.exists());
        let lost = disk.cut_power(&mut rng);
        let found = read(&path);
        assert!(found == new || (found == before && !is_synced && lost.lost_names > 0));
        if found == new {
            done += 1
        } else {
            undone += 1
        }
        let _ = fs::remove_file(&temporary);
        sync_directory(disk.path());
    }
    assert!(undone > 5 && done > 25, "{undone} {done}");
}

#[test]
fn a_full_disk_refuses_and_says_how_much_room_it_has() {
    let Some(Mounted { disk, _directory }) = faulty(1 << 20) else { return };
    let path = disk.path().join("file");
    let mut file = File::create(&path).unwrap();
    let free = || {
        let space = statvfs(disk.path()).unwrap();
        (space.blocks_available() * space.fragment_size(), space.blocks() * space.fragment_size())
    };
    assert_eq!(free(), (1 << 20, 1 << 20));
    file.write_all(&vec![1; 700 << 10]).unwrap();
    assert_eq!((disk.used_bytes(), free()), (700 << 10, (324 << 10, 1 << 20)));
    assert_eq!(file.write_all(&vec![1; 700 << 10]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(free().0, 0);
    assert_eq!(File::create(disk.path().join("other")).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.set_capacity(2 << 20);
    assert_eq!(free(), (1 << 20, 2 << 20));
    fs::write(disk.path().join("other"), vec![2; 1 << 20]).unwrap();
    fs::remove_file(disk.path().join("other")).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_failed_sync_is_an_error_and_its_pages_are_gone_with_the_power() {
    let Some(Mounted { disk, _directory }) = faulty(1 << 20) else { return };
    let path = disk.path().join("file");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.sync_all().unwrap();
    sync_directory(disk.path());
    file.write_all_at(b"later", 0).unwrap();
    disk.fail_syncs(true);
    assert_eq!(errno(&file.sync_data().unwrap_err()), libc::EIO);
    assert_eq!(errno(&File::open(disk.path()).unwrap().sync_all().unwrap_err()), libc::EIO);
    disk.fail_syncs(false);
    // It says that all is well now, and still shows what it does not have.
    file.sync_data().unwrap();
    assert_eq!(read(&path), b"later");
    let lost = disk.cut_power(&mut StdRng::seed_from_u64(3));
    assert_eq!(lost.given_up_pages, 1);
    assert_eq!(read(&path), b"first");
}

#[test]
fn a_stalled_sync_holds_up_nothing_else_and_ends_with_the_stall() {
    let Some(Mounted { disk, _directory }) = faulty(1 << 20) else { return };
    let path = disk.path().join("directory/file");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let file = File::create(&path).unwrap();
    file.write_all_at(b"contents", 0).unwrap();
    let (stall, began) = (Duration::from_secs(30), Instant::now());
    disk.stall_syncs(Some(stall));
    let (done, is_done) = channel();
    let syncs: Vec<_> = (0..4)
        .map(|turn| {
            let (done, path) = (done.clone(), path.clone());
            let path = if turn % 2 == 0 { path } else { path.parent().unwrap().to_owned() };
            thread::spawn(move || done.send(File::open(path).unwrap().sync_all()).unwrap())
        })
        .collect();
    for turn in 0..100 {
        let other = disk.path().join(format!("other-{turn}"));
        fs::write(&other, "contents").unwrap();
        assert_eq!(read(&other), b"contents");
        fs::remove_file(&other).unwrap();
    }
    assert!(is_done.try_recv().is_err());
    disk.stall_syncs(None);
    for _ in &syncs {
        is_done.recv().unwrap().unwrap();
    }
    assert!(began.elapsed() < stall);
    syncs.into_iter().for_each(|sync| sync.join().unwrap());
    disk.stall_syncs(Some(Duration::from_millis(80)));
    let began = Instant::now();
    file.sync_data().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn programs_do_there_what_they_do_elsewhere() {
    let Some(Mounted { disk, _directory }) = faulty(64 << 20) else { return };
    let script = r#"
        set -eu
        mkdir -p a/b/c && rmdir a/b/c
        for i in $(seq 300); do echo $i > a/b/file-with-a-rather-long-name-$i; done
        test $(ls a/b | wc -l) = 300
        echo more >> a/b/file-with-a-rather-long-name-1 && test "$(cat a/b/file-with-a-rather-long-name-1)" = "1
more"
        ln a/b/file-with-a-rather-long-name-2 a/second && test $(stat -c %h a/second) = 2
        mv a/second a/b/file-with-a-rather-long-name-3 && test "$(cat a/b/file-with-a-rather-long-name-3)" = 2
        (set -C; ! echo x > a/b/file-with-a-rather-long-name-4) 2> /dev/null
        chmod 600 a/b/file-with-a-rather-long-name-5 && test $(stat -c %a a/b/file-with-a-rather-long-name-5) = 600
        cp -r a copy && mv copy moved && diff -r a moved
        dd if=/dev/urandom of=large bs=1M count=9 conv=fsync status=none && cp large second && cmp large second
        truncate -s 5000 second && test $(stat -c %s second) = 5000
        ! rmdir a 2> /dev/null
        rm -r a moved large second
        test -z "$(ls -A)"
    "#;
    let output = Command::new("sh").args(["-c", script]).current_dir(disk.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(disk.used_bytes(), 0);
    let one = File::create(disk.path().join("lock")).unwrap();
    let other = File::open(disk.path().join("lock")).unwrap();
    one.try_lock().unwrap();
    assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
    drop(one);
    other.try_lock().unwrap();
    // Nobody is told that each write was a sync when it was not.
    let path = disk.path().join("synced");
    let refused = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DSYNC).open(path);
    assert_eq!(errno(&refused.unwrap_err()), libc::EOPNOTSUPP);
}

#[test]
fn goes_away_when_it_is_dropped_even_if_a_file_is_open() {
    let Some(Mounted { disk, _directory }) = faulty(1 << 20) else { return };
    let path = disk.path().to_owned();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mounts().contains(path.to_str().unwrap()));
    let file = File::create(path.join("file")).unwrap();
    drop(disk);
    assert!(!mounts().contains(path.to_str().unwrap()));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    // Whoever has it open keeps it.
    file.write_all_at(b"contents", 0).unwrap();
}

#[test]
fn a_small_disk_is_filled_and_emptied() {
    let Some(Mounted { disk, _directory }) = mounted(|path| SmallDisk::mount(path, 8 << 20)) else { return };
    fs::write(disk.path().join("kept"), vec![7; 1 << 20]).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 7 << 20);
    disk.fill(1 << 20).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 1 << 20);
    disk.fill(0).unwrap();
    let full = fs::write(disk.path().join("more"), [7; 1 << 12]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    disk.make_room().unwrap();
    disk.make_room().unwrap();
    fs::write(disk.path().join("more"), vec![7; 1 << 20]).unwrap();
    assert!(read(&disk.path().join("kept")) == vec![7; 1 << 20]);
    let path = disk.path().to_owned();
    let held = File::open(path.join("kept")).unwrap();
    drop(disk);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    drop(held);
}
