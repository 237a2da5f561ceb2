//! `--check` of the services: their configuration is read, and nothing else happens.

use std::path::Path;

use super::error::CommandError;
use super::print;
use crate::config::ConfigError;

/// Says that the configuration in `file` is right, or fails with what is wrong: exit code 1.
pub(super) fn print_checked<T>(file: &Path, loaded: Result<T, ConfigError>) -> Result<(), CommandError> {
    loaded.map_err(|error| CommandError::failure(error.to_string()))?;
    print(&format!("{}: ok", file.display()))
}
