//! `node.yml`.

use std::path::{Path, PathBuf};

use seawall_host::disk;
use seawall_host::net::Address;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::destination::{RawDestination, parse_destinations};
use super::disk::{DiskConfig, RawDisk};
use super::document::{ConfigError, Document, Environment, Raw, line};
use crate::destination::DestinationConfig;

/// The largest configuration file, in bytes.
pub(super) const MAX_FILE_BYTES: usize = 1 << 20;

/// What a replicator node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its label in the cluster, from 1.
    pub id: u64,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Where it listens for agents, peers and operators.
    pub listen: Address,
    /// Where it serves metrics and health, if anywhere.
    pub http: Option<Address>,
    /// The name of the cluster.
    pub cluster_name: String,
    /// Every node of the cluster, this one included, in the order of the file.
    pub members: Vec<MemberConfig>,
    /// What its data may take of the disk.
    pub disk: DiskConfig,
    /// Where the cluster uploads to.
    pub destinations: Vec<DestinationConfig>,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its label, from 1.
    pub id: u64,
    /// Where agents and peers reach it.
    pub address: Address,
}

impl NodeConfig {
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
        let raw: RawNodeFile = document.parse(text)?;
        let id = parse_id(&document, "node.id", &raw.node.id)?;
        let members = parse_members(&document, &raw.cluster)?;
        if !members.iter().any(|member| member.id == id) {
            let known: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
            let problem = format!("node.id: {id} is not among cluster.nodes ({})", known.join(", "));
            return Err(document.at(line(&raw.node.id), problem));
        }
        let listen: Address = document.value("node.listen", &raw.node.listen)?;
        if let Some(other) = members.iter().find(|member| member.id != id && member.address == listen) {
            let problem = format!("node.listen: {listen} is the address of node {}", other.id);
            return Err(document.at(line(&raw.node.listen), problem));
        }
        let http = match &raw.node.http {
            None => None,
            Some(http) => {
                let address: Address = document.value("node.http", http)?;
                if address == listen {
                    return Err(document.at(line(http), format!("node.http: {address} is node.listen already")));
                }
                Some(address)
            }
        };
        let cluster_name = document.text(&raw.cluster.name)?;
        if cluster_name.is_empty() || cluster_name.len() > 100 {
            return Err(document.at(line(&raw.cluster.name), "cluster.name: write 1 to 100 bytes"));
        }
        let data_dir = document.path("node.data-dir", &raw.node.data_dir)?;
        let disk = DiskConfig::parse(&document, &raw.disk)?;
        let destinations = parse_destinations(&document, &raw.destinations)?;
        Ok(Self { id, data_dir, listen, http, cluster_name, members, disk, destinations })
    }
}

/// Reads the text of a configuration file.
pub(super) async fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause: String| ConfigError::Unreadable { file: file.to_owned(), cause };
    let bytes = disk::read_file(file, MAX_FILE_BYTES).await.map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes.into()).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))
}

fn parse_id(document: &Document<'_>, key: &str, raw: &Raw) -> Result<u64, ConfigError> {
    match document.text(raw)?.parse() {
        Ok(id) if id >= 1 => Ok(id),
        _ => Err(document.at(line(raw), format!("{key}: `{}` is not a number from 1", raw.value))),
    }
}

fn parse_members(document: &Document<'_>, raw: &RawCluster) -> Result<Vec<MemberConfig>, ConfigError> {
    let mut members: Vec<MemberConfig> = Vec::new();
    for raw in &raw.nodes {
        let id = parse_id(document, "cluster.nodes.id", &raw.id)?;
        let address: Address = document.value("cluster.nodes.address", &raw.address)?;
        if members.iter().any(|member| member.id == id) {
            return Err(document.at(line(&raw.id), format!("cluster.nodes: the id {id} occurs twice")));
        }
        if let Some(other) = members.iter().find(|member| member.address == address) {
            let problem = format!("cluster.nodes: {address} is the address of node {} already", other.id);
            return Err(document.at(line(&raw.address), problem));
        }
        members.push(MemberConfig { id, address });
    }
    Ok(members)
}

// ---- the file as it stands

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawNodeFile {
    node: RawNode,
    cluster: RawCluster,
    #[serde(default)]
    disk: RawDisk,
    #[serde(default)]
    destinations: Vec<RawDestination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawNode {
    id: Spanned<String>,
    data_dir: Spanned<String>,
    listen: Spanned<String>,
    http: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawCluster {
    name: Spanned<String>,
    nodes: Vec<RawMember>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawMember {
    id: Spanned<String>,
    address: Spanned<String>,
}
