//! An operation from its first step to its last. All decisions are the leader's: the command asks for one step after the
//! other, so it may be stopped, and run again, at any time.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use seawall_host::time::Instant;
use seawall_host::{random, time};
use seawall_proto::v1::ChangeMembershipRequest;
use seawall_proto::v1::change_membership_request::Goal;
use seawall_proto::v1::change_membership_response::Outcome;
use serde::Serialize;

use super::way::Way;
use crate::commands::cluster_call::ClusterArgs;
use crate::commands::error::CommandError;
use crate::commands::{print, print_json};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// Where it may be different in a moment, so many refusals in a row are one.
const REFUSALS: u32 = 4;
/// Where standard error is no terminal, what is waited for is told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What every operation is told.
#[derive(Args)]
pub(super) struct OperationArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    /// How long it may take, such as 30s, 5m. What is done by then stays done.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m")]
    pub(super) timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How an operation ended, as printed.
#[derive(Serialize)]
struct OperationView {
    operation: &'static str,
    /// `done`, or `already` if there was nothing to do.
    outcome: &'static str,
    /// What is so now.
    result: String,
    /// What was done for it.
    steps: Vec<String>,
    /// What may be lost because of --force.
    risks: Vec<String>,
}

/// What is shown while an operation goes on.
struct Shown {
    spinner: ProgressBar,
    /// What was told last, and when, where there is no terminal.
    told: Option<(String, Instant)>,
    json: bool,
}

impl Shown {
    fn new(json: bool) -> Self {
        let spinner = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { spinner, told: None, json }
    }

    fn step(&self, what: &str) -> Result<(), CommandError> {
        if self.json { Ok(()) } else { self.spinner.suspend(|| print(what)) }
    }

    fn risk(&self, what: &str) {
        self.spinner.suspend(|| eprintln!("seawall: forced: {what}"));
    }

    fn waits(&mut self, why: &str) {
        self.spinner.set_message(format!("waiting: {why}"));
        self.spinner.tick();
        let is_told = self.told.as_ref().is_some_and(|(told, at)| told == why || at.elapsed() < TELL_EVERY);
        if self.spinner.is_hidden() && !is_told {
            eprintln!("seawall: waiting: {why}");
            self.told = Some((why.to_owned(), Instant::now()));
        }
    }
}

impl OperationArgs {
    /// Goes on until the goal is reached, refused, or the time is over.
    pub(super) async fn run(self, name: &'static str, goal: Goal, force: bool) -> Result<(), CommandError> {
        let deadline = Instant::now() + self.timeout;
        let request = ChangeMembershipRequest { operation: random::u64(), force, goal: Some(goal) };
        let mut way = Way::to(&self.cluster);
        let mut shown = Shown::new(self.json);
        let (mut steps, mut risks, mut refusals) = (Vec::new(), Vec::<String>::new(), 0);
        let (mut attempted, mut last) = (false, "no node has answered yet".to_owned());
        let result = loop {
            let (outcome, why) = match time::timeout_at(deadline, way.change(&request)).await {
                Ok(answer) => match answer? {
                    Ok(answer) => {
                        for risk in answer.risks.into_iter().filter(|risk| !risks.contains(risk)).collect::<Vec<_>>() {
                            shown.risk(&risk);
                            risks.push(risk);
                        }
                        (answer.outcome, String::new())
                    }
                    Err(why) => (None, format!("no leader answers ({why})")),
                },
                Err(_elapsed) => (None, last.clone()),
            };
            let why = match outcome {
                Some(Outcome::Done(result)) => break result,
                Some(Outcome::Stepped(what)) => {
                    shown.step(&what)?;
                    steps.push(what);
                    refusals = 0;
                    continue;
                }
                Some(Outcome::Refused(refusal)) => {
                    refusals += 1;
                    if !refusal.may_pass || refusals >= REFUSALS {
                        shown.spinner.finish_and_clear();
                        return Err(CommandError::failure(format!("{name} is refused: {}", refusal.reason)));
                    }
                    refusal.reason
                }
                Some(Outcome::Waiting(waiting)) => {
                    refusals = 0;
                    attempted |= waiting.attempted;
                    waiting.reason
                }
                Some(Outcome::NotLeader(_)) | None => why,
            };
            shown.waits(&why);
            last.clone_from(&why);
            if Instant::now() >= deadline {
                shown.spinner.finish_and_clear();
                return Err(CommandError::failure(format!(
                    "{name} is not done within {}: {why}. Run it again to go on",
                    humantime::format_duration(self.timeout)
                )));
            }
            time::sleep(random::jitter(PAUSE)).await;
        };
        shown.spinner.finish_and_clear();
        let outcome = if steps.is_empty() && !attempted { "already" } else { "done" };
        if self.json {
            return print_json(&OperationView { operation: name, outcome, result, steps, risks });
        }
        print(&format!("{outcome}: {result}"))
    }
}
