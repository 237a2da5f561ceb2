//! Names of databases.

use std::fmt;
use std::str::FromStr;

/// The name a database is registered under: segments of letters, digits, `.`, `_` and `-`, joined by `/`, such as
/// `app` or `tenants/acme`. No segment is `.` or `..` or begins with `@`, so a name is also a path at a destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseName(String);

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// A text that is no database name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a database name: use up to 200 letters, digits, `.`, `_`, `-`, in parts joined by `/`")]
pub struct InvalidDatabaseName(String);

impl DatabaseName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseName {
    type Err = InvalidDatabaseName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fine = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if text.len() <= MAX_NAME_BYTES && text.split('/').all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDatabaseName(text.chars().take(MAX_NAME_BYTES).collect()))
        }
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_that_are_paths_and_refuses_the_rest() {
        for good in ["app", "tenants/acme", "a.b_c-d/9"] {
            assert_eq!(good.parse::<DatabaseName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", "/", "a/", "/a", "a//b", ".", "a/../b", "@1", "a b", "ä", "a\0", long.as_str()] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad:?}");
        }
    }
}
