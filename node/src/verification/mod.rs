//! Verifies what destinations hold, all the time, and heals it.
//!
//! The leader has one task for each destination, so that none holds up another. In its turn each database is restored
//! from there onto the hashes of its pages: the newest state that the watermark promises, and earlier ones at random. What
//! is lost or damaged is replaced by the same from the nodes' log, their image, or another destination, after that was
//! proven; where nobody has it and the newest state depends on it, a fresh snapshot is asked for. The results go
//! through Raft, so that the next leader goes on with the schedule and any node can show them.
//!
//! What should be there, what takes its place, and when to look ([`expected`], [`sources`], [`schedule`]) are decided on
//! plain values.

mod context;
mod expected;
mod findings;
mod healer;
mod integrity;
mod pace;
mod proof;
mod schedule;
mod sources;
mod verifier;
mod visit;

pub use context::RequestSnapshot;
pub use verifier::Verifier;
