//! What an application is written in.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tools;

/// The package by which Node speaks to SQLite.
const NODE_PACKAGE: &str = "better-sqlite3";

/// What an application is written in. Each leaves to SQLite's library what that decides by itself: better-sqlite3 does not sync
/// the WAL at each commit (`synchronous=NORMAL`), the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// Python's sqlite3: small transactions, now and then one of about 2 MB in many rows.
    Python,
    /// The shell `sqlite3` as a coprocess of bash: checkpoints of its own, in half of its lives no automatic ones.
    Shell,
    /// Node's better-sqlite3: prepared statements, now and then a blob of 2 MB.
    Node,
}

impl Language {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::Shell, Self::Node];

    /// What cannot be found on this machine, and how to install it; nothing if all is there.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Python => tools::missing(&[("python3", "apt-get install python3")]),
            Self::Shell => tools::missing(&[
                ("bash", "apt-get install bash"),
                ("stdbuf", "apt-get install coreutils"),
                ("sqlite3", "apt-get install sqlite3"),
            ]),
            Self::Node => tools::missing(&[("node", "apt-get install nodejs")])
                .or_else(|| self.node_modules().err().map(|error| error.to_string())),
        }
    }

    /// The file name of its program, and the program.
    pub(super) fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Python => ("writer.py", include_str!("../../applications/writer.py")),
            Self::Shell => ("writer.sh", include_str!("../../applications/writer.sh")),
            Self::Node => ("writer.mjs", include_str!("../../applications/writer.mjs")),
        }
    }

    /// What runs the program.
    pub(super) fn interpreter(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Shell => "bash",
            Self::Node => "node",
        }
    }

    /// The directory of the packages that it needs, if it needs any.
    pub(super) fn node_modules(self) -> io::Result<Option<PathBuf>> {
        if self != Self::Node {
            return Ok(None);
        }
        tools::find_node_modules(NODE_PACKAGE).map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "Node's package {NODE_PACKAGE} is nowhere: npm install --prefix DIRECTORY {NODE_PACKAGE}, and put \
                     DIRECTORY/node_modules into CHAOS_NODE_MODULES"
                ),
            )
        })
    }
}
