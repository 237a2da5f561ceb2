//! Reads the nodes' logs, and holds what they give against what was agreed on.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;
use seawall_node::replica::Replica;
use seawall_node::store::image::ImageStore;
use seawall_proto::position::{Lineage, Txid};
use tokio::sync::oneshot;

use crate::oracles::log_gives_history;
use crate::random::Stream;
use crate::stage::Stage;
use crate::world;

/// A node that stands still is not waited for longer.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Records of a database that are read from a log.
const MOST_RECORDS: usize = 5_000;

/// Reads the log of one node after the other until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    let nodes = stage.cluster.nodes().len();
    let pause = Duration::from_secs(2)..Duration::from_secs(8);
    loop {
        let draw = |random: &mut crate::random::Random| (random.duration(pause.clone()), random.index(nodes));
        let (pause, index) = world::current().draw(Stream::Oracles, draw);
        time::sleep(pause).await;
        look(&stage, index, true).await;
    }
}

/// Reads the logs of all nodes.
pub(super) async fn look_at_all(stage: &Stage) {
    for index in 0..stage.cluster.nodes().len() {
        look(stage, index, false).await;
    }
}

/// Reads all that a node's log has of every database's history. While `may_lack`, an image may be further behind than the
/// log reaches.
async fn look(stage: &Stage, index: usize, may_lack: bool) {
    let it = &stage.cluster.nodes()[index];
    let Some(node) = it.node().filter(|_| it.lost().is_none()) else { return };
    let (replica, images) = (node.replica().clone(), node.images().clone());
    drop(node);
    let (answer, answered) = oneshot::channel();
    world::current().spawn_on(it.machine, async move {
        let _ = answer.send(read(&replica, &images, may_lack).await);
    });
    // A node that ends meanwhile gives no answer.
    if let Ok(Ok(Err(error))) = time::timeout(STANDSTILL, answered).await {
        world::current().violate("a node's log gives what was committed", format!("node {}: {error}", index + 1));
    }
}

async fn read(replica: &Replica, images: &ImageStore, may_lack: bool) -> Result<(), String> {
    for name in replica.databases() {
        let Some(view) = replica.database(&name) else { continue };
        let lineage = Lineage(view.head.lineage);
        for record in replica.segments(&name, lineage, Txid::NONE, MOST_RECORDS) {
            // A disk that cannot be read is not the log's doing.
            let Ok(parts) = replica.segment_bytes(&record).await else { continue };
            let status = images.get(&name, lineage).map(|image| image.status());
            let folded = status.filter(|status| status.quarantined.is_none()).map(|status| status.position.txid);
            // A node knows what is missing between image and log, and gets another node's image.
            let is_missing = |folded: Txid| folded < replica.held_after(&name, lineage);
            let is_awaited = |folded: Txid| is_missing(folded) && (may_lack || folded == Txid::NONE);
            let folded = folded.filter(|folded| !is_awaited(*folded));
            log_gives_history::check(&record, parts, folded).map_err(|error| format!("`{name}`: {error}"))?;
        }
    }
    Ok(())
}
