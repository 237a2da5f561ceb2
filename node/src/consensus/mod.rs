//! Raft: every openraft type stays in here.

pub mod runtime;
pub mod types;
