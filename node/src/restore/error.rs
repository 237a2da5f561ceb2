//! Why a restore gave nothing.

use seawall_host::time::UnixMillis;
use seawall_proto::position::{Position, Txid};

use super::plan::PlanError;
use super::source::SourceError;
use super::target::TargetError;

/// Why a restore gave nothing. Nothing was left behind, but for [`RestoreError::Kept`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The output cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source has nothing.
    #[error("{0} holds nothing to restore; check the name of the database (--if-replica-exists takes this as success)")]
    Empty(String),
    /// No chain of objects leads there.
    #[error("{origin}: {cause}{}", list(damage))]
    NoChain {
        /// Where.
        origin: String,
        /// Why not.
        cause: PlanError,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// The newest state is known, and the objects do not lead to it.
    #[error("{origin}: the newest state is {head}, and what is there leads to txid {reached} only{}", list(damage))]
    BehindHead {
        /// Where.
        origin: String,
        /// The newest state.
        head: Position,
        /// What can be rebuilt.
        reached: Txid,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// The last transaction at that time may be one that cannot be read.
    #[error(
        "{origin}: the last transaction then may be in {hidden}, which cannot be read; txid {txid} is the last one \
         before it: restore that by --txid if it will do{}",
        list(damage)
    )]
    TimeHidden {
        /// Where.
        origin: String,
        /// The last state known to be old enough.
        txid: Txid,
        /// What may hold a later one.
        hidden: String,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// Everything is younger than the time asked for.
    #[error("nothing as old as that can be rebuilt{}", oldest(*.0))]
    TooEarly(Option<UnixMillis>),
    /// The source kept moving on.
    #[error("{0}; it kept doing so: try again when it is quieter, or name a --txid")]
    KeepsChanging(SourceError),
    /// The restored state is not the one the source named.
    #[error("the restored state is {reached}, the source says {head}: one of its copies is wrong")]
    WrongState {
        /// What was restored.
        reached: Position,
        /// What the source says.
        head: Position,
    },
    /// The disk does not give back what was written to it.
    #[error("{0} does not read back as it was written: check the disk")]
    DiskLies(String),
    /// SQLite finds fault with the restored database.
    #[error("the restored database is the source's content, checksum and all, but SQLite complains: {0}")]
    Integrity(String),
    /// The temporary file.
    #[error(transparent)]
    Disk(std::io::Error),
    /// The program was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// It came some way, and the next restore can go on from there.
    #[error(
        "{cause}\nwhat was restored until then is kept in {file} and {state}: the same command goes on from there; \
         remove both files, or use --no-resume, to begin anew"
    )]
    Kept {
        /// What happened.
        cause: Box<RestoreError>,
        /// The temporary file.
        file: String,
        /// What is known of its content.
        state: String,
    },
}

impl RestoreError {
    /// Whether the same restore may come further another time. False where what was put together is itself wrong.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Source(_)
            | Self::NoChain { .. }
            | Self::BehindHead { .. }
            | Self::TimeHidden { .. }
            | Self::KeepsChanging(_)
            | Self::Disk(_)
            | Self::Target(_)
            | Self::Interrupted => true,
            Self::Empty(_)
            | Self::TooEarly(_)
            | Self::WrongState { .. }
            | Self::DiskLies(_)
            | Self::Integrity(_)
            | Self::Kept { .. } => false,
        }
    }
}

fn list(damage: &[String]) -> String {
    damage.iter().fold(String::new(), |text, one| text + "\n  " + one)
}

fn oldest(time: Option<UnixMillis>) -> String {
    time.map_or_else(String::new, |time| format!("; the oldest state is of {}", super::show_time(time)))
}
