//! What a database file of a run holds, judged by itself: the journal that the applications write, and its pages.
//!
//! A restored file of Seawall equals the source, brought into one file, in every byte but those of the lock page: the header too.
//! It says WAL mode (bytes 18 and 19 are 2), and the change counter (24–27), its copy (92–95) and the writing version (96–99)
//! travel as part of page 1, since SQLite changes them in WAL mode only through a frame of that page. So nothing is left out here.

mod error;
mod inspect;
mod pages;
mod rules;
mod source_copy;

pub use error::JournalError;
pub use inspect::{Journal, inspect};
pub use pages::same_pages;
pub use source_copy::SourceCopy;
