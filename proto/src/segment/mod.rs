//! Segments: immutable runs of consecutive transactions. The format is specified in `docs/segment-format.md`.
//!
//! [`SegmentEncoder`] and [`SegmentDecoder`] stream: a segment of any size passes through them in bounded memory.
//! [`SegmentIndex`] finds single pages from the end of a segment alone. [`concat`] joins adjacent segments and keeps
//! every transaction; [`squash`] keeps only the last version of each page.

mod byte_queue;
mod chain;
mod compression;
mod concat;
mod decoder;
mod encoder;
mod error;
mod fingerprint;
mod footer;
mod frame;
mod header;
mod index;
mod ledger;
mod page_index;
mod record;
mod section;
mod squash;
mod summary;
mod transaction;
mod transaction_table;
mod varint;

pub use concat::concat;
pub use decoder::{SegmentDecoder, SegmentEvent};
pub use encoder::SegmentEncoder;
pub use error::{EncodeError, MergeError, SegmentError};
pub use footer::SegmentFooter;
pub use frame::MAX_FRAME_BYTES;
pub use header::{InvalidHeader, SegmentHeader, SegmentKind};
pub use index::{FrameRange, PageLocation, SegmentIndex};
pub use squash::squash;
pub use summary::SegmentSummary;
pub use transaction::Transaction;
