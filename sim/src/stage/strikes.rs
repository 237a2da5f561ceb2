//! The faults that struck.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::world;

/// What struck how often, by kind.
#[derive(Debug, Default)]
pub struct Strikes(Mutex<BTreeMap<String, u64>>);

impl Strikes {
    /// The counts so far.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a fault strikes now.
    pub fn note(&self, kind: &'static str, text: impl FnOnce() -> String) {
        world::current().event("fault", 0, || format!("{kind}: {}", text()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.to_owned()).or_default() += 1;
    }
}
