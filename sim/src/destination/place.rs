//! A place outside the cluster that outlives every node.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use seawall_node::destination::{Destination, ListedObject, NamedDestination, Retention, VerificationOptions, Windows};
use xxhash_rust::xxh3::xxh3_64;

use crate::random::Stream;
use crate::world::{self, Machine};

use super::client::SimDestination;
use super::exchange::{Arrival, Failure};
use super::faults::PlaceFaults;
use super::journal::{Change, JournalEntry};
use super::plan::{self, Draws, Kind, Plan};
use super::store::{Store, Stored};
use super::{FORGOTTEN, STALE_LISTING};

/// The far end of destinations: an object store that no machine of the world holds. Nodes reach it through
/// [`Place::destination`]; oracles look at it directly, without latency and without faults.
#[derive(Debug)]
pub struct Place {
    name: String,
    url: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: PlaceFaults,
    store: Store,
    /// When the burst of refusals ends.
    throttled_until: Duration,
    requests: u64,
}

impl Place {
    /// An empty place without faults. `name` is what configurations call it.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), url: format!("sim://{name}"), state: Mutex::default() })
    }

    /// What configurations call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, for people.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A handle for one life of one node.
    pub fn destination(self: &Arc<Self>) -> Arc<dyn Destination> {
        Arc::new(SimDestination::new(Arc::clone(self)))
    }

    /// A handle for one life of one node, as its parts want it.
    pub fn named(
        self: &Arc<Self>,
        windows: &Windows,
        retention: &Retention,
        verification: &VerificationOptions,
    ) -> NamedDestination {
        NamedDestination {
            name: self.name.clone(),
            windows: windows.clone(),
            retention: retention.clone(),
            verification: verification.clone(),
            destination: self.destination(),
        }
    }

    /// The faults now.
    pub fn faults(&self) -> PlaceFaults {
        self.state().faults.clone()
    }

    /// Changes the faults from now on.
    pub fn change_faults(&self, change: impl FnOnce(&mut PlaceFaults)) {
        change(&mut self.state().faults);
    }

    /// Ends all faults, a burst under way too; see [`PlaceFaults::healed`]. What was forgotten or corrupted stays so.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults = state.faults.healed();
        state.throttled_until = Duration::ZERO;
    }

    /// The object `name`, as it really is.
    pub fn peek(&self, name: &str) -> Option<Bytes> {
        self.state().store.get(name)
    }

    /// The names of all objects that are there, in order.
    pub fn names(&self) -> Vec<String> {
        self.state().store.names()
    }

    /// The objects that are there and begin with `prefix`, in the order of names.
    pub fn objects_below(&self, prefix: &str) -> Vec<ListedObject> {
        self.state().store.list(prefix)
    }

    /// How many objects are there.
    pub fn objects(&self) -> usize {
        self.state().store.len()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> u64 {
        self.state().store.bytes()
    }

    /// How many requests were sent to it, those that never arrived too.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Everything that happened to objects, in order.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.journal_since(0)
    }

    /// The same without its first `seen` entries.
    pub fn journal_since(&self, seen: usize) -> Vec<JournalEntry> {
        self.state().store.journal().get(seen..).unwrap_or_default().to_vec()
    }

    /// The names of the objects that it acknowledged, lost, and was not given again (nor told to delete) since.
    pub fn forgotten(&self) -> Vec<String> {
        self.state().store.forgotten().iter().cloned().collect()
    }

    /// The names of the objects that are there and are not what was uploaded.
    pub fn corrupted(&self) -> Vec<String> {
        self.state().store.corrupted().iter().cloned().collect()
    }

    /// Turns over one bit of one object that was whole, both drawn. Answers which, `None` if there is none.
    pub fn corrupt_one(&self) -> Option<String> {
        let world = world::current();
        let mut state = self.state();
        let whole = |name: &String| !state.store.corrupted().contains(name);
        let candidates: Vec<_> = state.store.list("").into_iter().filter(|object| object.size > 0).collect();
        let candidates: Vec<_> = candidates.into_iter().map(|object| object.name).filter(whole).collect();
        let (name, bit) = world.draw(Stream::Destination, |random| (random.pick(&candidates).cloned(), random.u64()));
        let name = name?;
        state.store.corrupt(world.time(), &name, bit);
        drop(state);
        self.tell("corrupted at place", &name);
        Some(name)
    }

    /// Loses one object, drawn. Answers which, `None` if there is none.
    pub fn lose_one(&self) -> Option<String> {
        let world = world::current();
        let mut state = self.state();
        let names = state.store.names();
        let name = world.draw(Stream::Destination, |random| random.pick(&names).cloned())?;
        state.store.lose(world.time(), &name);
        drop(state);
        self.tell("forgotten by place", &name);
        Some(name)
    }

    /// Turns over one bit, drawn, of the object `name`, if it is there and whole. Answers whether it did.
    pub fn corrupt(&self, name: &str) -> bool {
        let world = world::current();
        let bit = world.draw(Stream::Destination, |random| random.u64());
        let mut state = self.state();
        let is_damaged = !state.store.corrupted().contains(name) && state.store.corrupt(world.time(), name, bit);
        drop(state);
        if is_damaged {
            self.tell("corrupted at place", name);
        }
        is_damaged
    }

    /// The names of all objects that were ever created, in order.
    pub fn created(&self) -> BTreeSet<String> {
        let journal = self.journal();
        let created = journal.into_iter().filter(|entry| matches!(entry.change, Change::Created { .. }));
        created.map(|entry| entry.name).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what happened to the object `name` into the history of the world.
    fn tell(&self, event: &'static str, name: &str) {
        world::current().event(event, xxh3_64(name.as_bytes()), || format!("{} {name}", self.url));
    }
}

