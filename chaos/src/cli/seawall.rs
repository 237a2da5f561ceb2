//! The program under test: built from this tree, or given.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A program that nobody exchanges while it is used.
pub(super) struct Program {
    path: PathBuf,
    _directory: TempDir,
}

impl Program {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Builds `seawall` as this harness was built (with or without optimisation), with these features beside its own, and takes a copy.
pub(super) fn build(features: &[&str]) -> anyhow::Result<Program> {
    cargo_build(features)?;
    copy(&beside("seawall")?)
}

/// A copy of this program.
pub(super) fn copy(program: &Path) -> anyhow::Result<Program> {
    let directory = tempfile::Builder::new().prefix("chaos-program-").tempdir()?;
    let path = directory.path().join("seawall");
    fs::copy(program, &path).with_context(|| format!("{} cannot be copied", program.display()))?;
    Ok(Program { path, _directory: directory })
}

fn cargo_build(features: &[&str]) -> anyhow::Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    ensure!(manifest.exists(), "the sources are no longer at {}: name a program with --seawall", manifest.display());
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut arguments: Vec<OsString> =
        ["build", "--locked", "--quiet", "-p", "seawall", "--bin", "seawall"].map(Into::into).into();
    if !features.is_empty() {
        arguments.extend(["--features".into(), features.join(",").into()]);
    }
    if !cfg!(debug_assertions) {
        arguments.push("--release".into());
    }
    let target = directory()?.parent().map(Path::to_owned).context("this program lies in no directory of cargo's")?;
    let status = Command::new(cargo)
        .args(arguments)
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .context("cargo cannot be run: name a program with --seawall")?;
    ensure!(status.success(), "seawall could not be built");
    Ok(())
}

fn directory() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("this program cannot be found")?;
    program.parent().map(Path::to_owned).context("this program lies in no directory")
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = directory()?.join(name);
    ensure!(program.exists(), "{} was not built: name a program with --seawall", program.display());
    Ok(program)
}
