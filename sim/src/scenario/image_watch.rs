//! Watches for images that are found damaged.
//!
//! Nodes build a damaged image again and go on, so nothing else would show that they damage them themselves.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use crate::stage::Stage;
use crate::world;

const LOOK: Duration = Duration::from_millis(500);

/// The rare path that a node takes when it finds an image damaged.
const QUARANTINED: &str = "image quarantined";

/// What a disk must have done for that.
const EXCUSES: [&str; 3] = ["bit-rot", "image-rot", "disk-error"];

/// Looks until it is dropped.
pub(super) async fn watch(stage: Arc<Stage>) {
    loop {
        time::sleep(LOOK).await;
        let world = world::current();
        if !world.paths_reached().contains_key(QUARANTINED) {
            continue;
        }
        let strikes = stage.strikes.counts();
        if !EXCUSES.iter().any(|excuse| strikes.contains_key(*excuse)) {
            let text = "a node found an image damaged, and no disk ever failed or rotted".to_owned();
            world.violate("images survive every death of their node", text);
        }
        return;
    }
}
