//! The objects at a place, as values: no time passes here and nothing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use seawall_node::destination::{Creation, ListedObject};
use xxhash_rust::xxh3::xxh3_64;

use crate::world::Machine;

use super::journal::{Change, JournalEntry};

/// An object and which creation it is from.
#[derive(Clone, Debug)]
struct Object {
    content: Bytes,
    generation: u64,
}

/// How a creation ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is there now; the number tells it from earlier and later objects of the same name.
    New(u64),
    /// Another one was there before and is untouched.
    Existed,
}

impl From<Stored> for Creation {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::New(_) => Self::Created,
            Stored::Existed => Self::AlreadyExists,
        }
    }
}

/// The objects at a place, and everything that happened to them.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<String, Object>,
    bytes: u64,
    generations: u64,
    journal: Vec<JournalEntry>,
    forgotten: BTreeSet<String>,
    corrupted: BTreeSet<String>,
    /// Creations under way, by name.
    creating: BTreeMap<String, u32>,
}

impl Store {
    /// Creates an object; replaces one of the same name only where `conditional` is false.
    pub(super) fn create(
        &mut self,
        (at, by): (Duration, Machine),
        name: &str,
        content: Bytes,
        conditional: bool,
    ) -> Stored {
        let former = self.objects.get(name).map(|object| object.content.clone());
        if former.is_some() && conditional {
            return Stored::Existed;
        }
        let (size, hash) = (content.len() as u64, xxh3_64(&content));
        let change = match former {
            Some(former) => {
                let former_size = former.len() as u64;
                self.bytes -= former_size;
                Change::Replaced { size, hash, former_size, former_hash: xxh3_64(&former) }
            }
            None => Change::Created { size, hash },
        };
        self.bytes += size;
        self.generations += 1;
        self.forgotten.remove(name);
        self.corrupted.remove(name);
        self.objects.insert(name.to_owned(), Object { content, generation: self.generations });
        self.note(at, by, name, change);
        Stored::New(self.generations)
    }

    /// Removes an object, if it is there.
    pub(super) fn delete(&mut self, (at, by): (Duration, Machine), name: &str) {
        self.forgotten.remove(name);
        if let Some(size) = self.remove(name) {
            self.note(at, by, name, Change::Deleted { size });
        }
    }

    /// Loses an object, unless another has taken its name. Answers whether it did.
    pub(super) fn forget(&mut self, at: Duration, name: &str, generation: u64) -> bool {
        if self.objects.get(name).is_none_or(|object| object.generation != generation) {
            return false;
        }
        self.lose(at, name);
        true
    }

    /// Loses an object, whichever has the name.
    pub(super) fn lose(&mut self, at: Duration, name: &str) {
        if let Some(size) = self.remove(name) {
            self.forgotten.insert(name.to_owned());
            self.note(at, Machine::SIMULATOR, name, Change::Forgotten { size });
        }
    }

    /// Turns over the bit `bit` (counted from the object's beginning, modulo its length). False if there is none.
    pub(super) fn corrupt(&mut self, at: Duration, name: &str, bit: u64) -> bool {
        let Some(object) = self.objects.get_mut(name).filter(|object| !object.content.is_empty()) else {
            return false;
        };
        let mut content = object.content.to_vec();
        let bit = bit % (content.len() as u64 * 8);
        let offset = bit / 8;
        content[offset as usize] ^= 1 << (bit % 8);
        object.content = content.into();
        self.corrupted.insert(name.to_owned());
        self.note(at, Machine::SIMULATOR, name, Change::Corrupted { offset });
        true
    }

    fn remove(&mut self, name: &str) -> Option<u64> {
        let size = self.objects.remove(name)?.content.len() as u64;
        self.bytes -= size;
        self.corrupted.remove(name);
        Some(size)
    }

    fn note(&mut self, at: Duration, by: Machine, name: &str, change: Change) {
        self.journal.push(JournalEntry { at, by, name: name.to_owned(), change });
    }

