//! Rare paths of agent and node. Every one of them must be taken somewhere in the runs of continuous integration.

/// As `seawall_host::probe::sometimes` names them, in the order of names.
pub const RARE_PATHS: &[&str] = &[
    "WAL restarted by the application",
    "agent fenced off",
    "agent gone on without a resync",
    "agent held up by what is not acknowledged",
    "agent told to wait for space",
    "append ordered behind a newer claim refused",
    "append refused because no majority has room",
    "append refused for lack of space",
    "append that does not continue the head refused",
    "append with an unknown outcome",
    "checkpoint by the agent",
    "claim refused because another agent ships",
    "damaged object replaced from another destination",
    "damaged object replaced from the log",
    "damaged payload of the log had from another node",
    "destination detached",
    "destination gone on after it was detached",
    "expired object deleted",
    "floors of a destination raised",
    "fresh snapshot because the newest was lost",
    "history at a destination gone on from a snapshot",
    "image asked for while an interrupted fold is repeated",
    "image pulled from a peer",
    "image quarantined",
    "image rebuilt from the log",
    "image taken from a peer in place of an unusable one",
    "large segment streamed to a destination",
    "leader change during an upload",
    "leadership handed over",
    "leadership handed over for want of room",
    "level 1 uploaded",
    "level 2 uploaded",
    "log file waits for room",
    "log piece begun behind another",
    "log piece deleted",
    "log purged",
    "log truncated by a new leader",
    "lost object replaced from another destination",
    "lost object replaced from the log",
    "merged object streamed to a destination",
    "message to an emptied node refused",
    "object already at its destination",
    "page hashes of the head had from another node",
    "page hashes of the head made from an older image and the log",
    "page vector made again from the pages",
    "part sent again by another stream",
    "payload of an open transaction pulled from a peer",
    "position log rebuilt after an unclean stop",
    "pull of an image resumed",
    "read index had from the leader by another node",
    "records of the position log forgotten",
    "restore planned again",
    "restore read from a second source",
    "restore resumed",
    "resumed restore began anew",
    "resync after the WAL restarted",
    "resync after the source lost its tail",
    "resync for another reason",
    "resync without a difference",
    "snapshot at a destination replaced from the image",
    "snapshot given up because the log behind it outgrew its share",
    "snapshot installed",
    "snapshot of the Raft state built",
    "snapshot uploaded",
    "stale restore served",
    "stream ended by a newer claim",
    "stream of an older epoch refused",
    "torn tail of the log cut off",
    "transaction in parts cut off by a claim",
    "transaction in parts let go of after its stream ended",
    "transaction in several parts complete",
    "unknown outcome resolved by reading the head",
    "unproven tail of the log cut off for a snapshot",
    "upload succeeded after it failed",
];

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The names that the sources of agent and node give to the function `probe` of the probes.
    #[allow(clippy::disallowed_methods, reason = "the sources lie on the real disk")]
    pub(crate) fn names_in_sources(probe: &str) -> BTreeSet<String> {
        fn walk(directory: &Path, found: &mut dyn FnMut(&str)) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found(&std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let call = format!("{probe}(");
        let mut names = BTreeSet::new();
        for program in ["agent/src", "node/src"] {
            walk(&workspace.join(program), &mut |source| {
                for (at, _) in source.match_indices(&call) {
                    let name = source[at + call.len()..].trim_start();
                    if let Some((name, _)) = name.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                        names.insert(name.to_owned());
                    }
                }
            });
        }
        names
    }

    #[test]
    fn the_list_is_what_the_sources_name() {
        let listed: BTreeSet<String> = RARE_PATHS.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(listed, names_in_sources("sometimes"));
        assert!(RARE_PATHS.is_sorted() && listed.len() == RARE_PATHS.len());
    }
}
