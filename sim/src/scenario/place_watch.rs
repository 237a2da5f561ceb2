//! Watches what nodes create at destinations.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_proto::object_name::ObjectName;

use crate::destination::Change;
use crate::oracles::whole_objects;
use crate::stage::Stage;
use crate::world;

const LOOK: Duration = Duration::from_millis(250);

/// Looks until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    let mut seen = vec![0; stage.cluster.places().len()];
    loop {
        time::sleep(LOOK).await;
        for (place, seen) in stage.cluster.places().iter().zip(&mut seen) {
            let news = place.journal_since(*seen);
            *seen += news.len();
            for entry in &news {
                let (Change::Created { hash, .. } | Change::Replaced { hash, .. }) = entry.change else { continue };
                let name =
                    entry.name.split_once("/@").and_then(|(_, name)| format!("@{name}").parse::<ObjectName>().ok());
                // What went or rotted since shows nothing of what was created.
                let content = place.peek(&entry.name).filter(|content| xxhash_rust::xxh3::xxh3_64(content) == hash);
                let (Some(name), Some(content)) = (name, content) else { continue };
                if let Err(error) = whole_objects::check(&name, content) {
                    let text = format!("{} at {}: {error}", entry.name, place.name());
                    world::current().violate("what a node creates at a destination is whole", text);
                }
            }
        }
    }
}
