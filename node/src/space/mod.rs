//! How much room a node has, and what follows from it.
//!
//! The reserve is spent in steps, so that what frees room or rests on nothing else goes on longest: below it nothing
//! new is let in (the leader judges by what a majority reports); below half of it nothing is written that can be
//! written later, such as the position log's map and copies of images for peers; images and the log file use the rest.

mod plan;
mod usage;

pub use plan::{Lack, NodeSpace, Room, SpaceOptions, destination_limit, heirs, judge, who_lacks_room};
pub use usage::Usage;

/// Knows how much room this node has.
pub trait OwnSpace: Send + Sync + 'static {
    /// As of a moment ago.
    fn own_space(&self) -> NodeSpace;
}
