//! How fast a disk is: it is on the way of every acknowledgement.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::super::FaultyDisk;
use super::mounted::{Mounted, mounted};

const RECORD: usize = 16 << 10;

/// Prints a figure, with `--nocapture`; fails only if it is absurd.
#[test]
#[ignore = "measures"]
fn appends_and_syncs_a_second() {
    let Some(Mounted { disk, .. }) = mounted(|path| FaultyDisk::mount(path, 4 << 30)) else { return };
    let file = File::create(disk.path().join("log")).unwrap();
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all_at(&[7; RECORD], count * RECORD as u64).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let a_second = count as f64 / began.elapsed().as_secs_f64();
    println!("{a_second:.0} appends of {RECORD} bytes, each with fdatasync, a second");
    assert!(a_second > 100.0);
}
