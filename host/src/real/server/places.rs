//! Which connections a server has, who has to make room for others, and who is not heard for a while.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::net::Limits;
use crate::time::Instant;

/// How long what was refused from an address counts.
const FAILURES_WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered for what was refused from them.
const REMEMBERED: usize = 4096;

/// Where a connection comes from; nothing for unix sockets.
pub(super) type Source = Option<IpAddr>;

/// Those of one IPv6 network count together: everybody has as many addresses there as they like.
fn source_of(address: Option<IpAddr>) -> Source {
    address.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    })
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// There are too many.
    Full,
    /// There are too many from its address.
    AddressFull,
    /// Too much was refused from its address of late.
    Barred,
}

impl Turned {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::Barred => "barred",
        }
    }
}

/// The connections of a server.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    all: usize,
    by_source: BTreeMap<Source, usize>,
    /// Those by which nobody was let in yet, the oldest first.
    waiting: BTreeMap<u64, (Source, Arc<Notify>)>,
    failures: BTreeMap<Source, Failures>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in, if need be in the place of another that nobody was let in by.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Turned> {
        let source = source_of(address);
        let limits = &self.limits;
        let mut state = self.lock();
        if state.is_barred(source, limits.failures_per_minute, Instant::now()) {
            return Err(Turned::Barred);
        }
        if state.by_source.get(&source).is_some_and(|count| *count >= limits.connections_per_address) {
            return Err(Turned::AddressFull);
        }
        if state.all >= limits.connections || state.waiting.len() >= limits.connections_waiting {
            let sources = state.waiting.iter().map(|(number, (source, _))| (*number, *source));
            let Some((source, evicted)) = oldest_of_most(sources).and_then(|number| state.waiting.remove(&number))
            else {
                return Err(Turned::Full);
            };
            evicted.notify_one();
            state.leave(source);
        }
        let number = state.next;
        state.next += 1;
        state.all += 1;
        *state.by_source.entry(source).or_default() += 1;
        let evicted = Arc::new(Notify::new());
        state.waiting.insert(number, (source, Arc::clone(&evicted)));
        Ok(Place { places: Arc::clone(self), number, source, evicted, is_let_in: false })
    }

    /// Lets go of a connection that nobody was let in by, of the address that has most of them.
    pub(super) fn make_room(&self) {
        let mut state = self.lock();
        let sources = state.waiting.iter().map(|(number, (source, _))| (*number, *source));
        if let Some((source, evicted)) = oldest_of_most(sources).and_then(|number| state.waiting.remove(&number)) {
            evicted.notify_one();
            state.leave(source);
        }
    }
}

impl State {
    fn leave(&mut self, source: Source) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    fn is_barred(&self, source: Source, limit: u32, now: Instant) -> bool {
        let failures = self.failures.get(&source);
        failures.is_some_and(|failures| failures.count >= limit && now - failures.since < FAILURES_WINDOW)
    }

    /// Notes a refusal; whether it is the first in its time.
    fn fail(&mut self, source: Source, now: Instant) -> bool {
        if self.failures.len() >= REMEMBERED && !self.failures.contains_key(&source) {
            self.failures.retain(|_, failures| now - failures.since < FAILURES_WINDOW);
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.since).map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| self.failures.len() >= REMEMBERED) {
                self.failures.remove(&oldest);
            }
        }
        let failures = self.failures.entry(source).or_insert(Failures { since: now, count: 0 });
        if now - failures.since >= FAILURES_WINDOW {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        failures.count == 1
    }
}

/// The oldest of the source that has most; of several such sources, the oldest of all.
fn oldest_of_most(waiting: impl Iterator<Item = (u64, Source)>) -> Option<u64> {
    let mut by_source: BTreeMap<Source, (usize, u64)> = BTreeMap::new();
    for (number, source) in waiting {
        let (count, oldest) = by_source.entry(source).or_insert((0, number));
        *count += 1;
        *oldest = number.min(*oldest);
    }
    by_source.into_values().max_by_key(|(count, oldest)| (*count, u64::MAX - oldest)).map(|(_, oldest)| oldest)
}

/// The place of one connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    source: Source,
    evicted: Arc<Notify>,
    is_let_in: bool,
}

