//! What a server gives to those that come.

use std::time::Duration;

/// What a server gives to those that come, most of it before it knows who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address (for IPv6, from one /64).
    pub connections_per_address: usize,
    /// Connections at once that nobody was let in by yet. Where there are more, the oldest of the address that has most
    /// is closed.
    pub connections_waiting: usize,
    /// How long it may take from connecting until somebody is let in; and the head of an HTTP/1 request.
    pub handshake_timeout: Duration,
    /// A connection without a call for this long is closed.
    pub idle_timeout: Duration,
    /// Bytes of the head of a request.
    pub header_bytes: u32,
    /// Calls at once on a connection.
    pub streams: u32,
    /// Connections a minute that are refused for who they are, by address. What comes from there beyond is closed unheard
    /// until the minute is over.
    pub failures_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_address: 2048,
            connections_waiting: 512,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
            header_bytes: 16 << 10,
            streams: 512,
            failures_per_minute: 120,
        }
    }
}
