//! TLS 1.3, with certificates on both sides.

mod expiry;
mod live;
mod loaded;
mod rotation;

pub use live::Tls;
pub(super) use live::TlsDoor;
pub use loaded::TlsError;
pub(super) use rotation::keep_current;
