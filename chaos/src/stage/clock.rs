//! A clock that can be stepped: libfaketime before the C library, which Rust's clocks go through.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::process::Launch;

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The wall clock of a process, put off by what a file says. Its monotonic clock goes on as ever.
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Why clocks cannot be stepped here, if they cannot.
    pub fn missing() -> Option<String> {
        library().is_none().then(|| "libfaketime is missing: install Debian's `libfaketime`".to_owned())
    }

    /// A clock that goes right; its offset is kept in this file.
    pub(super) fn new(offset: PathBuf) -> io::Result<Self> {
        let library = library().ok_or_else(|| io::Error::other(Self::missing().unwrap_or_default()))?;
        let clock = Self { library, offset };
        clock.step(0)?;
        Ok(clock)
    }

    /// From now on it is so many seconds off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn step(&self, seconds: i32) -> io::Result<()> {
        // At once whole: the process reads it at any moment.
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(new, &self.offset)
    }

    pub(super) fn wear(&self, launch: Launch) -> Launch {
        launch
            .environment("LD_PRELOAD", &self.library)
            .environment("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .environment("FAKETIME_CACHE_DURATION", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::tools::tests::has_what_it_needs;

    #[test]
    fn puts_the_clock_of_a_program_off() {
        if !has_what_it_needs(Clock::missing()) {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::new(directory.path().join("clock")).unwrap();
        for offset in [0, 3600, -600] {
            clock.step(offset).unwrap();
            let (said, heard) = channel();
            let listener = Box::new(move |line: &str| said.send(line.parse::<i64>().unwrap()).unwrap());
            let launch = Launch::new("date", "date", directory.path().join("log")).arguments(["+%s"]).lines(listener);
            let _process = clock.wear(launch).spawn().unwrap();
            let told = heard.recv_timeout(Duration::from_secs(20)).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
            assert!((told - now - i64::from(offset)).abs() < 30, "{told} at {now} with {offset}");
        }
    }
}
