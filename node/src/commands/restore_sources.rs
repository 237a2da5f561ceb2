//! The sources of `seawall restore`: as they are named, or as a node's configuration has them.

use std::path::Path;

use seawall_host::net::Address;
use seawall_proto::database_name::DatabaseName;

use super::error::CommandError;
use crate::config::{self, NodeConfig};
use crate::destination::{self, DestinationConfig, DestinationOptions};
use crate::restore::{ClusterSource, DestinationSource, MultiSource, RestoreSource, SourceUrl};

/// Opens what was named, in that order, and then what `config` (a file, and a database) adds: the cluster, its
/// directories, its other destinations. Nothing is connected to yet.
pub(super) async fn open_sources(
    urls: &[SourceUrl],
    config: Option<(&Path, &DatabaseName)>,
    allow_stale: bool,
) -> Result<(DatabaseName, Box<dyn RestoreSource>), CommandError> {
    let mut sources: Vec<Box<dyn RestoreSource>> = Vec::new();
    let mut wanted: Option<DatabaseName> = config.map(|(_, database)| database.clone());
    for url in urls {
        let (SourceUrl::Cluster { database, .. } | SourceUrl::Destination { database, .. }) = url;
        let first = wanted.get_or_insert_with(|| database.clone());
        if first != database {
            let problem = format!("the sources name two databases, `{first}` and `{database}`: restore one at a time");
            return Err(CommandError::usage(problem));
        }
        sources.push(match url {
            SourceUrl::Cluster { nodes, database } => {
                Box::new(ClusterSource::new(nodes.clone(), database.clone(), allow_stale))
            }
            SourceUrl::Destination { root, database } => {
                let options = DestinationOptions::default();
                let destination = destination::open_url(root, &options, &destination::process_environment)
                    .map_err(|error| CommandError::usage(error.to_string()))?;
                Box::new(DestinationSource::new(destination, database.clone()))
            }
        });
    }
    if let Some((file, database)) = config {
        sources.extend(configured(file, database, allow_stale).await?);
    }
    let database = wanted.ok_or_else(|| CommandError::usage("name a SOURCE, or a --config with its --database"))?;
    // A single one is waited for as long as it takes; of several, one that hangs is left out.
    let source = if sources.len() == 1 { sources.remove(0) } else { Box::new(MultiSource::new(sources)) };
    Ok((database, source))
}

async fn configured(
    file: &Path,
    database: &DatabaseName,
    allow_stale: bool,
) -> Result<Vec<Box<dyn RestoreSource>>, CommandError> {
    let config = NodeConfig::load(file, &config::process_environment).await?;
    let nodes: Vec<Address> = config.members.iter().map(|member| member.address.clone()).collect();
    let mut sources: Vec<Box<dyn RestoreSource>> =
        vec![Box::new(ClusterSource::new(nodes, database.clone(), allow_stale))];
    let is_directory = |destination: &&DestinationConfig| destination.url.starts_with("file://");
    let (near, far): (Vec<_>, Vec<_>) = config.destinations.iter().partition(is_directory);
    for destination in near.into_iter().chain(far) {
        let opened = destination::open(destination, &destination::process_environment)
            .map_err(|error| CommandError::usage(format!("{}: {error}", file.display())))?;
        sources.push(Box::new(DestinationSource::new(opened.destination, database.clone())));
    }
    Ok(sources)
}
