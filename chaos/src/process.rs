//! A process of a run: what it is started as, and what is done to it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// Hears each line that a process prints.
pub type LineListener = Box<dyn FnMut(&str) + Send>;

/// What to start.
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    directory: Option<PathBuf>,
    log: PathBuf,
    lines: Option<LineListener>,
}

impl Launch {
    /// `program` under `name` (as history and verdict call it). Its standard error, and its output unless someone listens to
    /// it, are appended to `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            directory: None,
            log: log.into(),
            lines: None,
        }
    }

    /// With these arguments too.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With this environment variable.
    #[must_use]
    pub fn environment(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }

    /// In this directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// `listener` hears each line of the standard output, on a thread of its own.
    #[must_use]
    pub fn lines(mut self, listener: LineListener) -> Self {
        self.lines = Some(listener);
        self
    }

    /// Starts it from the calling thread, whose network the process gets; it is killed when that thread ends. It leads a process
    /// group of its own, to which every signal goes.
    pub(crate) fn spawn(self) -> io::Result<Process> {
        let log = open_log(&self.log)?;
        // It dies with the harness, however that dies.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(&self.arguments).envs(&self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.process_group(0).stderr(log.try_clone()?);
        command.stdin(Stdio::null());
        command.stdout(if self.lines.is_some() { Stdio::piped() } else { log.into() });
        let mut child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {} ({}): {error}", self.name, self.program.display()))
        })?;
        if let (Some(listener), Some(output)) = (self.lines, child.stdout.take()) {
            thread::spawn(move || listen(output, listener));
        }
        Ok(Process { name: self.name, child, ended: None })
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A last line without its end is left out: who is killed while it speaks has said nothing.
fn listen(output: impl io::Read, mut listener: LineListener) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line).is_ok() {
        let Some(whole) = line.strip_suffix('\n') else { return };
        listener(whole);
        line.clear();
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A process that was started, with its group. It is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    ended: Option<Ending>,
}

impl Process {
    /// What history calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ending(&mut self) -> Option<Ending> {
        if self.ended.is_none() {
            // Nobody else waits for it, so this cannot fail.
            let status = self.child.try_wait().ok().flatten()?;
            self.ended = Some(match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Code(code),
                (None, signal) => Ending::Signal(signal.unwrap_or_default()),
            });
        }
        self.ended
    }

    /// Whether it runs (or is paused).
    pub fn is_running(&mut self) -> bool {
        self.ending().is_none()
    }

    /// How it ended, once it has; nothing if that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<Ending> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(ending) = self.ending() {
                return Some(ending);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// SIGKILL, to it and its children.
    pub fn shoot(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// The same; returns once it is gone.
    pub fn kill(&mut self) {
        self.shoot();
        // A killed process ends; one that hangs in the kernel is waited for.
        while self.wait(Duration::from_secs(1)).is_none() {}
    }

    /// SIGTERM, and SIGKILL if it is still there after `grace`.
    pub fn terminate(&mut self, grace: Duration) -> Ending {
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGTERM);
        if let Some(ending) = self.wait(grace) {
            return ending;
        }
        self.kill();
        self.ended.unwrap_or(Ending::Signal(Signal::SIGKILL as i32))
    }

    /// SIGSTOP: it holds everything it has and does nothing.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It may have ended just now.
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_not_heard() {
        let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let ears = std::sync::Arc::clone(&heard);
        let said = "resumed 0 1\n\ncommitted 1 22\ncommitted 2".as_bytes();
        listen(said, Box::new(move |line| ears.lock().unwrap().push(line.to_owned())));
        assert_eq!(*heard.lock().unwrap(), ["resumed 0 1", "", "committed 1 22"]);
    }
}
