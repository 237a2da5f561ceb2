//! The network of a run: hosts with addresses of their own, and a router between them that can do to packets what networks do.

mod host;
mod link;
mod namespaces;
mod router;

use std::io;
use std::net::Ipv4Addr;

pub use host::Host;
pub use link::{Effect, HostIndex};
pub use router::Router;

/// The hosts of a run and what is between them.
pub struct Network {
    hosts: Vec<Host>,
    router: Option<Router>,
}

impl Network {
    /// Why hosts cannot have networks of their own here, if they cannot.
    pub fn obstacle() -> Option<String> {
        namespaces::obstacle()
    }

    /// Hosts with these names. Each has a network namespace of its own; the harness routes between them, and what is random in
    /// that follows `seed`.
    ///
    /// # Errors
    /// The kernel, or a tool, refuses.
    pub fn of_namespaces(names: &[String], seed: u64) -> io::Result<Self> {
        let (mut hosts, mut devices) = (Vec::new(), Vec::new());
        for (name, address) in names.iter().zip(addresses([10, 77])) {
            let (host, device) = Host::start(name, address, move || namespaces::enter(address))?;
            hosts.push(host);
            devices.push((address, device));
        }
        Ok(Self { hosts, router: Some(Router::start(devices, seed)?) })
    }

    /// Hosts with these names that only have addresses: all on the loopback interface, where nothing can be done to packets.
    /// `run` tells runs beside one another apart.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn of_loopback(names: &[String], run: u8) -> io::Result<Self> {
        let start = |(name, address): (&String, _)| Ok(Host::start(name, address, || Ok(()))?.0);
        let hosts = names.iter().zip(addresses([127, 77 + run % 100])).map(start).collect::<io::Result<_>>()?;
        Ok(Self { hosts, router: None })
    }

    /// The hosts, as they were named.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// The router; nothing on loopback.
    pub fn router(&self) -> Option<&Router> {
        self.router.as_ref()
    }

    /// The places of the hosts that `wanted` says.
    pub fn indices(&self, wanted: impl Fn(&str) -> bool) -> Vec<HostIndex> {
        self.hosts.iter().enumerate().filter(|(_, host)| wanted(host.name())).map(|(index, _)| index).collect()
    }
}

fn addresses([first, second]: [u8; 2]) -> impl Iterator<Item = Ipv4Addr> {
    (1..=250).map(move |last| Ipv4Addr::new(first, second, 0, last))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    /// Two hosts, or nothing where that cannot be.
    fn two_hosts() -> Option<Network> {
        if let Some(obstacle) = Network::obstacle() {
            // The kernel may refuse; tools are there in CI.
            assert!(std::env::var_os("CI").is_none() || !obstacle.contains("install"), "{obstacle}");
            eprintln!("SKIPPED: {obstacle}");
            return None;
        }
        Some(Network::of_namespaces(&["one".to_owned(), "two".to_owned()], 1).unwrap())
    }

    /// A server on the second host that gives everything back.
    fn echo(network: &Network) -> SocketAddr {
        let address = SocketAddr::from((network.hosts()[1].address(), 7000));
        let listener = network.hosts()[1].within(move || TcpListener::bind(address)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn connect(network: &Network, to: SocketAddr) -> io::Result<TcpStream> {
        network.hosts()[0].within(move || TcpStream::connect_timeout(&to, SOON))
    }

    #[test]
    fn hosts_reach_one_another_and_not_the_machine() {
        let Some(network) = two_hosts() else { return };
        let server = echo(&network);
        let mut stream = connect(&network, server).unwrap();
        stream.write_all(&[7; 100_000]).unwrap();
        let mut back = vec![0; 100_000];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [7; 100_000]);
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = connect(&network, outside.local_addr().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_partition_holds_packets_up_and_tcp_goes_on_when_it_ends() {
        let Some(network) = two_hosts() else { return };
        let server = echo(&network);
        let mut stream = connect(&network, server).unwrap();
        let router = network.router().unwrap();
        // One way only: the answers are lost.
        let fault = router.begin(&[1], &[0], Effect::cut());
        assert!(matches!(connect(&network, server).unwrap_err().kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock));
        stream.write_all(b"hello").unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut back = [0; 5];
        assert!(stream.read_exact(&mut back).is_err());
        router.end(fault);
        stream.set_read_timeout(Some(100 * SOON)).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
    }

    #[test]
    fn delay_and_loss_slow_a_stream_down_and_change_nothing_in_it() {
        let Some(network) = two_hosts() else { return };
        let server = echo(&network);
        let both = [0, 1];
        let effect = Effect { delay: Duration::from_millis(20), loss: 0.02, ..Effect::default() };
        network.router().unwrap().begin(&both, &both, effect);
        let mut stream = loop {
            if let Ok(stream) = connect(&network, server) {
                break stream;
            }
        };
        let sent: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
        stream.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, sent);
    }
}
