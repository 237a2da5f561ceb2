//! What one verification found, as it goes on.

use metrics::counter;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::ObjectName;
use seawall_proto::position::Txid;

use super::expected::Hole;
use super::healer::Kind;

/// The texts of so many problems are kept; the others are counted.
const TEXTS: usize = 3;

/// What one verification of a database at a destination found.
#[derive(Debug)]
pub(super) struct Findings {
    database: DatabaseName,
    destination: String,
    problems: u64,
    texts: Vec<String>,
    /// Objects that were replaced.
    pub(super) healed: u64,
    /// Transactions that nobody can give one by one any more.
    pub(super) lost_transactions: u64,
    /// The newest state that was proven.
    pub(super) proven: Txid,
}

impl Findings {
    pub(super) fn new(database: &DatabaseName, destination: &str) -> Self {
        Self {
            database: database.clone(),
            destination: destination.to_owned(),
            problems: 0,
            texts: Vec::new(),
            healed: 0,
            lost_transactions: 0,
            proven: Txid::NONE,
        }
    }

    /// Problems that remain.
    pub(super) fn problems(&self) -> u64 {
        self.problems
    }

    /// What they are, in words; empty if there are none.
    pub(super) fn text(&self) -> String {
        let more = self.problems - self.texts.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        self.texts.join("; ") + &more
    }

    /// A problem that remains.
    pub(super) fn problem(&mut self, text: String) {
        tracing::error!(database = %self.database, destination = self.destination, "verification: {text}");
        self.problems += 1;
        if self.texts.len() < TEXTS {
            self.texts.push(text);
        }
    }

    /// An object is not whole.
    pub(super) fn damaged(&self, name: &ObjectName, cause: &str) {
        let (database, destination) = (&self.database, &self.destination);
        tracing::error!(%database, destination, object = %name, cause, "an object at a destination is damaged");
    }

    /// An object was replaced.
    pub(super) fn healed(&mut self, name: &ObjectName, kind: Kind, from: &str) {
        let (database, destination) = (&self.database, &self.destination);
        tracing::warn!(%database, destination, object = %name, from, "a {} object was replaced", kind.as_str());
        let labels = [
            ("database", database.to_string()),
            ("destination", destination.clone()),
            ("kind", kind.as_str().to_owned()),
        ];
        counter!("seawall_destination_healed_objects_total", &labels).increment(1);
        self.healed += 1;
    }

    /// Nobody can give these transactions one by one any more. Told once: `known` such transactions were told before.
    pub(super) fn lost_history(&mut self, holes: &[Hole], known: u64) {
        self.lost_transactions = holes.iter().map(|hole| hole.transactions()).sum();
        let Some(first) = holes.first().filter(|_| self.lost_transactions > known) else { return };
        let (database, destination) = (&self.database, &self.destination);
        tracing::error!(
            %database,
            destination,
            transactions = self.lost_transactions,
            first = %first.first,
            "history is lost at a destination: neither the nodes' log nor another destination has these transactions; \
             other states can be restored as before"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_the_others_are_counted() {
        let mut findings = Findings::new(&"app".parse().unwrap(), "s3");
        assert_eq!((findings.problems(), findings.text().as_str()), (0, ""));
        for number in 1..=5 {
            findings.problem(format!("problem {number}"));
        }
        assert_eq!((findings.problems(), findings.text().as_str()), (5, "problem 1; problem 2; problem 3; and 2 more"));
    }
}
