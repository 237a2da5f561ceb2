//! What handles, writer and deleter of a log file share.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::probe::{mutant, sometimes};
use tokio::sync::Notify;

use super::index::{ROW_BYTES, decode_row};
use super::memory::{Found, Memory};
use super::piece;
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

    /// Reads payloads that lie in one piece, ascending and near each other, in one turn.
    pub(super) async fn read_run(&self, number: u64, run: &[PayloadPlace]) -> io::Result<Vec<Bytes>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let file = self.file(number).await?;
        let bytes = file.read_exact_at(first.offset, (last.end() - first.offset) as usize).await?;
        let mut payloads = Vec::with_capacity(run.len());
        for place in run {
            let at = (place.offset - first.offset) as usize;
            let payload = bytes.slice(at..at + place.len as usize);
            if crc32c::crc32c(&payload) != place.crc && !mutant("log-crc-ignored") {
                return Err(rotten(&file, place.offset, "a payload"));
            }
            payloads.push(payload);
        }
        Ok(payloads)
    }

    /// Gets a payload from wherever it is.
    pub(super) async fn fetch(&self, index: u64, found: Found) -> io::Result<Bytes> {
        let (number, place) = match found {
            Found::Here(payload) => return Ok(payload),
            Found::Written { piece, place } => (piece, place),
            Found::Indexed { piece, sealed } => {
                let file = self.file(piece).await?;
                let at = sealed.rows_offset + (index - sealed.stored_first) * ROW_BYTES as u64;
                let row = decode_row(&file.read_exact_at(at, ROW_BYTES).await?, sealed.salt, index);
                let (_, place, _) = row.ok_or_else(|| rotten(&file, at, "a row of the index"))?;
                if place.end() > sealed.bytes {
                    return Err(rotten(&file, at, "a row of the index"));
                }
                (piece, place)
            }
        };
        Ok(self.read_run(number, &[place]).await?.swap_remove(0))
    }
}

fn rotten(file: &File, offset: u64, what: &str) -> io::Error {
    let text = format!(
        "{what} at offset {offset} of {} is damaged: what the disk returns is not what was synced. Check the disk, move \
         the node's whole data directory away, and start the node with an empty one, so that it is filled again from the \
         other nodes",
        file.path().display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}
