//! What happened in a run, as it was seen from outside: written down line by line while it happens, judged afterwards.

mod event;
mod generation;
mod live;
mod reader;
mod recorder;

pub use event::{Event, Position, Promise, Recorded, RestoredContent};
pub(crate) use generation::Generation;
pub use live::Seen;
pub use reader::{ReadError, Reader};
pub use recorder::Recorder;