/// What requests find when they arrive.
impl Place {
    /// Decides what becomes of a request that is sent now.
    pub(super) fn plan(&self, kind: Kind) -> Plan {
        let world = world::current();
        let draws = world.draw(Stream::Destination, Draws::draw);
        let mut state = self.state();
        let State { faults, throttled_until, requests, .. } = &mut *state;
        *requests += 1;
        plan::plan(faults, kind, world.time(), throttled_until, &draws)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state().faults.gone
    }

    /// Whether a request that is under way is allowed, and finds room for `bytes` more.
    pub(super) fn admits(&self, bytes: u64) -> Result<(), Failure> {
        let state = self.state();
        if state.faults.refuses {
            return Err(Failure::refused());
        }
        let full = |capacity| state.store.bytes().saturating_add(bytes) > capacity;
        if bytes > 0 && state.faults.capacity.is_some_and(full) {
            return Err(Failure::unavailable("507: it is full"));
        }
        Ok(())
    }

    pub(super) fn creates_conditionally(&self) -> bool {
        !self.state().faults.unconditional
    }

    pub(super) fn creation_begins(&self, name: &str) {
        self.state().store.creation_begins(name);
    }

    pub(super) fn creation_ends(&self, name: &str) {
        self.state().store.creation_ends(name);
    }

    /// Creates an object as `plan` has it.
    pub(super) fn create(self: &Arc<Self>, name: &str, content: Bytes, plan: &Plan, arrival: Arrival) -> Stored {
        let mut state = self.state();
        let conditional = !state.faults.unconditional;
        if conditional && plan.conflicts && state.store.creations_under_way(name) > 1 {
            return Stored::Existed;
        }
        let stored = state.store.create((arrival.at, arrival.by), name, content, conditional);
        drop(state);
        if let Stored::New(generation) = stored {
            self.tell("created at place", name);
            if let Some(after) = plan.forgotten_after {
                self.forget(name, generation, after);
            }
        }
        stored
    }

    /// Loses an object after a while.
    fn forget(self: &Arc<Self>, name: &str, generation: u64, after: Duration) {
        let (place, name) = (Arc::clone(self), name.to_owned());
        let forget = move || {
            let world = world::current();
            if place.state().store.forget(world.time(), &name, generation) {
                place.tell("forgotten by place", &name);
                world.reached(FORGOTTEN);
            }
        };
        if after.is_zero() {
            return forget();
        }
        world::current().spawn_on(Machine::SIMULATOR, async move {
            seawall_host::time::sleep(after).await;
            forget();
        });
    }

    pub(super) fn delete(&self, name: &str, arrival: Arrival) {
        self.state().store.delete((arrival.at, arrival.by), name);
        self.tell("deleted at place", name);
    }

    pub(super) fn read(&self, name: &str, offset: u64, length: u64) -> Option<Bytes> {
        self.state().store.read(name, offset, length)
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.state().store.get(name).is_some()
    }

    /// Lists as `plan` has it: perhaps the past.
    pub(super) fn list(&self, prefix: &str, plan: &Plan, arrival: Arrival) -> Vec<ListedObject> {
        let state = self.state();
        let present = state.store.list(prefix);
        if plan.staleness.is_zero() {
            return present;
        }
        let past = state.store.list_as_of(prefix, arrival.at.saturating_sub(plan.staleness));
        if past != present {
            world::current().reached(STALE_LISTING);
        }
        past
    }
}
