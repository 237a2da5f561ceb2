//! Doors by raw sockets, and the destinations themselves by other people's clients.

mod door;
mod places;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::net::Host;

const PATIENCE: Duration = Duration::from_secs(20);

/// A host whose loopback address no other test has.
fn host(last: u8) -> Host {
    Host::start("destination-1", Ipv4Addr::new(127, 77, 9, last), || Ok(())).unwrap().0
}
