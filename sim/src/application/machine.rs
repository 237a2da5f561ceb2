//! What is left of a database when its machine dies.
//!
//! Dropping the tasks of a dead machine closes its connections, and what closing does to the files no dead machine
//! does: so the files are copied at the moment of death, and the next life starts on the copies, put at the same paths
//! as new files.

use std::path::{Path, PathBuf};

use super::files::{self, sidecar};
use super::sqlite::SourceError;
use crate::random::Random;

/// Length of the header of a WAL, and of that of each frame (SQLite's WAL-mode file format, sections 1.1 and 1.2).
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// What a disk writes at once.
const SECTOR: usize = 512;

/// How a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineDeath {
    /// Everything written is on its disk: a virtual machine whose host lives on.
    Reset,
    /// What was not synced may be lost, or torn.
    PowerLoss,
}

/// The files of one database at its machine's death. The `-shm` dies with the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    path: PathBuf,
    database: Option<Vec<u8>>,
    wal: Option<Vec<u8>>,
}

impl Remains {
    /// Copies the files of the database at `path`. A power loss takes away some of what was not synced:
    /// frames of the WAL that are not in the database file yet (`syncs_commits` false, as `synchronous=NORMAL`), or just
    /// those of transactions that are not committed (`syncs_commits` true, as `synchronous=FULL`).
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn take(
        path: &Path,
        death: MachineDeath,
        syncs_commits: bool,
        random: &mut Random,
    ) -> Result<Self, SourceError> {
        let database = files::read(path)?;
        let mut wal = files::read(&sidecar(path, "-wal"))?;
        if death == MachineDeath::PowerLoss
            && let Some(wal) = &mut wal
            && let Some(progress) = WalProgress::parse(&files::read(&sidecar(path, "-shm"))?.unwrap_or_default(), wal)
        {
            let synced = if syncs_commits { progress.committed } else { progress.backfilled };
            lose_tail(wal, &progress, synced, random);
        }
        Ok(Self { path: path.to_owned(), database, wal })
    }

    /// Puts the copies where the files were. Connections to the old files, if there are any left, keep those.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn put_back(&self) -> Result<(), SourceError> {
        files::remove(&sidecar(&self.path, "-shm"))?;
        for (path, bytes) in [(&self.path, &self.database), (&sidecar(&self.path, "-wal"), &self.wal)] {
            match bytes {
                Some(bytes) => files::replace(path, bytes)?,
                None => files::remove(path)?,
            }
        }
        Ok(())
    }
}

/// Puts `image`, a whole database, in the place of the one at `path`, as an operator does who copies a backup over it
/// while nobody writes: a new file, and nothing left of the old WAL.
///
/// # Errors
/// [`SourceError::File`].
pub fn replace_database(path: &Path, image: &[u8]) -> Result<(), SourceError> {
    Remains { path: path.to_owned(), database: Some(image.to_vec()), wal: None }.put_back()
}

/// How far a WAL is, from the WAL-index (WAL-mode file format, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WalProgress {
    frame_bytes: usize,
    /// Frames that are committed.
    committed: usize,
    /// Of those, frames that a checkpoint has synced: it does before it writes to the database.
    backfilled: usize,
}

impl WalProgress {
    /// `None` if the WAL has no committed frames: nothing in it matters.
    fn parse(index: &[u8], wal: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*index.get(at..)?.first_chunk()?) as usize);
        let page_bytes = u32::from_be_bytes(*wal.get(8..)?.first_chunk()?) as usize;
        // A writer that restarts the WAL changes the salts in the index first.
        let same = index.get(32..40)? == wal.get(16..24)?;
        let committed = word(16)?;
        let backfilled = word(96)?.max(word(128)?).min(committed);
        (same && committed > 0).then_some(Self { frame_bytes: FRAME_HEADER + page_bytes, committed, backfilled })
    }
}

