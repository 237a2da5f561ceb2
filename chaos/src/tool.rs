//! The program under test, called as an operator calls it: what it prints as JSON, or what it says on standard error.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::history::{Position, Promise};
use crate::net::Host;

/// The `seawall` program.
#[derive(Clone)]
pub struct Tool {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// What `seawall restore` is given to read from somewhere.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started or read from.
    #[error("seawall cannot be run: {0}")]
    Io(#[from] io::Error),
    /// It took too long, and was killed.
    #[error("seawall gave no answer within {0:?}")]
    Timeout(Duration),
    /// It panicked, or was ended by a signal; what it said.
    #[error("seawall crashed: {0}")]
    Crashed(String),
    /// It failed; what it said.
    #[error("{0}")]
    Failed(String),
    /// It succeeded and printed something else than expected.
    #[error("seawall printed what was not expected: {0}")]
    Unexpected(String),
}

impl Tool {
    /// This program, always with these variables.
    pub fn new(program: PathBuf, environment: Vec<(OsString, OsString)>) -> Self {
        Self { program, environment }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The variables it is called with.
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// What `seawall version` says.
    ///
    /// # Errors
    /// [`ToolError`]
    pub fn version(&self) -> Result<String, ToolError> {
        let mut command = Command::new(&self.program);
        let output = command.arg("version").envs(self.environment.iter().cloned()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && said.contains("seawall") {
            return Ok(said);
        }
        Err(ToolError::Unexpected(format!("{} is no seawall: it says {said:?}", self.program.display())))
    }

    /// Calls it on `host` and reads the JSON that it prints. It is killed after `limit`.
    ///
    /// # Errors
    /// [`ToolError`]
    pub fn call(&self, host: &Host, arguments: &[OsString], limit: Duration) -> Result<Value, ToolError> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(arguments);
        command.envs(self.environment.iter().cloned()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = host.within(move || command.spawn())?;
        let group = Pid::from_raw(child.id().cast_signed());
        let (answer, outcome) = channel();
        thread::spawn(move || answer.send(child.wait_with_output()));
        let output = match outcome.recv_timeout(limit) {
            Ok(output) => output?,
            Err(_) => {
                // It may have ended just now.
                let _ = killpg(group, Signal::SIGKILL);
                return Err(ToolError::Timeout(limit));
            }
        };
        parse(&output)
    }

    /// `seawall sync`: what it promised.
    ///
    /// # Errors
    /// [`ToolError`]: nothing is promised, and nothing follows from that.
    pub fn sync(
        &self,
        host: &Host,
        socket: &Path,
        database: &str,
        receipt: &str,
        limit: Duration,
    ) -> Result<Promise, ToolError> {
        let timeout = format!("{}ms", limit.as_millis());
        let arguments = ["sync", "--json", "--receipt", receipt, "--timeout", &timeout, "--socket"];
        let mut arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        arguments.extend([socket.into(), database.into()]);
        let answer = self.call(host, &arguments, limit + Duration::from_secs(5))?;
        promise(&answer).ok_or_else(|| ToolError::Unexpected(answer.to_string()))
    }

    /// `seawall status` of the nodes at these addresses.
    ///
    /// # Errors
    /// [`ToolError`]
    pub fn status(&self, host: &Host, cluster: &str, limit: Duration) -> Result<Value, ToolError> {
        self.call(host, &["status", "--json", "--cluster", cluster].map(Into::into), limit)
    }

    /// `seawall restore` of a database from somewhere: the position that it printed.
    ///
    /// # Errors
    /// [`ToolError`]
    pub fn restore(
        &self,
        host: &Host,
        source: &Source,
        txid: Option<u64>,
        output: &Path,
        limit: Duration,
    ) -> Result<Position, ToolError> {
        let mut arguments: Vec<OsString> = ["restore", "--json", "--no-resume", "-o"].iter().map(Into::into).collect();
        arguments.push(output.into());
        if let Some(txid) = txid {
            arguments.extend(["--txid".into(), txid.to_string().into()]);
        }
        arguments.extend_from_slice(&source.arguments);
        let mut tool = self.clone();
        tool.environment.extend_from_slice(&source.environment);
        let answer = tool.call(host, &arguments, limit)?;
        position(&answer).ok_or_else(|| ToolError::Unexpected(answer.to_string()))
    }
}

fn parse(output: &Output) -> Result<Value, ToolError> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        let what = format!("{}: {}", output.status, last.trim());
        // 101 is what a panic ends with.
        let crashed = output.status.code().is_none_or(|code| code == 101);
        return Err(if crashed { ToolError::Crashed(what) } else { ToolError::Failed(what) });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| ToolError::Unexpected(format!("{error}: {}", String::from_utf8_lossy(&output.stdout))))
}

fn position(answer: &Value) -> Option<Position> {
    Some(Position {
        lineage: answer.get("lineage")?.as_u64()?,
        txid: answer.get("txid")?.as_u64()?,
        checksum: answer.get("checksum")?.as_str()?.to_owned(),
    })
}

fn promise(answer: &Value) -> Option<Promise> {
    let destinations = answer.get("receipt")?.get("destinations")?.as_object()?;
    let destinations = destinations.iter().map(|(name, txid)| Some((name.clone(), txid.as_u64()?)));
    Some(Promise {
        position: position(answer)?,
        epoch: answer.get("epoch")?.as_u64()?,
        destinations: destinations.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_sync_prints_and_nothing_less() {
        let mut answer = serde_json::json!({
            "database": "app", "lineage": 1, "epoch": 2, "txid": 3, "checksum": "0000000000c0ffee",
            "receipt": { "quorum": 3, "destinations": { "s3": 2 } },
        });
        let promised = promise(&answer).unwrap();
        assert_eq!((promised.epoch, promised.position.txid, promised.destinations["s3"]), (2, 3, 2));
        answer["receipt"]["destinations"]["s3"] = "2".into();
        assert_eq!(promise(&answer), None);
    }
}
