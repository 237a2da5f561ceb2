//! Raft: every openraft type stays in here.
