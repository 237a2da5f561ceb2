//! One scenario in a process of its own: so that several can run at once, and whatever happens to one stays with it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::verdict;
use crate::run::HISTORY;
use crate::verdict::Verdict;

/// What is to be played.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) scenario: String,
    pub(super) seed: u64,
    pub(super) span: Duration,
    pub(super) seawall: PathBuf,
    pub(super) on_loopback: bool,
    pub(super) most_restores: usize,
    pub(super) mutant: Option<String>,
}

impl Assignment {
    /// Plays it in `directory`, which is there and empty.
    ///
    /// # Errors
    /// The harness could not do its work.
    pub(super) fn play(&self, directory: &Path, now: impl Fn(&str)) -> anyhow::Result<Verdict> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args([
            "play",
            &self.scenario,
            "--seed",
            &self.seed.to_string(),
        ]);
        command.args(["--seconds", &self.span.as_secs().to_string()]);
        command.args(["--most-restores", &self.most_restores.to_string()]);
        command.arg("--directory").arg(directory).arg("--seawall").arg(&self.seawall);
        command.args(self.on_loopback.then_some("--loopback"));
        if let Some(mutant) = &self.mutant {
            command.args(["--mutant", mutant]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("this program cannot be started again")?;
        let (output, mut errors) = (child.stdout.take(), child.stderr.take());
        let over = self.watch_out(child.id());
        let complaint = thread::spawn(move || {
            let mut said = String::new();
            // What cannot be read is not shown.
            let _ = errors.as_mut().map(|errors| errors.read_to_string(&mut said));
            said
        });
        for line in BufReader::new(output.context("its output is not there")?).lines() {
            now(&line?);
        }
        let status = child.wait()?;
        let in_time = over.send(()).is_ok();
        ensure!(in_time, "it did not end within {:?}, and was killed", self.limit());
        let said = complaint.join().unwrap_or_default();
        ensure!(status.success(), "{status}: {}", said.trim());
        Ok(verdict(&directory.join(HISTORY))?.0)
    }

    /// Longer than starting, recovering and restoring take.
    fn limit(&self) -> Duration {
        self.span + Duration::from_secs(20 * 60)
    }

    /// Kills the process when its time is over, unless the answer is told before that it ended.
    fn watch_out(&self, pid: u32) -> Sender<()> {
        let (over, ended) = channel();
        let limit = self.limit();
        thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // It may have ended just now.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        });
        over
    }

    /// The command that plays it again.
    pub(super) fn command(&self) -> String {
        let mut words = vec!["cargo run --release -p chaos -- run".to_owned(), self.scenario.clone()];
        words.push(format!("--seed {} --seconds {}", self.seed, self.span.as_secs()));
        if self.on_loopback {
            words.push("--loopback".to_owned());
        }
        words.join(" ")
    }
}
