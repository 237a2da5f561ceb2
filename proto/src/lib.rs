//! What two Seawall machines must agree on: the gRPC services, the segment format, positions, checksums and the
//! names of objects. Pure: no I/O, no clock, no randomness.

pub mod checksum;
pub mod database_name;
pub mod object_name;
pub mod position;
pub mod segment;

/// The gRPC messages and services, generated from `proto/seawall/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("seawall.v1");
}

/// The largest payload of one log entry and one append message: segments above it travel in parts.
pub const MAX_PART_BYTES: usize = 512 << 10;

/// The largest gRPC message that any Seawall server or client accepts.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
