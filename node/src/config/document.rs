//! Reading a configuration file into typed values, with the place of each for error messages.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Spanned};

use super::expand::expand;

/// A configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        cause: String,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// Where `${VAR}` gets its values.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A value as it stands in the file.
pub(super) type Raw = Spanned<String>;

/// A configuration file that is being read.
pub(super) struct Document<'a> {
    file: &'a Path,
    base: PathBuf,
    environment: Environment<'a>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, environment: Environment<'a>) -> Self {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let base = absolute.parent().map_or_else(PathBuf::new, Path::to_owned);
        Self { file, base, environment }
    }

    /// Where `${VAR}` gets its values.
    pub(super) fn environment(&self) -> Environment<'a> {
        self.environment
    }

    /// Parses the text of the file into its raw form.
    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ConfigError> {
        // No snippets: they would print secrets that stand near the mistake.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            self.at(line, explain(error.without_snippet()))
        })
    }

    /// An error at a line.
    pub(super) fn at(&self, line: u64, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { file: self.file.to_owned(), line, problem: problem.into() }
    }

    /// The expanded text of a value.
    pub(super) fn text(&self, raw: &Raw) -> Result<String, ConfigError> {
        expand(&raw.value, self.environment).map_err(|error| self.at(raw.referenced.line(), error.to_string()))
    }

    /// A value parsed as `T`.
    pub(super) fn value<T: FromStr<Err: std::fmt::Display>>(&self, key: &str, raw: &Raw) -> Result<T, ConfigError> {
        let text = self.text(raw)?;
        text.parse().map_err(|error| self.at(raw.referenced.line(), format!("{key}: {error}")))
    }

    /// A path, made absolute from the directory of the file.
    pub(super) fn path(&self, key: &str, raw: &Raw) -> Result<PathBuf, ConfigError> {
        let text = self.text(raw)?;
        if text.is_empty() {
            return Err(self.at(raw.referenced.line(), format!("{key}: a path is needed")));
        }
        Ok(self.base.join(text).components().collect())
    }

    /// A time span, such as `1h 30m`.
    pub(super) fn duration(&self, key: &str, raw: &Raw) -> Result<Duration, ConfigError> {
        let text = self.text(raw)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map_err(|error| self.at(line(raw), format!("{key}: `{text}`: {error}; write 10s, 1m 30s, 1h …")))
    }

    /// A URL with the path of `file://` made absolute from the directory of the file.
    pub(super) fn url(&self, raw: &Raw) -> Result<String, ConfigError> {
        let text = self.text(raw)?;
        match text.strip_prefix("file://") {
            Some("") => Err(self.at(raw.referenced.line(), "url: file:// needs a path, such as file:///backups")),
            Some(path) => {
                // The joins leave `.` components behind, which are part of no object's name.
                let path: PathBuf = self.base.join(path).components().collect();
                Ok(format!("file://{}", path.display()))
            }
            None if text.contains("://") => Ok(text),
            None => Err(self.at(
                raw.referenced.line(),
                format!("url: `{text}` is not a URL: write file:///path or s3://bucket/prefix"),
            )),
        }
    }
}

/// The line a value stands on.
pub(super) fn line<T>(raw: &Spanned<T>) -> u64 {
    raw.referenced.line()
}

fn explain(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let nearest = expected.iter().max_by(|a, b| {
                strsim::jaro_winkler(field, a).total_cmp(&strsim::jaro_winkler(field, b)).then_with(|| b.cmp(a))
            });
            match nearest {
                Some(nearest) => {
                    format!("unknown key `{field}`; did you mean `{nearest}`? Valid here: {}", expected.join(", "))
                }
                None => format!("unknown key `{field}`; nothing is valid here"),
            }
        }
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        other => {
            let options = serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off };
            other.render_with_options(options)
        }
    }
}
