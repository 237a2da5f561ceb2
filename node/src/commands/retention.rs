//! `seawall retention`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, stream};
use seawall_host::time::UnixMillis;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use serde::Serialize;

use super::error::CommandError;
use super::{print, print_json};
use crate::config::{self, NodeConfig};
use crate::destination::{self, Deletion, NamedDestination};
use crate::fanout::{expired, wanted};
use crate::restore::{DestinationSource, SourceObject, time_of_state};

/// Ends of objects that are read at a time.
const READS_AT_ONCE: usize = 16;

/// Show what has expired at the destinations of a node.yml and would be deleted. Nothing is deleted.
///
/// The leader of the cluster does that by itself, a grace period after the cluster has agreed to it. Here the same rules
/// are applied to what lies there now, by this machine's clock.
#[derive(Args)]
pub(super) struct RetentionArgs {
    /// Print JSON, with the name of each object.
    #[arg(long)]
    json: bool,
    /// The node.yml that names the destinations and how long they keep what.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only this database; otherwise all that lie there.
    #[arg(long, value_name = "NAME")]
    database: Option<DatabaseName>,
    /// Only this destination.
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
}

/// One database at one destination, as printed.
#[derive(Serialize)]
struct View {
    database: String,
    destination: String,
    /// Whether the cluster deletes anything there.
    deletes: bool,
    levels: Vec<LevelView>,
    expired: Vec<String>,
}

#[derive(Serialize)]
struct LevelView {
    level: &'static str,
    objects: u64,
    bytes: u64,
    expired_objects: u64,
    expired_bytes: u64,
}

impl RetentionArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let config = NodeConfig::load(&self.config, &config::process_environment).await?;
        let wanted = |name: &str| self.destination.as_ref().is_none_or(|wanted| wanted == name);
        let chosen: Vec<_> = config.destinations.iter().filter(|destination| wanted(&destination.name)).collect();
        if chosen.is_empty() {
            let names: Vec<&str> = config.destinations.iter().map(|destination| destination.name.as_str()).collect();
            let problem = format!("{}: it has the destinations [{}]", self.config.display(), names.join(", "));
            return Err(CommandError::usage(problem));
        }
        let mut views = Vec::new();
        for destination in chosen {
            let place = destination::open(destination, &destination::process_environment)
                .map_err(|error| CommandError::usage(format!("{}: {error}", self.config.display())))?;
            for (database, objects) in self.list(&place).await? {
                views.push(look(&place, &database, objects).await?);
            }
        }
        if self.json {
            return print_json(&views);
        }
        views.iter().try_for_each(show)
    }

    async fn list(&self, place: &NamedDestination) -> Result<BTreeMap<DatabaseName, Vec<SourceObject>>, CommandError> {
        let prefix = self.database.as_ref().map_or_else(String::new, |database| format!("{database}/@"));
        let listed = place.destination.list(&prefix).await;
        let origin: Arc<str> = Arc::from(place.destination.url());
        let mut databases: BTreeMap<DatabaseName, Vec<SourceObject>> = BTreeMap::new();
        for object in listed.map_err(|error| CommandError::failure(error.to_string()))? {
            let Some((database, name)) = object.name.split_once("/@") else { continue };
            let parsed = (database.parse::<DatabaseName>(), format!("@{name}").parse::<ObjectName>());
            let (Ok(database), Ok(name)) = parsed else { continue };
            databases.entry(database).or_default().push(SourceObject::listed(&origin, name, object.size));
        }
        Ok(databases)
    }
}

async fn look(
    place: &NamedDestination,
    database: &DatabaseName,
    objects: Vec<SourceObject>,
) -> Result<View, CommandError> {
    let source = DestinationSource::new(Arc::clone(&place.destination), database.clone());
    let read = stream::iter(wanted(&objects)).map(|(state, object)| {
        let source = &source;
        async move { time_of_state(source, object, state.1).await.map(|time| (state, time)) }
    });
    let mut read = read.buffer_unordered(READS_AT_ONCE);
    let mut times = BTreeMap::new();
    while let Some(found) = read.next().await {
        let (state, time) = found.map_err(|error| CommandError::failure(error.to_string()))?;
        times.insert(state, time);
    }
    drop(read);
    let expired: BTreeSet<usize> = expired(&objects, &times, &place.retention, UnixMillis::now()).into_iter().collect();
    let mut levels: BTreeMap<Level, LevelView> = BTreeMap::new();
    for (index, object) in objects.iter().enumerate() {
        let level = object.name.level;
        let view = levels.entry(level).or_insert(LevelView {
            level: level.as_str(),
            objects: 0,
            bytes: 0,
            expired_objects: 0,
            expired_bytes: 0,
        });
        view.objects += 1;
        view.bytes += object.size;
        if expired.contains(&index) {
            view.expired_objects += 1;
            view.expired_bytes += object.size;
        }
    }
    Ok(View {
        database: database.to_string(),
        destination: place.name.clone(),
        deletes: place.retention.deletion == Deletion::Expired,
        levels: levels.into_values().collect(),
        expired: expired.into_iter().map(|index| objects[index].name.to_string()).collect(),
    })
}

fn show(view: &View) -> Result<(), CommandError> {
    let View { database, destination, deletes, levels, .. } = view;
    let note = if *deletes { "" } else { " (`delete: never`: it stays until somebody else deletes it)" };
    print(&format!("{database} at {destination}{note}"))?;
    levels.iter().try_for_each(|level| {
        let LevelView { level, objects, bytes, expired_objects, expired_bytes } = level;
        let name = if *level == "snapshot" { "snapshots".to_owned() } else { format!("level {level}") };
        print(&format!(
            "  {name}: {expired_objects} of {objects} objects have expired, {expired_bytes} of {bytes} bytes"
        ))
    })
}
