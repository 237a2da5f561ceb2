//! Which rare paths the runs took.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Rare paths reached over several runs, beside those that should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Coverage {
    /// Per path, how many runs took it; 0 for one that none took.
    runs: BTreeMap<String, u64>,
}

impl Coverage {
    /// Nothing reached yet of what is `expected`.
    pub(super) fn new<'a>(expected: impl IntoIterator<Item = &'a str>) -> Self {
        Self { runs: expected.into_iter().map(|path| (path.to_owned(), 0)).collect() }
    }

    /// Takes in the paths of one run.
    pub(super) fn add(&mut self, reached: &BTreeMap<String, u64>) {
        for (path, _) in reached.iter().filter(|(_, count)| **count > 0) {
            *self.runs.entry(path.clone()).or_default() += 1;
        }
    }

    /// The paths that no run took.
    pub(super) fn never(&self) -> Vec<&str> {
        self.runs.iter().filter(|(_, runs)| **runs == 0).map(|(path, _)| path.as_str()).collect()
    }

    /// How many in a hundred of the paths some run took.
    pub(super) fn percent(&self) -> f64 {
        let (all, reached) = (self.runs.len(), self.runs.len() - self.never().len());
        if all == 0 { 100.0 } else { 100.0 * reached as f64 / all as f64 }
    }

    /// The paths that the fewest runs took, of those taken at all.
    fn rarest(&self, count: usize) -> Vec<(&str, u64)> {
        let mut taken: Vec<_> = self.runs.iter().filter(|(_, runs)| **runs > 0).collect();
        taken.sort_by_key(|(path, runs)| (**runs, *path));
        taken.into_iter().take(count).map(|(path, runs)| (path.as_str(), *runs)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let never = self.never();
        let (all, reached) = (self.runs.len(), self.runs.len() - never.len());
        write!(f, "{reached} of {all} rare paths reached ({:.0} %)", self.percent())?;
        let rarest: Vec<_> = self.rarest(3).iter().map(|(path, runs)| format!("{path} ({runs})")).collect();
        if !rarest.is_empty() {
            write!(f, "; in the fewest runs: {}", rarest.join(", "))?;
        }
        for path in never {
            write!(f, "\nnever reached: {path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(paths: &[&str]) -> BTreeMap<String, u64> {
        paths.iter().map(|path| ((*path).to_owned(), 3)).collect()
    }

    #[test]
    fn what_is_expected_and_never_taken_is_named() {
        let mut coverage = Coverage::new(["resync", "snapshot install", "fenced append", "backpressure"]);
        coverage.add(&reached(&["resync", "backpressure"]));
        coverage.add(&reached(&["resync"]));
        coverage.add(&BTreeMap::from([("fenced append".to_owned(), 0)]));
        assert_eq!(coverage.never(), ["fenced append", "snapshot install"]);
        assert_eq!(
            coverage.to_string(),
            "2 of 4 rare paths reached (50 %); in the fewest runs: backpressure (1), resync (2)\n\
             never reached: fenced append\nnever reached: snapshot install"
        );
    }

    #[test]
    fn a_path_that_nobody_listed_counts_as_one() {
        let mut coverage = Coverage::default();
        coverage.add(&reached(&["resync"]));
        assert_eq!(coverage.never(), Vec::<&str>::new());
        assert!(coverage.to_string().starts_with("1 of 1"));
    }
}
