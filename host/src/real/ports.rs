//! Ports for servers to come.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux takes the ports of outgoing connections from (`net.ipv4.ip_local_port_range`), so that none
/// of those is given a port before its server listens.
const RANGE: Range<u16> = 15_000..32_768;

/// A port of the loopback interface at which nothing listened a moment ago. No two calls of a process get the same one, until
/// all were had; processes begin at different ones.
pub fn free_port() -> u16 {
    static DRAWN: AtomicU16 = AtomicU16::new(0);
    let span = RANGE.end - RANGE.start;
    let first = u16::try_from(std::process::id().wrapping_mul(7_919) % u32::from(span)).unwrap_or_default();
    loop {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed) % span;
        let port = RANGE.start + (first + drawn) % span;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_nor_one_that_is_taken() {
        let taken = TcpListener::bind(("127.0.0.1", free_port() + 1)).unwrap();
        let ports: Vec<u16> = (0..100).map(|_| free_port()).collect();
        let distinct: std::collections::BTreeSet<&u16> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        assert!(!ports.contains(&taken.local_addr().unwrap().port()));
    }
}
