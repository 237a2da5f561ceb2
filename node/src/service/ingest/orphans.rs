//! Transactions in parts whose stream ended in the midst of them.
//!
//! The rest never comes: whoever ships it again begins with its first part, by another stream. Until somebody does, the
//! parts that arrived keep the log from getting shorter, and if there is no room for them nobody can begin again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seawall_host::probe::sometimes;
use seawall_host::time;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;

use super::Shared;

/// One that is seen to be orphaned twice, so long after each other, is let go of.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// While this node leads, it has the cluster let go of parts whose stream is over.
pub(super) async fn let_go(shared: Arc<Shared>) {
    let mut seen: BTreeMap<DatabaseName, u64> = BTreeMap::new();
    loop {
        time::sleep(LOOK_EVERY).await;
        let replica = &shared.replica;
        if !replica.leadership().is_leader {
            seen.clear();
            continue;
        }
        let orphan = |name: DatabaseName| {
            let stream = replica.open_stream(&name)?;
            (shared.streams.live(&name) != Some(stream)).then_some((name, stream))
        };
        let orphans: BTreeMap<_, _> = replica.databases().into_iter().filter_map(orphan).collect();
        for (database, stream) in &orphans {
            if seen.get(database) != Some(stream) {
                continue;
            }
            let abandon = v1::AbandonCommand { database: database.to_string(), stream: *stream };
            let command = v1::Command { command: Some(v1::command::Command::Abandon(abandon)) };
            if let Ok(Ok(_)) = time::timeout(LOOK_EVERY, replica.propose(command, Bytes::new())).await {
                sometimes("transaction in parts let go of after its stream ended");
                tracing::info!(%database, "a transaction was cut off in the midst of it: what had arrived is let go of");
            }
        }
        seen = orphans;
    }
}
