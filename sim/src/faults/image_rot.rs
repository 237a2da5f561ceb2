//! Images that rot: pages and page vectors, of one node, which has to notice and to mend them.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_node::restore::{ClusterSource, When};

use super::{draw, strike, wait};
use crate::disk::Crash;
use crate::oracles::restored_equals_source;
use crate::stage::{RestoreFailure, Stage};
use crate::world;

/// A restore that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bits of the images of one node change, so few that the other nodes have everything, and somebody reads them.
pub(super) async fn rot(stage: Arc<Stage>) {
    wait(3_000..20_000).await;
    let nodes = stage.cluster.nodes();
    let index = match stage.cluster.leader() {
        Some(leader) if draw(|random| random.chance(0.5)) => leader,
        _ => draw(|random| random.index(nodes.len())),
    };
    if !stage.cluster.rot_images(index) {
        return;
    }
    for _ in 0..draw(|random| random.range(1..5)) {
        if nodes[index].lost().is_some() {
            return;
        }
        let vector = draw(|random| random.chance(0.4));
        let disk = world::current().disk_of(nodes[index].machine);
        let rotten = disk.rot_one(|path, len| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let struck = name.starts_with(if vector { "vector." } else { "image." });
            if path.starts_with("/data/images") && struck { len } else { 0 }
        });
        if let Some(rotten) = rotten {
            strike(&stage, "image-rot", || format!("node {}: {rotten:?}", index + 1));
        }
        // What is in memory is not read from the disk.
        if (vector || draw(|random| random.chance(0.3))) && !stage.cluster.is_held_down(index) {
            stage.cluster.hold_down(index, Crash::Process);
            wait(10..500).await;
            stage.cluster.bring_up(index);
        }
        wait(0..3_000).await;
        read(&stage, index).await;
        wait(100..6_000).await;
    }
}

/// Restores every database from a node, whatever it has: it may refuse, and must not be wrong.
pub(super) async fn read(stage: &Stage, index: usize) {
    for source in stage.hosts.iter().flat_map(|host| host.application.sources()) {
        let (address, name) = (stage.cluster.nodes()[index].address.clone(), source.name().clone());
        let origin = move || Arc::new(ClusterSource::new(vec![address.clone()], name.clone(), true)) as _;
        let restore = stage.operator.restore(origin, When::Newest, None);
        let wrong = match time::timeout(PATIENCE, restore).await {
            Ok(Ok(given)) => {
                let compare = |history: &_| {
                    restored_equals_source::check(&given.image, given.page_size, &given.position, history)
                };
                source.with_history(compare).err()
            }
            Ok(Err(RestoreFailure::Broken(why))) => Some(why),
            Ok(Err(_)) | Err(_) => None,
        };
        if let Some(wrong) = wrong {
            let text = format!("`{}` from node {}, whose image rots: {wrong}", source.name(), index + 1);
            world::current().violate("never a wrong database", text);
        }
    }
}
