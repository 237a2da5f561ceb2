//! Arguments that several commands share, and how a run is written as one.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use crate::run::{FaultFamily, RunOptions};

/// How a run differs from what its seed alone decides.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Virtual seconds with faults.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) seconds: Duration,
    /// Nodes in the cluster, where the seed shall not decide.
    #[arg(long, value_name = "COUNT", value_parser = nodes)]
    pub(super) nodes: Option<usize>,
    /// Fault families to switch off, separated by commas.
    #[arg(long, value_name = "FAMILIES", value_delimiter = ',')]
    pub(super) without: Vec<FaultFamily>,
}

impl Shape {
    /// The options of `seed` in this shape.
    pub(super) fn options(&self, seed: u64, mutant: Option<&str>) -> RunOptions {
        RunOptions {
            seed,
            duration: self.seconds,
            nodes: self.nodes,
            without: self.without.iter().copied().collect(),
            mutant: mutant.map(str::to_owned),
            trace: false,
        }
    }
}

/// A positive number of seconds, decimals allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than nothing, and finite".into()),
    }
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=9) => Ok(count),
        _ => Err("must be 1 to 9".into()),
    }
}

/// The arguments, seed first, that give exactly these options to `replay`, and to a line of `regressions.txt`.
pub(super) fn as_arguments(options: &RunOptions) -> String {
    let mut text = options.seed.to_string();
    if options.duration != RunOptions::DEFAULT_DURATION {
        text += &format!(" --seconds {}", options.duration.as_secs_f64());
    }
    if let Some(nodes) = options.nodes {
        text += &format!(" --nodes {nodes}");
    }
    if !options.without.is_empty() {
        text += &format!(" --without {}", join(&options.without));
    }
    if let Some(mutant) = &options.mutant {
        text += &format!(" --mutant {}", quoted(mutant));
    }
    text
}

/// The command that replays a run.
pub(super) fn replay_command(options: &RunOptions) -> String {
    let features = if options.mutant.is_some() { " --features mutants" } else { "" };
    format!("cargo run --release -p sim{features} -- replay {}", as_arguments(options))
}

/// `word`, in quotes if a shell would take it for several.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Families separated by commas.
pub(super) fn join(families: &BTreeSet<FaultFamily>) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Replay {
        seed: u64,
        #[command(flatten)]
        shape: Shape,
        #[arg(long)]
        mutant: Option<String>,
    }

    #[test]
    fn a_printed_command_gives_the_same_run_back() {
        let shortened = RunOptions {
            duration: Duration::new(12, 345_678_901),
            nodes: Some(1),
            without: BTreeSet::from([FaultFamily::PowerCuts, FaultFamily::BitRot]),
            mutant: Some("unsynced-vote".into()),
            ..RunOptions::new(7)
        };
        for options in [RunOptions::new(u64::MAX), shortened] {
            let command = replay_command(&options);
            let arguments = command.split(" -- replay ").nth(1).unwrap().split(' ');
            let parsed = Replay::try_parse_from(["replay"].into_iter().chain(arguments)).unwrap();
            assert_eq!(parsed.shape.options(parsed.seed, parsed.mutant.as_deref()), options);
        }
    }

    #[test]
    fn only_a_mutant_needs_another_build() {
        assert_eq!(replay_command(&RunOptions::new(5)), "cargo run --release -p sim -- replay 5");
        let mutant = RunOptions { mutant: Some("it's".into()), ..RunOptions::new(5) };
        assert_eq!(
            replay_command(&mutant),
            r"cargo run --release -p sim --features mutants -- replay 5 --mutant 'it'\''s'"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [["--seconds", "0"], ["--seconds", "inf"], ["--nodes", "0"], ["--without", "everything"]] {
            let line = ["replay", "1"].into_iter().chain(arguments);
            assert!(Replay::try_parse_from(line).is_err(), "{arguments:?}");
        }
    }
}
