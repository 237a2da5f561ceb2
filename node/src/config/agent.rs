//! `agent.yml`.

use std::path::{Path, PathBuf};

use seawall_host::net::Address;
use seawall_proto::database_name::DatabaseName;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::document::{ConfigError, Document, Environment, line};
use super::node::read;

/// Where an agent listens for `seawall sync` unless told otherwise.
const DEFAULT_SOCKET: &str = "agent.sock";

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// The cluster's nodes; any of them will do to find the leader.
    pub cluster: Vec<Address>,
    /// Where it listens for `seawall sync`.
    pub socket: PathBuf,
    /// What it captures.
    pub databases: Vec<DatabaseConfig>,
}

/// One database that an agent captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// The name in the cluster.
    pub name: DatabaseName,
}

impl AgentConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and advice.
    pub async fn load(file: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::parse(file, &read(file).await?, environment)
    }

    /// Parses the text of the configuration file at `file`, whose directory relative paths start from.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and advice.
    pub fn parse(file: &Path, text: &str, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let document = Document::new(file, environment);
        let raw: RawAgentFile = document.parse(text)?;
        let mut cluster = Vec::new();
        for raw in &raw.cluster {
            let address: Address = document.value("cluster", raw)?;
            if cluster.contains(&address) {
                return Err(document.at(line(raw), format!("cluster: {address} occurs twice")));
            }
            cluster.push(address);
        }
        if cluster.is_empty() {
            return Err(document.at(1, "cluster: name at least one node, such as [ 127.0.0.1:7400 ]"));
        }
        let mut databases: Vec<DatabaseConfig> = Vec::new();
        for raw in &raw.dbs {
            let path = document.path("dbs.path", &raw.path)?;
            let name: DatabaseName = document.value("dbs.name", &raw.name)?;
            if databases.iter().any(|other| other.name == name) {
                return Err(document.at(line(&raw.name), format!("dbs: the name `{name}` occurs twice")));
            }
            if let Some(other) = databases.iter().find(|other| other.path == path) {
                let problem = format!("dbs: {} is captured as `{}` already", path.display(), other.name);
                return Err(document.at(line(&raw.path), problem));
            }
            databases.push(DatabaseConfig { path, name });
        }
        if databases.is_empty() {
            return Err(document.at(1, "dbs: name at least one database, such as [ { path: app.db, name: app } ]"));
        }
        let socket = raw.socket.unwrap_or_else(|| {
            let nowhere = serde_saphyr::Location::UNKNOWN;
            Spanned::new(DEFAULT_SOCKET.to_owned(), nowhere, nowhere)
        });
        let socket = document.path("socket", &socket)?;
        Ok(Self { cluster, socket, databases })
    }
}

// ---- the file as it stands

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawAgentFile {
    cluster: Vec<Spanned<String>>,
    socket: Option<Spanned<String>>,
    dbs: Vec<RawDatabase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawDatabase {
    path: Spanned<String>,
    name: Spanned<String>,
}
