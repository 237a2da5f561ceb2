//! Which life of a source a report of an application belongs to.

use std::collections::BTreeSet;

/// How often a source may have fallen back, and who has been heard since. Lines that a killed application printed before may be
/// read after its machine was put back; they belong to the life before, which its next `resumed` ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generation {
    number: u32,
    heard: BTreeSet<String>,
}

impl Generation {
    /// The life that goes on now, from 0.
    pub(crate) fn now(&self) -> u32 {
        self.number
    }

    /// The source may have lost its end.
    pub(crate) fn fall_back(&mut self) {
        self.number += 1;
        self.heard.clear();
    }

    /// An application says what it found: it lives in the present. Its life's number.
    pub(crate) fn resumed(&mut self, application: &str) -> u32 {
        if !self.heard.contains(application) {
            self.heard.insert(application.to_owned());
        }
        self.number
    }

    /// The life in which an application committed what it reports now.
    pub(crate) fn committed(&self, application: &str) -> u32 {
        if self.number > 0 && !self.heard.contains(application) { self.number - 1 } else { self.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_line_belongs_to_the_life_before() {
        let mut generation = Generation::default();
        assert_eq!(generation.committed("one"), 0);
        generation.fall_back();
        assert_eq!((generation.now(), generation.committed("one")), (1, 0));
        assert_eq!(generation.resumed("one"), 1);
        assert_eq!((generation.committed("one"), generation.committed("two")), (1, 0));
        generation.fall_back();
        assert_eq!(generation.committed("one"), 1);
    }
}
