//! The gRPC services of a node.

pub mod admission;
pub mod ingest;