    /// The whole object.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        self.objects.get(name).map(|object| object.content.clone())
    }

    /// `length` bytes of an object from `offset`; fewer where it ends.
    pub(super) fn read(&self, name: &str, offset: u64, length: u64) -> Option<Bytes> {
        let content = &self.objects.get(name)?.content;
        let size = content.len() as u64;
        let start = offset.min(size);
        let end = offset.saturating_add(length).min(size);
        Some(content.slice(start as usize..end as usize))
    }

    /// The objects whose names begin with `prefix`, in the order of names.
    pub(super) fn list(&self, prefix: &str) -> Vec<ListedObject> {
        let found = self.objects.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        let found = found.take_while(|(name, _)| name.starts_with(prefix));
        found.map(|(name, object)| listed(name, object.content.len() as u64)).collect()
    }

    /// As [`Store::list`], as it was at `then`.
    pub(super) fn list_as_of(&self, prefix: &str, then: Duration) -> Vec<ListedObject> {
        let mut found: BTreeMap<String, u64> =
            self.list(prefix).into_iter().map(|object| (object.name, object.size)).collect();
        for entry in self.journal.iter().rev().take_while(|entry| entry.at > then) {
            if !entry.name.starts_with(prefix) {
                continue;
            }
            match entry.change {
                Change::Created { .. } => {
                    found.remove(&entry.name);
                }
                Change::Replaced { former_size: size, .. } | Change::Deleted { size } | Change::Forgotten { size } => {
                    found.insert(entry.name.clone(), size);
                }
                Change::Corrupted { .. } => {}
            }
        }
        found.into_iter().map(|(name, size)| ListedObject { name, size }).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.objects.keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn journal(&self) -> &[JournalEntry] {
        &self.journal
    }

    /// What was lost and is still missing.
    pub(super) fn forgotten(&self) -> &BTreeSet<String> {
        &self.forgotten
    }

    /// What is there and damaged.
    pub(super) fn corrupted(&self) -> &BTreeSet<String> {
        &self.corrupted
    }

    /// A creation of `name` is under way.
    pub(super) fn creation_begins(&mut self, name: &str) {
        *self.creating.entry(name.to_owned()).or_default() += 1;
    }

    /// A creation of `name` ended, however.
    pub(super) fn creation_ends(&mut self, name: &str) {
        if let Some(count) = self.creating.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.creating.remove(name);
            }
        }
    }

    /// How many creations of `name` are under way.
    pub(super) fn creations_under_way(&self, name: &str) -> u32 {
        self.creating.get(name).copied().unwrap_or(0)
    }
}

