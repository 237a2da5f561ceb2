//! `seawall cert`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::error::CommandError;
use super::{print, print_json};
use crate::security::certificates::{Request, WriteError, plan, write};

/// Make the certificates of a cluster: an authority of its own, and one for each node, agent and client.
///
/// What everybody needs: ca.pem, and the .pem and .key of their own. Keep ca.key apart from all of them: with it anybody
/// can make themselves a node. Nothing is ever overwritten, except certificates by --renew.
#[derive(Args)]
pub(super) struct CertArgs {
    /// The cluster's name, `cluster.name` of node.yml.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// A node: its id, and every host name and address under which others call it. Once for each node.
    #[arg(long = "node", value_name = "ID=HOST,…", value_parser = parse_node)]
    nodes: Vec<(u64, Vec<String>)>,
    /// Agents, by names of your choice.
    #[arg(long = "agent", value_name = "NAME,…", value_delimiter = ',')]
    agents: Vec<String>,
    /// People and their tools, by names of your choice.
    #[arg(long = "client", value_name = "NAME,…", value_delimiter = ',')]
    clients: Vec<String>,
    /// Where the files go.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Sign by the ca.pem and ca.key that are there, and replace the certificates and keys named here.
    #[arg(long)]
    renew: bool,
    /// How many days certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// How many days the authority is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    ca_days: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was made, as printed.
#[derive(Serialize)]
struct CertView {
    files: Vec<String>,
}

fn parse_node(text: &str) -> Result<(u64, Vec<String>), String> {
    let advice = || "write ID=HOST,…, such as 1=10.0.0.1,node1.example.org".to_owned();
    let (id, hosts) = text.split_once('=').ok_or_else(advice)?;
    let id = id.parse().ok().filter(|id| *id >= 1).ok_or_else(advice)?;
    let hosts: Vec<String> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
    let odd = |host: &String| {
        host.is_empty()
            || (host.parse::<std::net::IpAddr>().is_err()
                && !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._*".contains(c)))
    };
    match hosts.iter().find(|host| odd(host)) {
        Some(host) => Err(format!("`{host}` is no host name and no address; {}", advice())),
        None => Ok((id, hosts)),
    }
}

impl CertArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        if self.cluster.is_empty() || self.cluster.len() > 100 {
            return Err(CommandError::usage("--cluster: write 1 to 100 bytes, as in cluster.name of node.yml"));
        }
        let request = Request { nodes: self.nodes, agents: self.agents, clients: self.clients };
        if request == Request::default() {
            return Err(CommandError::usage("name at least one --node, --agent or --client"));
        }
        let plan = plan(&request).map_err(CommandError::usage)?;
        let written = write(&self.output, &self.cluster, &plan, (self.ca_days, self.days), self.renew).await;
        let written = written.map_err(|error| match error {
            WriteError::Exists(_) | WriteError::NoAuthority(_) | WriteError::OtherAuthority { .. } => {
                CommandError::usage(error.to_string())
            }
            error => CommandError::failure(error.to_string()),
        })?;
        let files: Vec<String> = written.iter().map(|file| file.display().to_string()).collect();
        if self.json {
            return print_json(&CertView { files });
        }
        files.iter().try_for_each(|file| print(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_with_their_hosts() {
        let found = parse_node("2=10.0.0.1, node2.example.org,2001:db8::1");
        let hosts = ["10.0.0.1", "node2.example.org", "2001:db8::1"].map(str::to_owned).to_vec();
        assert_eq!(found, Ok((2, hosts)));
        for text in ["", "1", "1=", "0=a", "x=a", "1=a,,b", "1=a b", "1=10.0.0.1:7400"] {
            assert!(parse_node(text).is_err(), "{text}");
        }
    }
}