/// Takes away what was written to the WAL after a frame between `synced` and the last that is committed.
fn lose_tail(wal: &mut Vec<u8>, progress: &WalProgress, synced: usize, random: &mut Random) {
    let kept = random.range(synced as u64..progress.committed as u64 + 1) as usize;
    let end = WAL_HEADER + kept * progress.frame_bytes;
    if end >= wal.len() {
        return;
    }
    match random.below(4) {
        // All of it was on the disk.
        0 => {}
        // The file never grew.
        1 => wal.truncate(end),
        // It did, but not to a whole frame.
        2 => {
            let torn = end + random.range(1..progress.frame_bytes as u64) as usize;
            wal.truncate(torn.min(wal.len()));
        }
        // One sector of the next frame is not what was written; later frames are.
        _ => {
            let start = end + random.index(progress.frame_bytes);
            let stop = (start + SECTOR).min(end + progress.frame_bytes).min(wal.len());
            if let Some(sector) = wal.get_mut(start..stop) {
                let mut noise = vec![0; sector.len()];
                random.fill(&mut noise);
                // Never what was there.
                sector.iter_mut().zip(&noise).for_each(|(byte, noise)| *byte ^= noise | 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::directory::TemporaryDirectory;
    use crate::application::history::{Content, SourceHistory};
    use crate::application::sqlite::{self, CheckpointMode, SeededSqlite, checkpoint};
    use crate::random::Stream;

    struct Setup {
        _seeded: SeededSqlite,
        directory: TemporaryDirectory,
        history: SourceHistory,
    }

    impl Setup {
        fn path(&self) -> PathBuf {
            self.directory.path().join("app.db")
        }

        fn commit(&mut self, connection: &rusqlite::Connection, sql: &str) {
            connection.execute_batch(sql).unwrap();
            self.history.record(std::time::Duration::ZERO, Content::read(connection).unwrap());
        }

        /// A database of 21 states, those up to number 11 in the database file.
        fn new(seed: u64, synchronous: &str) -> (Self, rusqlite::Connection) {
            let _seeded = SeededSqlite::new(seed);
            let directory = TemporaryDirectory::new().unwrap();
            let mut setup = Self { _seeded, directory, history: SourceHistory::new() };
            let connection = sqlite::open(&setup.path()).unwrap();
            connection.execute_batch("PRAGMA page_size=512; PRAGMA journal_mode=WAL").unwrap();
            connection.execute_batch(synchronous).unwrap();
            setup.commit(&connection, "CREATE TABLE t(a)");
            for round in 0..20 {
                setup.commit(&connection, "INSERT INTO t VALUES (randomblob(300))");
                if round == 10 {
                    assert!(checkpoint(&connection, CheckpointMode::Passive).unwrap());
                }
            }
            (setup, connection)
        }

        /// The number of the state that the next life finds.
        fn next_life(&self) -> usize {
            let connection = sqlite::open(&self.path()).unwrap();
            let content = Content::read(&connection).unwrap();
            let found = self.history.states().iter().rposition(|state| state.content == content);
            found.expect("a database after its machine's death is one of its states")
        }
    }

    #[test]
    fn a_power_loss_takes_only_commits_that_were_not_synced() {
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let (setup, connection) = Setup::new(seed, "PRAGMA synchronous=NORMAL");
            let mut random = Random::new(seed, Stream::Application);
            let remains = Remains::take(&setup.path(), MachineDeath::PowerLoss, false, &mut random).unwrap();
            drop(connection);
            remains.put_back().unwrap();
            found.insert(setup.next_life());
        }
        // State 11 was checkpointed.
        assert!(found.iter().all(|number| *number >= 11), "{found:?}");
        assert!(found.contains(&20) && found.len() >= 6, "{found:?}");
    }

    #[test]
    fn with_full_synchronisation_nothing_committed_goes() {
        for seed in 0..20 {
            let (setup, connection) = Setup::new(seed, "PRAGMA synchronous=FULL; PRAGMA cache_size=2");
            // Spills frames that are not committed into the WAL.
            connection.execute_batch("BEGIN; UPDATE t SET a = randomblob(300)").unwrap();
            let mut random = Random::new(seed, Stream::Application);
            let remains = Remains::take(&setup.path(), MachineDeath::PowerLoss, true, &mut random).unwrap();
            drop(connection);
            remains.put_back().unwrap();
            assert_eq!(setup.next_life(), setup.history.states().len() - 1);
        }
    }

    #[test]
    fn a_reset_keeps_everything_and_what_the_old_life_does_afterwards_is_lost() {
        let (setup, connection) = Setup::new(1, "PRAGMA synchronous=NORMAL");
        let mut random = Random::new(1, Stream::Application);
        let remains = Remains::take(&setup.path(), MachineDeath::Reset, false, &mut random).unwrap();
        connection.execute_batch("DELETE FROM t").unwrap();
        checkpoint(&connection, CheckpointMode::Truncate).unwrap();
        let before = seawall_host::local::stat(&setup.path()).unwrap().unwrap();
        remains.put_back().unwrap();
        assert_ne!(seawall_host::local::stat(&setup.path()).unwrap().unwrap().identity, before.identity);
        drop(connection);
        assert_eq!(setup.next_life(), setup.history.states().len() - 1);
    }

    #[test]
    fn a_backup_copied_over_the_database_leaves_nothing_of_its_wal() {
        let (mut setup, connection) = Setup::new(1, "PRAGMA synchronous=NORMAL");
        let mut image = Vec::new();
        sqlite::for_each_page(&connection, |_, bytes| image.extend_from_slice(bytes)).unwrap();
        let backed_up = setup.history.states().len() - 1;
        setup.commit(&connection, "DELETE FROM t");
        drop(connection);
        replace_database(&setup.path(), &image).unwrap();
        assert_eq!(setup.next_life(), backed_up);
    }
}
