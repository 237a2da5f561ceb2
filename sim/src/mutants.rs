//! Deliberate defects of agent and node that the simulator must find; `seawall_host::probe::mutant` switches them on.

/// A deliberate defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// As the product asks for it.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub what: &'static str,
    /// The promise or property that it breaks.
    pub breaks: &'static str,
}

const fn mutant(name: &'static str, what: &'static str, breaks: &'static str) -> Mutant {
    Mutant { name, what, breaks }
}

/// All of them: the log file first, then consensus and the position log, the cluster's service, images, fan-out,
/// restore, verification, agent.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        "ack-before-fsync",
        "The log file tells Raft that a batch is durable before it is written and synced.",
        "No acknowledged write is lost",
    ),
    mutant(
        "payload-not-synced",
        "A batch with payloads is written to the log file and not synced.",
        "No acknowledged write is lost",
    ),
    mutant(
        "failed-fsync-ignored",
        "A write or sync of the log file that failed counts as done.",
        "No acknowledged write is lost",
    ),
    mutant(
        "unsynced-vote",
        "A vote counts as saved before it is written.",
        "No acknowledged write is lost (a node votes twice in a term)",
    ),
    mutant(
        "new-piece-name-not-synced",
        "A new piece of the log file is used before its name in the directory is durable.",
        "No acknowledged write is lost",
    ),
    mutant(
        "rot-taken-for-torn-write",
        "Damage in the middle of the newest piece is cut off as if it were a torn write.",
        "No acknowledged write is lost",
    ),
    mutant(
        "log-crc-ignored",
        "Payloads of the log file are taken without a look at their checksum, at the start and when read.",
        "Never a wrong database; no acknowledged write is lost",
    ),
    mutant(
        "pinned-piece-deleted",
        "Pieces of the log file go although a pin needs them.",
        "No acknowledged write is lost; destinations are independent",
    ),
    mutant(
        "unproven-tail-kept",
        "Entries not known to be committed stay readable under the indexes that a snapshot covers.",
        "Never a wrong database",
    ),
    mutant(
        "purge-before-snapshot",
        "The log is purged up to a snapshot that is not on the disk yet.",
        "No acknowledged write is lost",
    ),
    mutant(
        "apply-not-atomic",
        "A snapshot says an older log index than the state in it was taken at.",
        "State machine safety: nodes disagree",
    ),
    mutant(
        "snapshot-without-membership",
        "A snapshot does not say who belongs to the cluster.",
        "State machine safety: nodes disagree on who votes",
    ),
    mutant(
        "snapshot-without-its-blobs",
        "A snapshot of the Raft state is installed without the images and payloads that belong to it.",
        "No acknowledged write is lost while a majority survives",
    ),
    mutant(
        "leader-restore-on",
        "A leader that restarts quickly goes on in its term without the tail that it lost.",
        "Election safety; state machine safety",
    ),
    mutant(
        "identity-not-checked",
        "A node takes messages that are meant for another data directory, so an emptied one votes as its former self.",
        "No acknowledged write is lost",
    ),
    mutant(
        "read-index-without-leader",
        "A node takes what it has applied for the newest state without asking the leader.",
        "No acknowledged write is lost: a restore misses it",
    ),
    mutant(
        "position-log-not-rebuilt",
        "After an unclean stop the map of the position log is taken for complete.",
        "No acknowledged write is lost: uploads and images miss it",
    ),
    mutant(
        "retry-without-dedupe",
        "The agent sends again what may be committed, and a checked append takes in what the head covers.",
        "Never a wrong database: a history falls back",
    ),
    mutant(
        "stale-epoch-accepted",
        "An append of an older epoch that is ordered after a newer claim is taken in.",
        "One writer",
    ),
    mutant(
        "last-part-ignored",
        "A transaction in several parts is recorded without its last one.",
        "No acknowledged write is lost",
    ),
    mutant(
        "open-transaction-not-pinned",
        "The first parts of a transaction that is not complete may leave the log.",
        "No acknowledged write is lost",
    ),
    mutant(
        "node-acknowledges-before-quorum",
        "The leader answers an append when it is proposed.",
        "No acknowledged write is lost",
    ),
    mutant(
        "admission-ignores-space",
        "The leader lets appends in whatever is free on its disk.",
        "Disk full is not data loss",
    ),
    mutant(
        "admission-ignores-peers",
        "The leader lets appends in though no majority of the nodes has room for them.",
        "Disk full is not data loss",
    ),
    mutant(
        "cluster-time-from-one-clock",
        "A leader takes its own wall clock for the cluster's time.",
        "Commit times are the cluster's",
    ),
    mutant(
        "leader-without-room-stays",
        "A leader whose disk is full refuses appends though a majority without it has room.",
        "Disk full is not data loss",
    ),
    mutant(
        "fold-skips-a-page",
        "Folding notes the hash of some pages and does not write their bytes.",
        "Never a wrong database: images serve nothing any more",
    ),
    mutant(
        "image-not-synced",
        "An image says that it is durable before its pages are synced.",
        "No acknowledged write is lost: the log was let go",
    ),
    mutant(
        "image-reach-not-written",
        "An image's files change before its meta says how far they may be ahead.",
        "Never a wrong database: images are found damaged after a crash",
    ),
    mutant(
        "success-before-put-completed",
        "An upload whose outcome is not known counts as done.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "existing-object-not-read-back",
        "An object that exists already counts as uploaded, whatever is in it.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "watermark-before-upload",
        "The watermark is reported before the upload.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "gap-counted-as-uploaded",
        "Transactions that left the log before they were uploaded count as uploaded.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "merged-keeps-a-page-beyond-the-size",
        "A merged object says that the database is one page larger than it is.",
        "Never a wrong database; every destination gives every database back",
    ),
    mutant(
        "merged-from-the-wrong-state",
        "A merged object lacks the pages of the transaction that it begins with.",
        "Never a wrong database; every destination gives every database back",
    ),
    mutant(
        "floor-past-the-last-snapshot",
        "Retention raises the floor of snapshots past the newest one.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "deleted-before-decreed",
        "What has expired is deleted as soon as that is found, whatever becomes of the decree.",
        "A stale leader does no harm: only what lies below a decreed floor is deleted",
    ),
    mutant("destinations-take-turns", "All destinations upload one after the other.", "Destinations are independent"),
    mutant(
        "append-waits-for-destinations",
        "The leader lets nothing into a database while an upload of it fails.",
        "Destinations are independent",
    ),
    mutant(
        "detached-pin-kept",
        "The log is kept for a destination that was detached.",
        "Destinations are independent: one that is away fills the disks",
    ),
    mutant(
        "detached-on-an-old-watermark",
        "A decree that a destination is detached is taken in as it stands, though the destination got on since it was judged.",
        "The watermark tells what a destination can give back",
    ),
    mutant(
        "damaged-object-ends-restore",
        "A restore takes the place where an object is damaged for its end.",
        "Never a wrong database: another txid is restored than asked for",
    ),
    mutant(
        "verification-trusts-names",
        "A verification takes objects for whole without comparing what is in them.",
        "Damaged objects are found and replaced: the newest state is lost at a destination",
    ),
    mutant(
        "healing-from-a-damaged-source",
        "What takes the place of a lost or damaged object is not proven before it is copied.",
        "What a node creates at a destination is whole",
    ),
    mutant(
        "resume-on-changed-salts",
        "The agent goes on although the WAL was restarted while it was away.",
        "Never a wrong database; no acknowledged write is lost",
    ),
    mutant(
        "lost-tail-not-noticed",
        "The agent goes on although the source lost transactions that were shipped.",
        "Never a wrong database",
    ),
    mutant(
        "replaced-database-not-noticed",
        "The agent goes on although another file lies at the database's path.",
        "Never a wrong database; no acknowledged write is lost",
    ),
    mutant(
        "wal-released-before-captured",
        "The agent lets go of its guard between two looks and takes a restarted WAL for captured.",
        "Never a wrong database; no acknowledged write is lost",
    ),
    mutant(
        "timestamp-from-the-agents-clock",
        "The agent stamps transactions with its machine's wall clock.",
        "Commit times are the cluster's",
    ),
    mutant(
        "agent-acknowledges-before-quorum",
        "The agent takes what it has sent for acknowledged.",
        "No acknowledged write is lost",
    ),
];

/// The mutant of that name.
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rare_paths::tests::names_in_sources;

    #[test]
    fn the_list_is_what_the_sources_name() {
        let listed: BTreeSet<String> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert_eq!(listed, names_in_sources("mutant"));
        assert_eq!(listed.len(), MUTANTS.len());
        assert!(find("ack-before-fsync").is_some() && find("none").is_none());
    }
}
