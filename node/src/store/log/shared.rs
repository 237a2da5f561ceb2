//! What handles, writer and deleter of a log file share.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::probe::{mutant, sometimes};
use tokio::sync::Notify;

use super::batches::find_entry;
use super::entry::LogId;
use super::error::{DamagedPayload, ReadLogError};
use super::index::{ROW_BYTES, decode_row};
use super::memory::{Found, Memory};
use super::piece::{self, SealedPiece};
use super::record::PayloadPlace;

pub(super) struct Shared {
    pub(super) dir: PathBuf,
    memory: Mutex<Memory>,
    /// Wakes the writer.
    pub(super) work: Notify,
    /// Wakes the deleter.
    pub(super) deletion: Notify,
}

impl Shared {
    pub(super) fn new(dir: PathBuf, memory: Memory) -> Self {
        Self { dir, memory: Mutex::new(memory), work: Notify::new(), deletion: Notify::new() }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes pieces that nobody needs, as long as the log file is open.
    pub(super) async fn delete_pieces(&self) {
        loop {
            self.deletion.notified().await;
            loop {
                let Some((number, sealed)) = self.memory().take_deletable() else {
                    break;
                };
                // The name is gone for good before the next one goes, so that no crash leaves a hole.
                let path = piece::path(&self.dir, number);
                sometimes("log piece deleted");
                let removed = match disk::remove_file(&path).await {
                    Ok(()) => disk::sync_directory(&self.dir).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = removed {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!(%error, "a piece of the log file that is no longer needed stays for now");
                        self.memory().sealed.insert(number, sealed);
                    }
                    break;
                }
            }
        }
    }

    async fn file(&self, number: u64) -> io::Result<File> {
        if let Some(file) = self.memory().file(number) {
            return Ok(file);
        }
        let file = File::open(&piece::path(&self.dir, number), OpenMode::Read).await?;
        self.memory().keep_file(number, file.clone());
        Ok(file)
    }

    /// Reads payloads that lie in one piece, ascending and near each other, in one turn; ends before the first that is
    /// damaged, and says so unless there are others before it.
    pub(super) async fn read_run(
        &self,
        number: u64,
        run: &[(LogId, PayloadPlace)],
    ) -> Result<Vec<Bytes>, ReadLogError> {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let file = self.file(number).await?;
        let bytes = match file.read_exact_at(first.offset, (last.end() - first.offset) as usize).await {
            Ok(bytes) => bytes,
            Err(error) if run.len() == 1 => return Err(damaged(&file, run[0], Some(error))),
            // Maybe only some of them cannot be read.
            Err(_) => return Box::pin(self.read_run(number, &run[..1])).await,
        };
        let mut payloads = Vec::with_capacity(run.len());
        for (id, place) in run {
            let at = (place.offset - first.offset) as usize;
            let payload = bytes.slice(at..at + place.len as usize);
            if crc32c::crc32c(&payload) != place.crc && !mutant("log-crc-ignored") {
                if payloads.is_empty() {
                    return Err(damaged(&file, (*id, *place), None));
                }
                break;
            }
            payloads.push(payload);
        }
        Ok(payloads)
    }

    /// Gets a payload from wherever it is, and its entry's id, where that is known. `None` if the log lost it.
    pub(super) async fn fetch(&self, index: u64, found: Found) -> Result<Option<(Option<LogId>, Bytes)>, ReadLogError> {
        let (id, number, place) = match found {
            Found::Here { id, payload } => return Ok(Some((id, payload))),
            Found::Written { id, piece, place } => (id, piece, place),
            Found::Indexed { piece, sealed } => match self.look_up(index, piece, &sealed).await? {
                Some((id, place)) => (id, piece, place),
                None => return Ok(None),
            },
        };
        let mut read = self.read_run(number, &[(id, place)]).await?;
        Ok(read.pop().map(|payload| (Some(id), payload)))
    }

    /// Where in a sealed piece a payload lies.
    async fn look_up(
        &self,
        index: u64,
        number: u64,
        sealed: &SealedPiece,
    ) -> Result<Option<(LogId, PayloadPlace)>, ReadLogError> {
        let file = self.file(number).await?;
        let at = sealed.rows_offset + (index - sealed.stored_first) * ROW_BYTES as u64;
        let row = decode_row(&file.read_exact_at(at, ROW_BYTES).await?, sealed.salt, index);
        if let Some((id, place, _)) = row.filter(|(_, place, _)| place.end() <= sealed.bytes) {
            return Ok(Some((id, place)));
        }
        let piece = file.path().display();
        tracing::warn!(%piece, offset = at, index, "a row of the index is damaged; looking for its entry in the piece");
        let found = find_entry(&file, number, sealed.salt, sealed.bytes, index).await?;
        if found.is_none() {
            tracing::error!(%piece, index, "the entry is damaged, too: its payload is lost on this node. Check the disk");
        }
        Ok(found)
    }
}

fn damaged(file: &File, (id, place): (LogId, PayloadPlace), cause: Option<io::Error>) -> ReadLogError {
    let PayloadPlace { offset, len, crc } = place;
    ReadLogError::Damaged(Box::new(DamagedPayload { id, len, crc, path: file.path().to_owned(), offset, cause }))
}
