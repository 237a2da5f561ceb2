//! What a verification found.

use seawall_proto::position::{Lineage, Txid};

use super::super::history::History;
use super::super::source::{SourceError, SourceObject};

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where the object lies.
    pub origin: String,
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub cause: String,
}

impl Finding {
    pub(super) fn new(object: &SourceObject, cause: impl Into<String>) -> Self {
        Self { origin: object.origin.to_string(), object: object.name.to_string(), cause: cause.into() }
    }

    /// That it could not be read.
    pub(super) fn unread(object: &SourceObject, error: SourceError) -> Self {
        let (SourceError::Object { cause, .. }
        | SourceError::Unusable { cause, .. }
        | SourceError::Changed { cause, .. }) = error;
        Self::new(object, cause)
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What there is, as its names have it.
    pub history: History,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// States whose every page was proven, counted once for each place; 0 unless the verification was deep.
    pub states: u64,
    /// Objects that are damaged or contradict others.
    pub damaged: Vec<Finding>,
    /// Objects that could not be read.
    pub unreadable: Vec<Finding>,
    /// Objects that are whole, and whose content nothing there proves: no state leads to where they begin.
    pub unproven: Vec<Finding>,
    /// The newest state, if the source knows it and nothing there leads to it.
    pub unreachable: Option<(Lineage, Txid)>,
}

impl Report {
    /// Whether nothing is wrong. What was lost before, and shows as a gap, is not wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.unreadable.is_empty() && self.unreachable.is_none()
    }
}