fn listed(name: &str, size: u64) -> ListedObject {
    ListedObject { name: name.to_owned(), size }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Machine = Machine(3);

    fn at(seconds: u64) -> (Duration, Machine) {
        (Duration::from_secs(seconds), NODE)
    }

    fn store(objects: &[&str]) -> Store {
        let mut store = Store::default();
        for name in objects {
            store.create(at(1), name, Bytes::copy_from_slice(name.as_bytes()), true);
        }
        store
    }

    fn names(listed: &[ListedObject]) -> Vec<&str> {
        listed.iter().map(|object| object.name.as_str()).collect()
    }

    #[test]
    fn objects_are_immutable() {
        let mut store = store(&["a"]);
        assert_eq!(store.create(at(2), "a", Bytes::from_static(b"other"), true), Stored::Existed);
        assert_eq!(store.get("a").unwrap(), "a");
        assert_eq!((store.len(), store.bytes(), store.journal().len()), (1, 1, 1));
    }

    #[test]
    fn without_conditions_the_last_one_wins_and_the_journal_says_so() {
        let mut store = store(&["a"]);
        assert!(matches!(store.create(at(2), "a", Bytes::from_static(b"other"), false), Stored::New(_)));
        assert_eq!(store.get("a").unwrap(), "other");
        assert_eq!((store.len(), store.bytes()), (1, 5));
        let Change::Replaced { size, hash, former_size, former_hash } = store.journal()[1].change else {
            panic!("{:?}", store.journal());
        };
        assert_eq!((size, former_size, hash == former_hash), (5, 1, false));
    }

    #[test]
    fn listings_are_by_prefix_and_in_order() {
        let store = store(&["b/2", "a/1", "b/1", "b", "c"]);
        assert_eq!(names(&store.list("b/")), ["b/1", "b/2"]);
        assert_eq!(names(&store.list("")), ["a/1", "b", "b/1", "b/2", "c"]);
        assert_eq!(store.list("b/")[0].size, 3);
    }

    #[test]
    fn listings_of_the_past_miss_what_came_and_name_what_went() {
        let mut store = store(&["a", "b", "other"]);
        store.create(at(5), "c", Bytes::new(), true);
        store.delete(at(6), "a");
        store.create(at(7), "b", Bytes::from_static(b"longer"), false);
        store.create(at(8), "a", Bytes::from_static(b"again"), true);
        let then = |seconds| store.list_as_of("", Duration::from_secs(seconds));
        assert_eq!(names(&then(0)), Vec::<&str>::new());
        assert_eq!(names(&then(4)), ["a", "b", "other"]);
        assert_eq!(then(4)[1].size, 1);
        assert_eq!(names(&then(5)), ["a", "b", "c", "other"]);
        assert_eq!(names(&then(7)), ["b", "c", "other"]);
        assert_eq!(then(8), store.list(""));
        assert_eq!(names(&store.list_as_of("b", Duration::from_secs(4))), ["b"]);
    }

    #[test]
    fn reads_end_where_the_object_ends() {
        let store = store(&["object"]);
        assert_eq!(store.read("object", 2, 3).unwrap(), "jec");
        assert_eq!(store.read("object", 4, 100).unwrap(), "ct");
        assert_eq!(store.read("object", 6, 1).unwrap(), "");
        assert_eq!(store.read("object", u64::MAX, u64::MAX).unwrap(), "");
        assert_eq!(store.read("none", 0, 1), None);
    }

    #[test]
    fn what_is_forgotten_is_named_until_it_is_created_again() {
        let mut store = store(&["a"]);
        let Stored::New(b) = store.create(at(2), "b", Bytes::from_static(b"bb"), true) else { panic!() };
        assert!(store.forget(Duration::from_secs(3), "b", b));
        assert_eq!((store.get("b"), store.bytes()), (None, 1));
        assert_eq!(store.forgotten().iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(store.journal().last().unwrap().by, Machine::SIMULATOR);
        store.create(at(4), "b", Bytes::from_static(b"bb"), true);
        assert!(store.forgotten().is_empty());
        assert!(!store.forget(Duration::from_secs(5), "b", b), "a later object of the same name");
        assert!(store.get("b").is_some());
    }

    #[test]
    fn corruption_turns_one_bit() {
        let mut store = store(&["abc"]);
        store.create(at(1), "empty", Bytes::new(), true);
        assert!(store.corrupt(Duration::from_secs(2), "abc", 9));
        assert_eq!(store.get("abc").unwrap(), "a\x60c");
        assert_eq!(store.corrupted().len(), 1);
        assert!(!store.corrupt(Duration::from_secs(2), "empty", 0));
        assert!(!store.corrupt(Duration::from_secs(2), "none", 0));
        store.delete(at(3), "abc");
        assert!(store.corrupted().is_empty());
    }

    #[test]
    fn deletions_are_journalled_where_something_was_there() {
        let mut store = store(&["a"]);
        store.delete(at(2), "none");
        store.delete(at(3), "a");
        let last = store.journal().last().unwrap();
        let expected =
            JournalEntry { at: at(3).0, by: NODE, name: "a".to_owned(), change: Change::Deleted { size: 1 } };
        assert_eq!((last, store.journal().len(), store.bytes()), (&expected, 2, 0));
    }

    #[test]
    fn creations_under_way_are_counted() {
        let mut store = Store::default();
        store.creation_begins("a");
        store.creation_begins("a");
        assert_eq!(store.creations_under_way("a"), 2);
        store.creation_ends("a");
        store.creation_ends("a");
        assert_eq!(store.creations_under_way("a"), 0);
        store.creation_ends("a");
        assert_eq!(store.creations_under_way("a"), 0);
    }
}
