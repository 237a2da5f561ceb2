//! `chaos scenarios`.

use clap::Args;

use crate::scenario;

/// List the scenarios: their names, and what each does.
#[derive(Args)]
pub(super) struct Scenarios {}

impl Scenarios {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        for scenario in scenario::all() {
            let place = if scenario.ci { " (in CI)" } else { "" };
            println!("{}{place}: {}", scenario.name, scenario.about.trim());
        }
        Ok(true)
    }
}
