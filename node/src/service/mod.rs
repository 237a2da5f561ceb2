//! The gRPC services of a node.

pub mod admission;
pub mod cluster;
pub mod ingest;
pub mod restore;
