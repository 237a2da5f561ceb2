//! `seawall token`.

use std::path::PathBuf;

use clap::Args;
use seawall_host::{local, task};
use serde::Serialize;

use super::error::CommandError;
use super::{print, print_json};
use crate::security::{Action, Pattern, Token};

/// Make a token, and print the line of node.yml that lets it in.
///
/// The token itself is for the agent's or client's `token-file`; nodes keep its hash alone.
#[derive(Args)]
pub(super) struct TokenArgs {
    /// Its name, in logs and messages.
    #[arg(value_name = "NAME")]
    name: String,
    /// The databases that it is for: names, with `*` for anything within a part, `**` for anything at all.
    #[arg(long, value_name = "PATTERN,…", value_delimiter = ',', required = true)]
    databases: Vec<Pattern>,
    /// What it allows with them: write (agents), restore, admin.
    #[arg(long, value_name = "ACTION,…", value_delimiter = ',', required = true)]
    actions: Vec<Action>,
    /// Write the token to this file, which must not exist, for its owner alone; otherwise it is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A new token, as printed.
#[derive(Serialize)]
struct TokenView<'a> {
    name: &'a str,
    /// Nothing if it was written to a file.
    token: Option<&'a str>,
    hash: String,
    config: String,
}

impl TokenArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        if self.name.is_empty() || self.name.len() > 100 || self.name.chars().any(char::is_control) {
            return Err(CommandError::usage("NAME: write 1 to 100 printable bytes"));
        }
        let token = Token::generate();
        if let Some(file) = self.output.clone() {
            let content = format!("{}\n", token.reveal());
            let written = task::blocking(move || local::write_file(&file, content.as_bytes(), 0o600, false)).await;
            let written = written.map_err(|error| CommandError::failure(error.to_string()))?;
            written.map_err(|error| CommandError::failure(error.to_string()))?;
        }
        let config = self.config_line(&token)?;
        if self.json {
            let shown = self.output.is_none().then(|| token.reveal());
            return print_json(&TokenView { name: &self.name, token: shown, hash: token.hash().to_string(), config });
        }
        match &self.output {
            Some(file) => print(&format!("# {} has the token; name it as token-file.", file.display()))?,
            None => print(&format!("# The token, for a file that only its user can read:\n{}", token.reveal()))?,
        }
        print(&format!("# For `tokens` of every node.yml, taken without a restart:\n{config}"))
    }

    /// The entry of `tokens`, as YAML (which JSON is).
    fn config_line(&self, token: &Token) -> Result<String, CommandError> {
        let quote = |text: &str| {
            // `${` stands for a variable in configuration files.
            serde_json::to_string(&text.replace('$', "$$")).map_err(|error| CommandError::failure(error.to_string()))
        };
        let patterns: Result<Vec<String>, _> =
            self.databases.iter().map(|pattern| quote(&pattern.to_string())).collect();
        let actions: Vec<&str> = self.actions.iter().map(|action| action.as_str()).collect();
        Ok(format!(
            "  - {{ name: {}, hash: \"{}\", databases: [{}], actions: [{}] }}",
            quote(&self.name)?,
            token.hash(),
            patterns?.join(", "),
            actions.join(", ")
        ))
    }
}