impl Place {
    /// Completes when it has to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Somebody was let in by it: it makes no room any more. False if it just did.
    pub(super) fn let_in(&mut self) -> bool {
        self.is_let_in = self.places.lock().waiting.remove(&self.number).is_some();
        self.is_let_in
    }

    /// Who came by it was refused; whether that is news of its address.
    pub(super) fn fail(&self) -> bool {
        self.places.lock().fail(self.source, Instant::now())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        // One that was evicted has left already.
        if self.is_let_in || state.waiting.remove(&self.number).is_some() {
            state.leave(self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn places(connections: usize, per_address: usize, waiting: usize) -> Arc<Places> {
        crate::real::install();
        Arc::new(Places::new(Limits {
            connections,
            connections_per_address: per_address,
            connections_waiting: waiting,
            failures_per_minute: 3,
            ..Limits::default()
        }))
    }

    fn is_evicted(place: &Place) -> bool {
        futures::FutureExt::now_or_never(place.evicted()).is_some()
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let places = places(10, 2, 10);
        let first = places.enter(address(1)).unwrap();
        let _second = places.enter(address(1)).unwrap();
        assert_eq!(places.enter(address(1)).unwrap_err(), Turned::AddressFull);
        assert!(places.enter(address(2)).is_ok());
        drop(first);
        assert!(places.enter(address(1)).is_ok());
    }

    #[test]
    fn who_waits_makes_room_and_who_was_let_in_does_not() {
        let places = places(3, 10, 10);
        let mut known = places.enter(address(1)).unwrap();
        assert!(known.let_in());
        let older = places.enter(address(2)).unwrap();
        let newer = places.enter(address(2)).unwrap();
        let mut late = places.enter(address(3)).unwrap();
        assert!(is_evicted(&older) && !is_evicted(&newer) && !is_evicted(&known));
        assert!(late.let_in());
        let mut last = places.enter(address(4)).unwrap();
        assert!(is_evicted(&newer));
        assert!(last.let_in());
        assert_eq!(places.enter(address(5)).unwrap_err(), Turned::Full);
        drop((older, newer));
        assert_eq!(places.enter(address(5)).unwrap_err(), Turned::Full, "they had left already");
        drop(known);
        assert!(places.enter(address(5)).is_ok());
    }

    #[test]
    fn the_address_that_has_most_waiting_makes_room() {
        let places = places(100, 100, 4);
        let lone = places.enter(address(1)).unwrap();
        let crowd: Vec<Place> = (0..3).map(|_| places.enter(address(2)).unwrap()).collect();
        let more: Vec<Place> = (0..50).map(|_| places.enter(address(2)).unwrap()).collect();
        assert!(!is_evicted(&lone), "it waits longest, and alone");
        assert!(crowd.iter().all(is_evicted));
        assert_eq!(more.iter().filter(|place| !is_evicted(place)).count(), 3);
    }

    #[test]
    fn one_that_was_evicted_is_not_let_in_any_more() {
        let places = places(1, 10, 10);
        let mut first = places.enter(address(1)).unwrap();
        let _second = places.enter(address(2)).unwrap();
        assert!(!first.let_in());
    }

    #[test]
    fn refusals_bar_their_address_for_a_minute() {
        let places = places(10, 10, 10);
        let place = places.enter(address(1)).unwrap();
        assert!(place.fail());
        assert!(!place.fail() && places.enter(address(1)).is_ok());
        assert!(!place.fail());
        assert_eq!(places.enter(address(1)).unwrap_err(), Turned::Barred);
        assert!(places.enter(address(2)).is_ok());
        let state = places.lock();
        let later = Instant::now() + FAILURES_WINDOW;
        assert!(!state.is_barred(address(1), 3, later));
    }

    #[test]
    fn as_many_addresses_are_remembered_as_fit() {
        let mut state = State::default();
        for number in 0..REMEMBERED as u32 + 10 {
            let address = Some(IpAddr::V4(Ipv4Addr::from(number)));
            assert!(state.fail(address, Instant::from_nanos(u64::from(number))));
        }
        assert_eq!(state.failures.len(), REMEMBERED);
        assert!(!state.failures.contains_key(&Some(IpAddr::V4(Ipv4Addr::from(0)))));
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let source = |text: &str| source_of(Some(text.parse().unwrap()));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }
}
