//! Which transactions go together.

use std::collections::VecDeque;

/// A transaction found in the headers of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedTransaction {
    /// Its commit frame.
    pub(super) last_frame: u32,
    /// The database's size in pages after it.
    pub(super) page_count: u32,
}

/// Finds the next transactions and groups them: as many as fit a budget of frames, at least one.
///
/// A transaction's size stands in its last frame only, but decides which of its pages count; so headers are read ahead.
#[derive(Debug, Default)]
pub(super) struct Plan {
    group: VecDeque<PlannedTransaction>,
    /// The last frame whose header was looked at.
    scanned: u32,
    complete: bool,
}

impl Plan {
    /// Plans for the frames behind `captured`.
    pub(super) fn after(captured: u32) -> Self {
        Self { group: VecDeque::new(), scanned: captured, complete: false }
    }

    /// The next frame whose header is wanted; `None` once the group is complete.
    pub(super) fn wanted(&self) -> Option<u32> {
        (!self.complete).then(|| self.scanned.saturating_add(1))
    }

    /// Takes the header of the frame wanted. `captured` is the frame before the group, `end` the last frame there is.
    pub(super) fn take(&mut self, commit_size: u32, captured: u32, end: u32, budget: u32) {
        self.scanned = self.scanned.saturating_add(1);
        if commit_size != 0 {
            let fits = self.scanned - captured <= budget;
            if fits || self.group.is_empty() {
                self.group.push_back(PlannedTransaction { last_frame: self.scanned, page_count: commit_size });
            }
            self.complete |= !fits;
        }
        // What does not end within the budget is left to the next group.
        self.complete |= self.scanned >= end || (!self.group.is_empty() && self.scanned - captured >= budget);
    }

    /// The transactions of the complete group that are not captured yet.
    pub(super) fn group(&self) -> &VecDeque<PlannedTransaction> {
        &self.group
    }

    /// Removes the first transaction of the group: it is captured.
    pub(super) fn done(&mut self) {
        self.group.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(sizes: &[u32], budget: u32) -> Vec<Vec<u32>> {
        let commits: Vec<u32> = sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect();
        let end = commits.last().copied().unwrap_or(0);
        let mut groups = Vec::new();
        let mut captured = 0;
        while captured < end {
            let mut plan = Plan::after(captured);
            while let Some(frame) = plan.wanted() {
                plan.take(u32::from(commits.contains(&frame)), captured, end, budget);
            }
            let group: Vec<u32> = plan.group().iter().map(|transaction| transaction.last_frame).collect();
            captured = *group.last().unwrap();
            groups.push(group);
        }
        groups
    }

    #[test]
    fn groups_up_to_the_budget_and_leaves_large_ones_alone() {
        assert_eq!(groups(&[1, 2, 3], 10), [vec![1, 3, 6]]);
        assert_eq!(groups(&[1, 2, 8, 1], 10), [vec![1, 3], vec![11, 12]]);
        assert_eq!(groups(&[1, 50, 1], 10), [vec![1], vec![51], vec![52]]);
        assert_eq!(groups(&[10, 10], 10), [vec![10], vec![20]]);
    }

    proptest! {
        #[test]
        fn every_commit_is_in_exactly_one_group(sizes in proptest::collection::vec(1_u32..30, 1..40), budget in 1_u32..60) {
            let mut end = 0;
            let commits: Vec<u32> = sizes.iter().map(|size| { end += size; end }).collect();
            let found = groups(&sizes, budget);
            prop_assert_eq!(found.concat(), commits);
            let mut start = 0;
            for group in found {
                let last = *group.last().unwrap();
                prop_assert!(group.len() == 1 || last - start <= budget);
                start = last;
            }
        }
    }
}
