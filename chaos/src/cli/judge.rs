//! `chaos judge`: a history, judged again.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use crate::history::{ReadError, Reader};
use crate::verdict::{Judge, Verdict};

/// Prints the verdict on a history file, for people or as JSON. Whether it passed.
///
/// # Errors
/// The file cannot be read or is no history, or nothing can be printed.
pub(super) fn judge(path: &Path, json: bool) -> anyhow::Result<bool> {
    let (verdict, torn) = verdict(path)?;
    if let Some(line) = torn {
        eprintln!("{}, line {line}: cut off, and left out: the harness was killed while it wrote", path.display());
    }
    let mut text = if json { serde_json::to_string_pretty(&verdict)? } else { verdict.to_string() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print the verdict")?;
    Ok(verdict.passed)
}

/// The verdict on a history file, and the number of a last line that was cut off, if it was.
///
/// # Errors
/// The file cannot be read or is no history.
pub(crate) fn verdict(path: &Path) -> Result<(Verdict, Option<u64>), ReadError> {
    let mut reader = Reader::open(path)?;
    let mut judge = Judge::default();
    for recorded in reader.by_ref() {
        judge.see(&recorded?);
    }
    Ok((judge.verdict(), reader.torn()))
}
