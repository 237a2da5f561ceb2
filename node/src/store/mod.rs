//! What a node keeps on its disk.

pub mod image;
pub mod image_blobs;
pub mod kv;
pub mod log;
pub mod position_log;
pub mod sled_kv;
