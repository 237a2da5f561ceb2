//! Proving one state of a place as a restore arrives at it, from the hashes of its pages.

use seawall_host::probe::mutant;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, Position, Txid};

use super::super::plan::Plan;
use super::super::read_ahead::{Broken, ReadAhead, ReadLimits};
use super::super::source::{RestoreSource, SourceError, SourceObject};
use super::prove::{Reading, State};

/// Parts that are read ahead: what a verification in the background has in memory, beside 8 bytes a page.
const LIMITS: ReadLimits = ReadLimits { parts: 2, part_bytes: 1 << 20 };

/// A state that was arrived at and proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The state.
    pub position: Position,
    /// The objects that were read and proven to their ends, as indexes.
    pub whole: Vec<usize>,
    /// Bytes read.
    pub bytes: u64,
}

/// Why a chain does not lead where it should.
#[derive(Clone, Debug)]
pub struct ChainFault {
    /// The object at which it breaks, as an index.
    pub object: usize,
    /// What is wrong with it.
    pub cause: FaultCause,
}

/// What is wrong with an object of a chain.
#[derive(Clone, Debug)]
pub enum FaultCause {
    /// It is not what its name says, or does not give what it should.
    Damaged(String),
    /// It could not be read.
    Source(SourceError),
}

/// Follows `plan` through `objects` without writing anything: each step has to continue the state before it, and to end
/// with the checksum that its transactions and its object's name say, and `known` where that says one. Of the last
/// object also what lies behind the target is proven.
///
/// # Errors
/// [`ChainFault`] with the object at fault.
pub async fn prove_chain(
    source: &dyn RestoreSource,
    objects: &[SourceObject],
    plan: &Plan,
    known: &(dyn Fn(Lineage, Txid) -> Option<Checksum> + Send + Sync),
) -> Result<Reached, ChainFault> {
    let mut reached = Reached {
        position: Position { lineage: plan.lineage, txid: Txid::NONE, checksum: Checksum::EMPTY },
        whole: Vec::new(),
        bytes: 0,
    };
    if mutant("verification-trusts-names") {
        reached.position.txid = plan.target;
        reached.whole = plan.steps.iter().map(|step| step.object).collect();
        return Ok(reached);
    }
    let chain = plan.steps.iter().map(|step| &objects[step.object]);
    let mut ahead = ReadAhead::start(source, chain, LIMITS);
    let mut state = State::EMPTY;
    for (number, step) in plan.steps.iter().enumerate() {
        let object = &objects[step.object];
        let fault = |cause| ChainFault { object: step.object, cause };
        let damaged = |cause: String| fault(FaultCause::Damaged(cause));
        let leaves_early = number + 1 < plan.steps.len() && step.until < object.name.last;
        let mut reading = Reading::of(state);
        let mut passed = None;
        'object: loop {
            let batch = ahead.next(number).await;
            let batch = batch.ok_or_else(|| damaged("reading it ended for no known reason".to_owned()))?;
            reached.bytes += batch.read as u64;
            for event in batch.events {
                let Some(transaction) = reading.take(object, event).map_err(damaged)? else { continue };
                if transaction.txid != step.until {
                    continue;
                }
                let checksum = transaction.checksum_after;
                if let Some(logged) = known(plan.lineage, step.until).filter(|logged| *logged != checksum) {
                    let cause = format!("it has checksum {checksum} after txid {}, the cluster {logged}", step.until);
                    return Err(damaged(cause));
                }
                passed = Some(checksum);
                if leaves_early {
                    break 'object;
                }
            }
            match batch.end {
                None => {}
                Some(Ok(())) => {
                    reached.whole.push(step.object);
                    break;
                }
                Some(Err(Broken::Source(error))) => return Err(fault(FaultCause::Source(error))),
                Some(Err(Broken::Content(error))) => return Err(damaged(error.to_string())),
            }
        }
        let (Some(checksum), Some(after)) = (passed, reading.into_state()) else {
            return Err(damaged(format!("it does not lead to txid {}", step.until)));
        };
        reached.position = Position { lineage: plan.lineage, txid: step.until, checksum };
        state = after;
    }
    Ok(reached)
}
