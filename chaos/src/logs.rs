//! What programs say in their logs.

use serde::Deserialize;

/// What no log may say.
const COMPLAINTS: [&str; 2] = ["panicked at", "has overflowed its stack"];

/// Something that a program said and the verdict has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// What it must never say.
    Complaint(String),
    /// An agent was granted a claim.
    Claim {
        /// The database.
        database: String,
        /// The epoch that it was granted.
        epoch: u64,
        /// The head's lineage.
        lineage: u64,
        /// The head's txid.
        txid: u64,
    },
}

#[derive(Deserialize)]
struct Line {
    fields: Claimed,
}

#[derive(Deserialize)]
struct Claimed {
    message: String,
    database: String,
    epoch: u64,
    lineage: u64,
    txid: u64,
}

/// What this line of a log says, if that matters.
pub(crate) fn said(line: &str) -> Option<Said> {
    if COMPLAINTS.iter().any(|complaint| line.contains(complaint)) {
        return Some(Said::Complaint(line.to_owned()));
    }
    let Claimed { message, database, epoch, lineage, txid } = serde_json::from_str::<Line>(line).ok()?.fields;
    (message == "claimed").then_some(Said::Claim { database, epoch, lineage, txid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_claims_and_panics_and_nothing_else() {
        let line = r#"{"timestamp":"2026-11-22T20:00:00Z","level":"INFO","fields":{"message":"claimed","database":"app",
            "epoch":2,"lineage":1,"txid":17},"target":"seawall_agent::ship::driver"}"#;
        let claim = Said::Claim { database: "app".to_owned(), epoch: 2, lineage: 1, txid: 17 };
        assert_eq!(said(line), Some(claim));
        assert_eq!(said(&line.replace("claimed", "trouble")), None);
        assert!(matches!(said("thread 'main' panicked at src/main.rs:1:1:"), Some(Said::Complaint(_))));
        assert_eq!(said("2026-11-22T20:00:00Z  INFO seawall_node::node: started"), None);
    }
}
