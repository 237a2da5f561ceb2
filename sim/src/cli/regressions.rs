//! `regressions`: the seeds that once failed.

use std::ops::ControlFlow;

use clap::{Args, Parser};
use serde::Serialize;
use thiserror::Error;

use super::arguments::Shape;
use super::failure::Failure;
use super::pool::Pool;
use super::progress::Progress;
use crate::run::RunOptions;

/// The list, as this program was built with it.
const LIST: &str = include_str!("../../regressions.txt");
/// What stands between a run and what it found.
const DASH: char = '—';

/// Runs every seed of sim/regressions.txt.
#[derive(Args)]
pub(super) struct Regressions {
    #[command(flatten)]
    pool: Pool,
    /// Prints what came of it as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// A seed that once failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Regression {
    options: RunOptions,
    found: String,
}

/// What is wrong with a line of the list.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("sim/regressions.txt, line {line}: {text}")]
struct BadLine {
    line: usize,
    text: String,
}

/// A seed that fails again.
#[derive(Serialize)]
struct Again {
    found: String,
    failure: Failure,
}

#[derive(Serialize)]
struct Summary {
    runs: usize,
    failures: Vec<Again>,
}

impl Regressions {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let list = parse(LIST)?;
        let progress = Progress::new(list.len() as u64, self.json);
        let mut failures = Vec::new();
        self.pool.spread(
            list.iter(),
            |seat, regression| seat.run(&regression.options),
            |index, done| {
                progress.step();
                if let Some(failure) = done.failure {
                    let found = list[index].found.clone();
                    if !self.json {
                        progress.print(&format!("{failure}\nonce found {found}\n"));
                    }
                    failures.push(Again { found, failure });
                }
                ControlFlow::Continue(())
            },
        )?;
        progress.finish();
        let summary = Summary { runs: list.len(), failures };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else {
            println!("{} regressions, {} failed", summary.runs, summary.failures.len());
        }
        Ok(summary.failures.is_empty())
    }
}

/// The list without comments and empty lines.
fn parse(list: &str) -> Result<Vec<Regression>, BadLine> {
    let lines = list.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| parse_line(line).map_err(|text| BadLine { line: number, text }))
        .collect()
}

fn parse_line(line: &str) -> Result<Regression, String> {
    #[derive(Parser)]
    #[command(no_binary_name = true, disable_help_flag = true)]
    struct Line {
        seed: u64,
        #[command(flatten)]
        shape: Shape,
    }

    let (run, found) = line.split_once(DASH).ok_or_else(|| format!("no `{DASH}` before what it found"))?;
    if found.trim().is_empty() {
        return Err(format!("nothing after `{DASH}`: say what it found"));
    }
    let Line { seed, shape } = Line::try_parse_from(run.split_whitespace()).map_err(|error| {
        let text = error.to_string();
        // The first paragraph says what is wrong, the rest how the whole command is used.
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        paragraph.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
    })?;
    Ok(Regression { options: shape.options(seed, None), found: found.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::cli::arguments::as_arguments;
    use crate::run::FaultFamily;

    #[test]
    fn the_list_itself_is_sound() {
        parse(LIST).unwrap();
    }

    #[test]
    fn a_line_is_a_seed_its_options_and_what_it_found() {
        let text =
            "# comment\n\n42 — a vote that was not synced\n  7 --seconds 1.5 --without loss,bit-rot --nodes 5 — a — b";
        let list = parse(text).unwrap();
        assert_eq!(list[0], Regression { options: RunOptions::new(42), found: "a vote that was not synced".into() });
        let options = RunOptions {
            duration: Duration::from_millis(1_500),
            nodes: Some(5),
            without: BTreeSet::from([FaultFamily::Loss, FaultFamily::BitRot]),
            ..RunOptions::new(7)
        };
        assert_eq!(list[1], Regression { options, found: "a — b".into() });
    }

    #[test]
    fn what_shrink_prints_can_be_kept() {
        let options = RunOptions { duration: Duration::from_millis(70), nodes: Some(1), ..RunOptions::new(3) };
        let list = parse(&format!("{} — it", as_arguments(&options))).unwrap();
        assert_eq!(list[0].options, options);
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong() {
        for (line, expected) in [
            ("42", "no `—` before what it found"),
            ("42 —", "nothing after `—`: say what it found"),
            ("x — it", "invalid value 'x' for '<SEED>': invalid digit found in string"),
            ("— it", "the following required arguments were not provided: <SEED>"),
            (
                "1 --seconds 0 — it",
                "invalid value '0' for '--seconds <SECONDS>': must be more than nothing, and finite",
            ),
            ("1 --mutant m — it", "unexpected argument '--mutant' found"),
        ] {
            let error = parse(&format!("1 — first\n{line}")).unwrap_err();
            assert_eq!(error.to_string(), format!("sim/regressions.txt, line 2: {expected}"));
        }
        let error = parse("1 --without lose — it").unwrap_err().to_string();
        assert!(error.contains("invalid value 'lose'") && error.contains("loss"), "{error}");
    }
}
