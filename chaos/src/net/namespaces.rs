//! Network namespaces (`man 7 network_namespaces`), one a host, each with one TUN device whose other end the router holds.

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::router::MTU;

const DEVICE: &str = "eth0";

/// Tries it on a thread that ends at once.
pub(super) fn obstacle() -> Option<String> {
    let attempt = thread::spawn(|| enter(Ipv4Addr::new(10, 77, 0, 251)));
    let outcome = attempt.join().unwrap_or_else(|_| Err(io::Error::other("the attempt panicked")));
    outcome.err().map(|error| format!("{error}; hosts of their own need root (or CAP_NET_ADMIN and CAP_SYS_ADMIN)"))
}

/// Moves the calling thread into a new namespace with this address.
pub(super) fn enter(address: Ipv4Addr) -> io::Result<SyncDevice> {
    let explain = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| explain("no network namespace can be made", error.into()))?;
    let device = DeviceBuilder::new().name(DEVICE).mtu(MTU).build_sync();
    let device = device.map_err(|error| explain("no TUN device can be made", error))?;
    ip(&["address", "add", &format!("{address}/24"), "dev", DEVICE])?;
    ip(&["link", "set", DEVICE, "up"])?;
    ip(&["link", "set", "lo", "up"])?;
    Ok(device)
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let shown = arguments.join(" ");
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("`ip {shown}`: {error}; install Debian's iproute2")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("`ip {shown}`: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
