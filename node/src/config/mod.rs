//! Configuration files: YAML with kebab-case keys, `${VAR}` expanded in every value. What is unknown or contradicts
//! itself is refused with file, line and advice.

mod agent;
mod destination;
mod disk;
mod document;
mod expand;
mod history;
mod node;
mod size;

pub use agent::{AgentConfig, DatabaseConfig};
pub use disk::DiskConfig;
pub use document::{ConfigError, Environment, process_environment};
pub use node::{MemberConfig, NodeConfig};
