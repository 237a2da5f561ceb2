//! Making the certificates of a cluster: an authority of its own, and what it signs.

mod authority;
mod plan;
mod write;

pub use authority::{Authority, CertificateError, Issued, Subject};
pub use plan::{Plan, PlannedFile, Request, plan};
pub use write::{WriteError, write};
