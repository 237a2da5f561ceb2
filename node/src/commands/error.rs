//! What a command says when it fails.

use std::fmt;

use crate::config::ConfigError;

/// A failed command: one message with cause and advice, and how the process ends.
#[derive(Debug)]
pub(super) struct CommandError {
    message: String,
    exit_code: u8,
}

impl CommandError {
    /// Something did not work: exit code 1.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }

    /// The command line or a configuration file is wrong: exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 2 }
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}
