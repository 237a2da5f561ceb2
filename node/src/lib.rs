//! The replicator node: consensus, storage, fan-out, destinations, restore, services, and the commands of `seawall`.

pub mod commands;
pub mod config;
pub mod consensus;
pub mod demo;
pub mod destination;
pub mod fanout;
pub mod http;
pub mod membership;
pub mod node;
pub mod replica;
pub mod restore;
pub mod service;
pub mod space;
pub mod state;
pub mod store;
pub mod verification;
