//! A server of a run: a process that is started again and again, and those that it started itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::net::Host;
use crate::process::{Launch, Process};

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A server on a host.
pub(super) struct Server {
    host: Host,
    log: PathBuf,
    launch: Box<dyn Fn() -> Launch + Send>,
    process: Option<Process>,
}

impl Server {
    /// What `launch` says, to be started on `host`; it writes to `log`.
    pub(super) fn new(host: &Host, log: PathBuf, launch: impl Fn() -> Launch + Send + 'static) -> Self {
        Self { host: host.clone(), log, launch: Box::new(launch), process: None }
    }

    /// Its process, unless it was killed.
    pub(super) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Starts it, if it does not run (or is paused), and waits until it `answers`.
    pub(super) fn start(&mut self, answers: impl Fn(&Host) -> bool) -> io::Result<()> {
        self.resume();
        let mut last = self.process.take();
        let is_running = last.as_mut().is_some_and(Process::is_running);
        let mut process = match last {
            Some(running) if is_running => running,
            _ => self.host.spawn((self.launch)())?,
        };
        let deadline = Instant::now() + START_LIMIT;
        while !answers(&self.host) {
            let problem = match process.ending() {
                Some(ending) => format!("ended ({ending:?})"),
                None if Instant::now() >= deadline => format!("does not answer within {START_LIMIT:?}"),
                None => {
                    thread::sleep(POLL);
                    continue;
                }
            };
            let what = format!("{} {problem}; see {}", process.name(), self.log.display());
            return Err(io::Error::other(what));
        }
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL, to it and all that it started.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Stopped, it starts no more.
            process.pause();
            let others = descendants(process.pid());
            process.kill();
            signal(&others, Signal::SIGKILL);
        }
    }

    /// SIGSTOP, to it and all that it started.
    pub(super) fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
            signal(&descendants(process.pid()), Signal::SIGSTOP);
        }
    }

    /// SIGCONT.
    pub(super) fn resume(&self) {
        if let Some(process) = &self.process {
            signal(&descendants(process.pid()), Signal::SIGCONT);
            process.resume();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(processes: &[u32], signal: Signal) {
    for process in processes {
        // It may have ended by now.
        let _ = kill(Pid::from_raw(process.cast_signed()), signal);
    }
}

/// The processes that `process` started, and those that they started, whatever group they put themselves into.
fn descendants(process: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = Vec::new();
    let mut ancestors = vec![process];
    while let Some(ancestor) = ancestors.pop() {
        let children = parents.iter().filter(|(_, parent)| **parent == ancestor).map(|(child, _)| *child);
        let before = found.len();
        found.extend(children);
        ancestors.extend_from_slice(&found[before..]);
    }
    found
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
