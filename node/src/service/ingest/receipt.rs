//! Waiting until a transaction is at destinations.

use std::time::Duration;

use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use tonic::Status;

use super::Shared;
use crate::replica::DatabaseView;

use v1::await_receipt_response::{Outcome, Receipt};

/// How far the destinations asked for are. Pure.
fn receipt(
    view: Option<&DatabaseView>,
    lineage: Lineage,
    txid: Txid,
    wanted: &[String],
    errors: impl Fn(&str) -> Option<String>,
) -> Receipt {
    let mut receipt = Receipt { reached: true, ..Receipt::default() };
    for name in wanted {
        let progress = view.and_then(|view| view.destinations.get(name));
        let watermark = progress.filter(|progress| progress.lineage == lineage.0).map_or(0, |it| it.watermark);
        receipt.destinations.insert(name.clone(), watermark);
        if watermark < txid.0 {
            receipt.reached = false;
            if let Some(error) = errors(name) {
                receipt.errors.insert(name.clone(), error);
            }
        }
    }
    receipt
}

impl Shared {
    pub(super) async fn await_receipt(&self, request: v1::AwaitReceiptRequest) -> Result<Outcome, Status> {
        let database: DatabaseName = request.database.parse().map_err(|error| invalid(&error))?;
        let (lineage, txid) = (Lineage(request.lineage), Txid(request.txid));
        let configured = self.receipts.destinations();
        let wanted = if request.destinations.is_empty() { configured.clone() } else { request.destinations };
        let unknown = wanted.iter().filter(|name| !configured.contains(name));
        let unknown =
            unknown.map(|name| (name.clone(), format!("no such destination; there are: {}", configured.join(", "))));
        let unknown = Receipt { errors: unknown.collect(), ..Receipt::default() };
        if !unknown.errors.is_empty() {
            return Ok(Outcome::Receipt(unknown));
        }
        let deadline = Instant::now() + Duration::from_millis(request.timeout_ms.into());
        let mut seen = 0;
        let mut is_asked_for = false;
        loop {
            let leadership = self.replica.leadership();
            if !leadership.is_leader {
                return Ok(Outcome::NotLeader(not_leader(leadership.leader_address)));
            }
            let view = self.replica.database(&database);
            let view = view.ok_or_else(|| Status::not_found(format!("there is no database `{database}`")))?;
            if lineage.0 < view.head.lineage {
                return Err(Status::failed_precondition(format!("`{database}` has gone on to another lineage")));
            }
            let errors = |name: &str| self.receipts.last_error(&database, name);
            let receipt = receipt(Some(&view), lineage, txid, &wanted, errors);
            if receipt.reached {
                return Ok(Outcome::Receipt(receipt));
            }
            if !is_asked_for && view.head.lineage == lineage.0 && view.head.txid >= txid.0 {
                is_asked_for = true;
                self.receipts.close_window(&database, txid, &wanted);
            }
            match time::timeout_at(deadline, self.replica.changed(seen)).await {
                Ok(counter) => seen = counter,
                Err(time::Elapsed) => return Ok(Outcome::Receipt(receipt)),
            }
        }
    }
}

pub(super) fn not_leader(leader_address: Option<String>) -> v1::NotLeader {
    v1::NotLeader { leader_address: leader_address.unwrap_or_default() }
}

pub(super) fn invalid(error: &dyn std::error::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use seawall_proto::position::Epoch;

    use super::*;

    fn view(watermarks: &[(&str, u64, u64)]) -> DatabaseView {
        let progress = |&(name, lineage, watermark): &(&str, u64, u64)| {
            (name.to_owned(), v1::DestinationProgress { lineage, watermark, ..Default::default() })
        };
        DatabaseView {
            head: v1::Head::default(),
            epoch: Epoch(1),
            agent_id: 1,
            agent_label: String::new(),
            claimed_at: 0,
            destinations: watermarks.iter().map(progress).collect(),
            verifications: Default::default(),
        }
    }

    #[test]
    fn is_reached_when_every_destination_asked_for_has_the_txid() {
        let view = view(&[("a", 1, 7), ("b", 1, 6), ("old", 2, 99)]);
        let get = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            receipt(Some(&view), Lineage(1), Txid(7), &names, |name| (name == "b").then(|| "away".to_owned()))
        };
        assert!(get(&["a"]).reached && get(&["a"]).errors.is_empty());
        let both = get(&["a", "b"]);
        assert!(!both.reached);
        assert_eq!((both.destinations["a"], both.destinations["b"]), (7, 6));
        assert_eq!(both.errors.get("b").map(String::as_str), Some("away"));
        // Progress of another lineage says nothing of this one.
        assert_eq!(get(&["old"]).destinations["old"], 0);
        assert!(!get(&["old", "never"]).reached);
    }
}
