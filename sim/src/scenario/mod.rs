//! A run from beginning to end: a cluster, destinations, hosts with applications and agents, faults, healing, and the
//! final comparison.

mod cluster;
mod configuration;
mod finale;
mod host;
mod image_watch;
mod play;
mod positions;
mod raft_watch;
mod restores;
mod stage;

pub use cluster::{Cluster, SimNode};
pub use configuration::Configuration;
pub use host::Host;
pub use play::{play, set_up};
pub use positions::PositionWatch;
pub use restores::{GivenBack, Operator, RestoreFailure};
pub use stage::Stage;
