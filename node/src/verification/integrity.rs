//! Having SQLite check what a destination gives back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use seawall_host::disk;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};

use super::context::Context;
use super::pace::PacedSource;
use crate::restore::{DestinationSource, IntegrityCheck, Progress, RestoreOptions, When, restore};

/// Nobody looks on.
struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, message: &str) {
        tracing::debug!("while restoring for an integrity check: {message}");
    }
}

/// Restores a state into the scratch directory and has SQLite check it, if that was chosen; answers what is wrong.
pub(super) async fn check(
    context: &Context,
    database: &DatabaseName,
    place: usize,
    lineage: Lineage,
    txid: Txid,
) -> Option<String> {
    let place = &context.places[place];
    let integrity_check = place.named.verification.integrity_check;
    if integrity_check == IntegrityCheck::None {
        return None;
    }
    let head = context.replica.database(database)?.head;
    let room = context.replica.space().own.said;
    if let Some(problem) = lacks_room(u64::from(head.page_count) * u64::from(head.page_size), room.free, room.reserve) {
        return Some(problem);
    }
    // One at a time for each destination, so no other restore has this name.
    let output = context.scratch.join(format!("{}.db", place.named.name));
    if let Err(error) = disk::create_directories(&context.scratch).await {
        return Some(format!("no integrity check: {error}"));
    }
    let source = PacedSource {
        inner: DestinationSource::new(Arc::clone(&place.named.destination), database.clone()),
        pace: Arc::clone(&place.pace),
    };
    let options = RestoreOptions {
        when: When::Txid(txid),
        lineage: Some(lineage),
        force: true,
        integrity_check,
        resume: false,
        parallelism: 2,
        ..RestoreOptions::new(output)
    };
    let restored = restore(&source, &options, &Silent).await;
    if let Err(error) = clear(&context.scratch, &place.named.name).await {
        tracing::warn!(%error, "what an integrity check restored is not removed");
    }
    restored.err().map(|error| format!("the integrity check of txid {txid} failed: {error}"))
}

/// Why a database of this size must not be restored beside the node's data, if it must not.
fn lacks_room(bytes: u64, free: u64, reserve: u64) -> Option<String> {
    let room = free.saturating_sub(reserve);
    (bytes > room).then(|| {
        format!(
            "no integrity check: the database has {bytes} bytes, and above the reserve {room} are free on the leader"
        )
    })
}

/// Removes what integrity checks left in `scratch` under names that contain `name`.
pub(super) async fn clear(scratch: &Path, name: &str) -> io::Result<()> {
    if !disk::exists(scratch).await? {
        return Ok(());
    }
    for entry in disk::list(scratch).await?.into_iter().filter(|entry| entry.name.contains(name)) {
        match disk::remove_file(&scratch.join(&entry.name)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_restored_only_into_what_is_free_above_the_reserve() {
        assert_eq!(lacks_room(100, 150, 50), None);
        assert!(lacks_room(101, 150, 50).unwrap().contains("101 bytes, and above the reserve 100"));
        assert!(lacks_room(1, 10, 50).is_some());
    }
}
