//! Every kind of destination keeps the same contract, against a real server.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, unreachable_pub)]
// What starts a kind's server stands idle where the kind is left out.
#![cfg_attr(not(all(feature = "abs", feature = "gs", feature = "s3", feature = "sftp")), allow(dead_code))]

mod program;
mod proxy;
mod suite;

#[cfg(feature = "abs")]
mod abs;
mod file;
#[cfg(feature = "gs")]
mod gs;
#[cfg(feature = "gs")]
mod gs_double;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
#[path = "../s3_server/mod.rs"]
mod s3_server;
#[cfg(feature = "sftp")]
mod sftp;
