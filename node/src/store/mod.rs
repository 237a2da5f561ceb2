//! What a node keeps on its disk.

pub mod image;
pub mod log;
