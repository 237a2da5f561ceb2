//! Which deliberate defects a real program has: those that its environment names.

use std::collections::BTreeSet;

/// Names defects, with commas between them.
const VARIABLE: &str = "SEAWALL_MUTANTS";

/// The defects that are switched on.
#[derive(Debug, Default)]
pub(super) struct Mutants(BTreeSet<String>);

impl Mutants {
    /// Those of this process's environment.
    pub(super) fn from_environment() -> Self {
        Self::named(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn named(value: &str) -> Self {
        Self(value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_between_commas() {
        assert!(Mutants::named("").names().is_empty());
        let two = Mutants::named(" stale-epoch-accepted,, ack-before-fsync ");
        assert_eq!(two.names(), ["ack-before-fsync", "stale-epoch-accepted"]);
        assert!(two.has("ack-before-fsync") && !two.has("ack"));
    }
}
