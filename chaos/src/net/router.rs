//! The router between the hosts: every packet between two of them passes through the harness, which does to it what the links'
//! faults say. The kernels of real machines are on both sides of it: a lost packet is retransmitted by a real TCP.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tun_rs::SyncDevice;

use super::link::{Effect, HostIndex, Links};

/// The largest packet; larger than Ethernet's, so that fewer of them have to be looked at.
pub(super) const MTU: u16 = 9000;

/// Routes packets until the network is gone.
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    devices: Vec<(Ipv4Addr, SyncDevice)>,
    state: Mutex<State>,
    due: Condvar,
}

struct State {
    links: Links,
    rng: StdRng,
    waiting: BinaryHeap<Reverse<Waiting>>,
    next_packet: u64,
    has_ended: bool,
}

/// A packet that arrives later. Ordered by time, then by age.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    arrives: Duration,
    number: u64,
    to: HostIndex,
    packet: Vec<u8>,
}

impl Router {
    /// Routes between `devices`, each with its host's address; what is random follows `seed`.
    pub(super) fn start(devices: Vec<(Ipv4Addr, SyncDevice)>, seed: u64) -> io::Result<Self> {
        let state = State {
            links: Links::default(),
            rng: StdRng::seed_from_u64(seed),
            waiting: BinaryHeap::new(),
            next_packet: 0,
            has_ended: false,
        };
        let shared = Arc::new(Shared { began: Instant::now(), devices, state: Mutex::new(state), due: Condvar::new() });
        for from in 0..shared.devices.len() {
            let shared = Arc::clone(&shared);
            // It ends with the program: a read of a device that has nothing to say cannot be called off.
            thread::Builder::new().name(format!("router {from}")).spawn(move || shared.read(from))?;
        }
        let late = Arc::clone(&shared);
        thread::Builder::new().name("router, late packets".to_owned()).spawn(move || late.deliver_late())?;
        Ok(Self { shared })
    }

    /// From now on packets from any of `from` to any of `to` suffer `effect`. The answer takes it back.
    pub fn begin(&self, from: &[HostIndex], to: &[HostIndex], effect: Effect) -> u64 {
        self.shared.lock().links.begin(from.iter().copied(), to.iter().copied(), effect)
    }

    /// Takes a fault back.
    pub fn end(&self, fault: u64) {
        self.shared.lock().links.end(fault);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.due.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, from: HostIndex) {
        let mut buffer = vec![0; usize::from(MTU)];
        while let Ok(len) = self.devices[from].1.recv(&mut buffer) {
            let packet = &buffer[..len];
            let Some(to) = destination(packet).and_then(|to| self.devices.iter().position(|(at, _)| *at == to)) else {
                continue;
            };
            let now = self.began.elapsed();
            let mut state = self.lock();
            if state.has_ended {
                return;
            }
            let State { links, rng, .. } = &mut *state;
            match links.arrival(now, from, to, len, rng) {
                None => {}
                Some(at) if at <= now => {
                    drop(state);
                    self.deliver(to, packet);
                }
                Some(arrives) => {
                    let number = state.next_packet;
                    state.next_packet += 1;
                    state.waiting.push(Reverse(Waiting { arrives, number, to, packet: packet.to_vec() }));
                    self.due.notify_all();
                }
            }
        }
    }

    fn deliver_late(&self) {
        let mut state = self.lock();
        while !state.has_ended {
            let now = self.began.elapsed();
            let next = state.waiting.peek().map(|Reverse(waiting)| waiting.arrives);
            state = match next {
                None => self.due.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(arrives) if arrives > now => {
                    self.due.wait_timeout(state, arrives - now).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    if let Some(Reverse(waiting)) = state.waiting.pop() {
                        drop(state);
                        self.deliver(waiting.to, &waiting.packet);
                        state = self.lock();
                    }
                    state
                }
            };
        }
    }

    /// A device that does not take the packet (its queue is full) loses it, as any would.
    fn deliver(&self, to: HostIndex, packet: &[u8]) {
        let _ = self.devices[to].1.send(packet);
    }
}

/// Where an IPv4 packet goes (RFC 791, section 3.1); nothing for what is none.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let version = packet.first()? >> 4;
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (version == 4).then(|| address.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_destination_of_ipv4_only() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 77, 0, 3]);
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 77, 0, 3)));
        packet[0] = 0x65;
        assert_eq!(destination(&packet), None);
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = destination(&bytes);
        }
    }
}
