//! What processes take: memory, descriptors, disk.

use std::fs;

use crate::history::Event;

/// What a process takes at this moment, with what its data directory does; nothing if it is gone.
pub fn sample(process: &str, pid: u32, disk_bytes: &dyn Fn() -> u64) -> Option<Event> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Event::Sampled {
        process: process.to_owned(),
        pid,
        resident_bytes: resident(&status)?,
        descriptors,
        disk_bytes: disk_bytes(),
    })
}

/// `VmRSS` of `/proc/PID/status` (`man 5 proc`), in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_resident_size_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t3\n"), Some(1234 * 1024));
        assert_eq!(resident("Name:\tkthread\n"), None);
    }

    #[test]
    fn samples_itself() {
        let Some(Event::Sampled { resident_bytes, descriptors, disk_bytes: 7, .. }) =
            sample("me", std::process::id(), &|| 7)
        else {
            panic!("this process exists");
        };
        assert!(resident_bytes > 0 && descriptors > 0);
    }
}
