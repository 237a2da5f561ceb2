//! The parent's side of worker processes.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::failure::Failure;
use super::worker::{Answer, failure};
use crate::run::{RunOptions, RunReport};

/// How many of a worker's last words are kept.
const LAST_WORDS: usize = 20;

/// How worker processes are started.
#[derive(Clone)]
pub(super) struct Launcher {
    program: Vec<String>,
    /// How much real time one run may take.
    limit: Duration,
}

impl Launcher {
    /// Workers that are this very program, even if its file has been replaced since.
    pub(super) fn new(limit: Duration) -> Self {
        Self { program: vec!["/proc/self/exe".into(), "worker".into()], limit }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.arg0("sim").args(&self.program[1..]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A run that is over, one way or the other.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) options: RunOptions,
    /// Nothing if the process was lost.
    pub(super) report: Option<RunReport>,
    pub(super) failure: Option<Failure>,
    /// How much real time it took.
    pub(super) took: Duration,
}

/// A place where one worker process sits; one that is lost is replaced before the next run.
pub(super) struct Seat {
    launcher: Launcher,
    worker: Option<Worker>,
}

impl Seat {
    /// A place whose worker starts with the first run.
    pub(super) fn new(launcher: &Launcher) -> Self {
        Self { launcher: launcher.clone(), worker: None }
    }

    /// Runs `options` in the worker process.
    ///
    /// # Errors
    /// If no worker process can be started; a worker that is lost is a failure of the run instead.
    pub(super) fn run(&mut self, options: &RunOptions) -> anyhow::Result<Done> {
        let started = Instant::now();
        let worker = match self.worker.take() {
            Some(worker) => self.worker.insert(worker),
            None => self.worker.insert(Worker::start(&self.launcher)?),
        };
        let (report, failure) = match worker.run(options, self.launcher.limit) {
            Ok(answer) => {
                let failure = failure(options, &answer);
                if answer.is_err() {
                    // A panic may have left anything behind.
                    self.worker = None;
                }
                (answer.ok(), failure)
            }
            Err(lost) => {
                self.worker = None;
                (None, Some(*lost))
            }
        };
        Ok(Done { options: options.clone(), report, failure, took: started.elapsed() })
    }
}

struct Worker {
    child: Child,
    input: ChildStdin,
    answers: Receiver<io::Result<String>>,
    complaints: Complaints,
}

impl Worker {
    fn start(launcher: &Launcher) -> anyhow::Result<Self> {
        let mut child = launcher.command().spawn().context("cannot start a worker process")?;
        let input = child.stdin.take().context("a worker without input")?;
        let answers = read_lines(child.stdout.take().context("a worker without output")?);
        let complaints = Complaints::of(child.stderr.take().context("a worker without error output")?);
        Ok(Self { child, input, answers, complaints })
    }

    fn run(&mut self, options: &RunOptions, limit: Duration) -> Result<Answer, Box<Failure>> {
        let asked = serde_json::to_string(options).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.input.write_all(line.as_bytes())
        });
        if asked.is_err() {
            return Err(self.died(options));
        }
        match self.answers.recv_timeout(limit) {
            Ok(Ok(line)) => serde_json::from_str(&line).map_err(|error| {
                let text = format!("{error}, in: {}", clipped(&line));
                Box::new(Failure::lost(options, "a worker answers with a report", text))
            }),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.died(options)),
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("it was still going on after {} real seconds", limit.as_secs_f64());
                Err(Box::new(Failure::lost(options, "a run ends", text)))
            }
        }
    }

    fn died(&mut self, options: &RunOptions) -> Box<Failure> {
        let how = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let text = format!("the worker process ended ({how}){}", self.complaints.all());
        Box::new(Failure::lost(options, "a run does not take its process down", text))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whatever it is doing is wanted by nobody; errors mean that it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: ChildStdout) -> Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The last lines that a worker wrote to its error output.
struct Complaints {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl Complaints {
    fn of(output: ChildStderr) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (end, ended) = mpsc::channel();
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            let _end = end;
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LAST_WORDS {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self { lines, ended }
    }

    /// What a process that is gone had to say, each line on one of its own.
    fn all(&self) -> String {
        // Bounded, because a grandchild could hold the pipe open.
        let _ = self.ended.recv_timeout(Duration::from_secs(2));
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n{}", clipped(line))).collect()
    }
}

fn clipped(line: &str) -> String {
    line.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::run_seed;

    fn seat(script: &str, limit: Duration) -> Seat {
        let program = ["sh", "-c", script].map(str::to_owned).to_vec();
        Seat::new(&Launcher { program, limit })
    }

    const PATIENT: Duration = Duration::from_secs(60);

    #[test]
    fn a_worker_answers_run_after_run() {
        let answer: Answer = Ok(run_seed(&RunOptions::new(9)));
        let script = format!("while read line; do echo '{}'; done", serde_json::to_string(&answer).unwrap());
        let mut seat = seat(&script, PATIENT);
        for _ in 0..2 {
            let done = seat.run(&RunOptions::new(9)).unwrap();
            assert_eq!(done.report, answer.clone().ok());
        }
    }

    #[test]
    fn a_worker_that_dies_fails_its_run_with_its_last_words_and_is_replaced() {
        let mut seat = seat("read line; echo 'stack overflow' >&2; kill -ABRT $$", PATIENT);
        for seed in [1, 2] {
            let failure = seat.run(&RunOptions::new(seed)).unwrap().failure.unwrap();
            assert_eq!((failure.options.seed, failure.at), (seed, None));
            assert!(failure.text.contains("SIGABRT") && failure.text.contains("\nstack overflow"), "{}", failure.text);
        }
    }

    #[test]
    fn a_worker_that_is_gone_before_it_was_asked_fails_the_run_too() {
        let done = seat("exit 3", PATIENT).run(&RunOptions::new(1)).unwrap();
        assert!(done.failure.unwrap().text.contains("exit status: 3"));
    }

    #[test]
    fn a_worker_that_hangs_is_killed_and_replaced() {
        let mut seat = seat("exec sleep 1000", Duration::from_millis(50));
        for _ in 0..2 {
            let failure = seat.run(&RunOptions::new(1)).unwrap().failure.unwrap();
            assert_eq!(failure.property, "a run ends");
        }
    }

    #[test]
    fn a_panic_of_the_simulator_is_a_failure_and_the_next_run_gets_a_fresh_process() {
        let mut seat = seat("while read line; do echo '{\"Err\":\"index out of bounds\"}'; done", PATIENT);
        let done = seat.run(&RunOptions::new(1)).unwrap();
        assert_eq!(done.failure.unwrap().text, "index out of bounds");
        assert!(seat.worker.is_none());
    }
}
