//! `--check` of the services: their configuration is read, and the certificates and tokens that it names; nothing else
//! happens.

use std::path::Path;

use super::error::CommandError;
use super::print;
use crate::config::ConfigError;
use crate::security::SecurityError;

/// Says that the configuration in `file` is right, and what it names for security can be used, as `check` finds; or fails
/// with what is wrong: exit code 1.
pub(super) async fn print_checked<T>(
    file: &Path,
    loaded: Result<T, ConfigError>,
    check: impl AsyncFnOnce(&T) -> Result<(), SecurityError>,
) -> Result<(), CommandError> {
    let loaded = loaded.map_err(|error| CommandError::failure(error.to_string()))?;
    let checked = check(&loaded).await;
    checked.map_err(|error| CommandError::failure(format!("{}: {error}", file.display())))?;
    print(&format!("{}: ok", file.display()))
}
