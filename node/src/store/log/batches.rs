//! Reading a piece batch by batch.

use std::io;

use seawall_host::disk::File;

use super::entry::LogId;
use super::record::{
    BATCH_HEADER, BatchHeader, BatchRecords, Kind, MAGIC, PAYLOAD_DAMAGED, PayloadPlace, decode_records,
};

/// A batch that was read.
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    pub(super) records: BatchRecords,
}

impl Batch {
    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.header.offset + BATCH_HEADER as u64 + self.header.length
    }

    /// What is wrong with payloads of it, if anything is.
    pub(super) fn damage(&self) -> Option<&'static str> {
        (self.records.damaged > 0).then_some(PAYLOAD_DAMAGED)
    }
}

/// Reads the batch at `at` of a piece of `len` bytes; the inner error says what is wrong with it.
pub(super) async fn read_batch(
    file: &File,
    number: u64,
    salt: Option<u64>,
    at: u64,
    len: u64,
) -> io::Result<Result<Batch, &'static str>> {
    let header = BatchHeader::decode(&file.read_at(at, BATCH_HEADER).await?);
    let Some(header) = header.filter(|header| is_at(header, number, salt, at)) else {
        return Ok(Err("there is no valid batch"));
    };
    let start = at + BATCH_HEADER as u64;
    if header.length > len.saturating_sub(start) {
        return Ok(Err("a batch is cut off"));
    }
    let bytes = file.read_exact_at(start, header.length as usize).await?;
    Ok(decode_records(&header, &bytes).map(|records| Batch { header, records }))
}

/// Looks for an entry in all batches of a piece of `len` bytes: its id, and where its payload lies. Its index is not
/// needed for that.
pub(super) async fn find_entry(
    file: &File,
    number: u64,
    salt: u64,
    len: u64,
    index: u64,
) -> io::Result<Option<(LogId, PayloadPlace)>> {
    let (mut at, mut found) = (0, None);
    while at < len {
        match read_batch(file, number, Some(salt), at, len).await? {
            Ok(batch) => {
                for head in &batch.records.heads {
                    if let (Kind::Entry, Some(id)) = (head.kind, head.id)
                        && id.index == index
                    {
                        // What comes later took the place of what was cut off.
                        found = Some((id, head.payload));
                    }
                }
                at = batch.end();
            }
            Err(_) => match find_batch(file, number, Some(salt), at + 1, len).await? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    Ok(found)
}

fn is_at(header: &BatchHeader, number: u64, salt: Option<u64>, at: u64) -> bool {
    header.piece == number && header.offset == at && salt.is_none_or(|salt| salt == header.salt)
}

/// The first place from `from` on where a valid batch header lies.
pub(super) async fn find_batch(
    file: &File,
    number: u64,
    salt: Option<u64>,
    from: u64,
    len: u64,
) -> io::Result<Option<u64>> {
    const WINDOW: usize = 1 << 20;
    let mut at = from;
    while at < len {
        let bytes = file.read_at(at, WINDOW + BATCH_HEADER).await?;
        for start in 0..bytes.len().min(WINDOW) {
            if !bytes[start..].starts_with(&MAGIC) {
                continue;
            }
            let offset = at + start as u64;
            if BatchHeader::decode(&bytes[start..]).is_some_and(|header| is_at(&header, number, salt, offset)) {
                return Ok(Some(offset));
            }
        }
        at += WINDOW as u64;
    }
    Ok(None)
}
