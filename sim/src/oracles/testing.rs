//! Made-up databases for the tests of oracles.

use std::time::Duration;

use seawall_proto::position::{Lineage, PageSize, Position, Txid};

use crate::application::history::{Content, SourceHistory};

/// The page size of all of them.
pub(crate) const PAGE_SIZE: PageSize = match PageSize::new(512) {
    Ok(size) => size,
    Err(_) => unreachable!(),
};

/// A database of two pages full of `tag`.
pub(crate) fn image(tag: u8) -> Vec<u8> {
    vec![tag; 1024]
}

/// What [`image`] is.
pub(crate) fn content(tag: u8) -> Content {
    Content::of_image(&image(tag), PAGE_SIZE)
}

/// A source that was [`image`] of each tag in turn.
pub(crate) fn history(tags: &[u8]) -> SourceHistory {
    let mut history = SourceHistory::new();
    for (at, tag) in tags.iter().enumerate() {
        history.record(Duration::from_secs(at as u64), content(*tag));
    }
    history
}

/// A position at which the database is [`image`] of `tag`.
pub(crate) fn position(lineage: u64, txid: u64, tag: u8) -> Position {
    Position { lineage: Lineage(lineage), txid: Txid(txid), checksum: content(tag).checksum }
}
