//! The files of an image: `image.<generation>` (the pages), `vector.<generation>`, `meta`.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::task;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize};

use super::meta::{MAX_META_BYTES, Meta};
use super::vector::PageEntry;
use super::working::{Dirty, Working};

/// Pages are written in runs of at most this many bytes, and the vector is read in pieces of this many.
const PIECE_BYTES: usize = 1 << 20;

/// The two large files, open.
pub(super) struct Files {
    pages: File,
    vector: File,
}

/// Reads `meta`; an absent one is that of an empty image, a damaged one that of a quarantined image.
pub(super) async fn read_meta(directory: &Path, lineage: Lineage) -> io::Result<Meta> {
    let path = directory.join("meta");
    if !disk::exists(&path).await? {
        return Ok(Meta::empty(lineage));
    }
    let bytes = disk::read_file(&path, MAX_META_BYTES).await;
    let meta = match &bytes {
        Ok(bytes) => Meta::decode(bytes),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("the meta file is too long"),
        Err(_) => return Err(bytes.err().unwrap_or_else(|| io::Error::other("unreadable"))),
    };
    let damaged = |reason: &str| Meta { quarantined: Some(reason.to_owned()), ..Meta::empty(lineage) };
    Ok(match meta {
        Ok(meta) if meta.position.lineage == lineage => meta,
        Ok(_) => damaged("the meta file is another lineage's"),
        Err(reason) => damaged(reason),
    })
}

/// Replaces `meta`, atomically and durably.
pub(super) async fn write_meta(directory: &Path, meta: &Meta) -> io::Result<()> {
    disk::replace_file(&directory.join("meta"), meta.encode()).await
}

/// Removes the files of every generation but `generation`.
pub(super) async fn remove_other_generations(directory: &Path, generation: u64) -> io::Result<()> {
    let keep = paths(directory, generation);
    for entry in disk::list(directory).await? {
        let path = directory.join(&entry.name);
        let is_ours = entry.name.starts_with("image.") || entry.name.starts_with("vector.");
        if is_ours && !entry.is_directory && !keep.contains(&path) {
            disk::remove_file(&path).await?;
        }
    }
    Ok(())
}

/// The largest generation that has a file.
pub(super) async fn newest_generation(directory: &Path) -> io::Result<u64> {
    let entries = disk::list(directory).await?;
    let number = |name: &str| name.strip_prefix("image.").or_else(|| name.strip_prefix("vector."))?.parse().ok();
    Ok(entries.iter().filter_map(|entry| number(&entry.name)).max().unwrap_or(0))
}

fn paths(directory: &Path, generation: u64) -> [PathBuf; 2] {
    [directory.join(format!("image.{generation}")), directory.join(format!("vector.{generation}"))]
}

impl Files {
    /// Opens the files of a generation; creates them if they are not there.
    pub(super) async fn open(directory: &Path, generation: u64) -> io::Result<Self> {
        let [pages, vector] = paths(directory, generation);
        let pages = File::open(&pages, OpenMode::OpenOrCreate).await?;
        let vector = File::open(&vector, OpenMode::OpenOrCreate).await?;
        disk::sync_directory(directory).await?;
        Ok(Self { pages, vector })
    }

    /// The vector as the file has it: `meta`'s number of entries, those past the end of the file absent.
    pub(super) async fn load_vector(&self, meta: &Meta) -> io::Result<Vec<PageEntry>> {
        let wanted = meta.page_count as usize;
        let mut entries = Vec::new();
        while entries.len() < wanted {
            let len = PIECE_BYTES.min((wanted - entries.len()) * PageEntry::BYTES);
            let piece = self.vector.read_at((entries.len() * PageEntry::BYTES) as u64, len).await?;
            entries.extend(PageEntry::decode_all(&piece));
            if piece.len() < len {
                break;
            }
        }
        entries.resize(wanted, PageEntry::default());
        Ok(entries)
    }

    /// The hashes of `page_count` pages as the file has them, from page 1 on, the lock page's empty; fewer if the file
    /// is cut short.
    pub(super) async fn hash_pages(&self, page_size: PageSize, page_count: u32) -> io::Result<Vec<Checksum>> {
        let bytes = page_size.bytes() as usize;
        let mut hashes: Vec<Checksum> = Vec::new();
        while hashes.len() < page_count as usize {
            let first = hashes.len() as u32 + 1;
            let count = (PIECE_BYTES / bytes).clamp(1, (page_count - first + 1) as usize);
            let piece = self.read_pages(page_size, PageNumber(first), count).await?;
            let is_whole = piece.len() == count * bytes;
            let hashing = task::blocking(move || {
                let hash = |(page, bytes): (u32, &[u8])| match PageNumber(page) {
                    lock if lock == page_size.lock_page() => Checksum::EMPTY,
                    page => Checksum::of_page(page, bytes),
                };
                (first..).zip(piece.chunks_exact(bytes)).map(hash).collect::<Vec<_>>()
            });
            hashes.extend(hashing.await.map_err(io::Error::other)?);
            if !is_whole {
                break;
            }
        }
        Ok(hashes)
    }

    /// Writes in place, durable only after [`Files::sync`].
    pub(super) async fn write(&self, dirty: Dirty) -> io::Result<()> {
        if dirty.restarted {
            self.pages.set_len(0).await?;
            self.vector.set_len(0).await?;
        }
        let mut run: Vec<Bytes> = Vec::new();
        let mut first = 0;
        for (page, bytes) in dirty.pages {
            let follows = first + run.len() as u32 == page && run.len() * bytes.len() < PIECE_BYTES;
            if !follows && !run.is_empty() {
                let offset = dirty.page_size.offset_of(PageNumber(first));
                self.pages.write_at(offset, std::mem::take(&mut run)).await?;
            }
            if run.is_empty() {
                first = page;
            }
            run.push(bytes);
        }
        if !run.is_empty() {
            self.pages.write_at(dirty.page_size.offset_of(PageNumber(first)), run).await?;
        }
        let mut run: Vec<Bytes> = Vec::new();
        let (mut offset, mut end) = (0, 0);
        for (first, bytes) in dirty.entries {
            let begins = first * PageEntry::BYTES;
            if !run.is_empty() && begins != end {
                self.vector.write_at(offset as u64, std::mem::take(&mut run)).await?;
            }
            if run.is_empty() {
                offset = begins;
            }
            end = begins + bytes.len();
            run.push(bytes);
        }
        if !run.is_empty() {
            self.vector.write_at(offset as u64, run).await?;
        }
        Ok(())
    }

    /// Cuts or extends the files to what `working` holds between two transactions and makes them durable.
    pub(super) async fn sync(&self, working: &Working) -> io::Result<()> {
        let page_bytes = u64::from(working.page_size.map_or(0, PageSize::bytes));
        fit(&self.pages, u64::from(working.page_count) * page_bytes).await?;
        fit(&self.vector, u64::from(working.page_count) * PageEntry::BYTES as u64).await?;
        self.pages.sync().await?;
        self.vector.sync().await
    }

    /// Reads pages one behind the other; the result is short where the file ends.
    pub(super) async fn read_pages(&self, page_size: PageSize, first: PageNumber, count: usize) -> io::Result<Bytes> {
        self.pages.read_at(page_size.offset_of(first), count * page_size.bytes() as usize).await
    }
}

async fn fit(file: &File, len: u64) -> io::Result<()> {
    if file.len().await? != len { file.set_len(len).await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seawall_proto::position::Txid;

    use super::*;

    /// What stood where the lock page is now would otherwise stay there.
    #[tokio::test]
    async fn pages_of_another_size_leave_nothing_of_the_old_ones() {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path(), 3).await.unwrap();
        let page_size = PageSize::new(512).unwrap();
        let entries = PageEntry::encode_all(&[PageEntry { hash: Checksum(1), changed: Txid(1) }]);
        let dirty = |restarted, page: u32| Dirty {
            page_size,
            restarted,
            pages: BTreeMap::from([(page, Bytes::from(vec![7; 512]))]),
            entries: vec![(page as usize - 1, entries.clone())],
        };
        files.write(dirty(false, 1)).await.unwrap();
        files.write(dirty(true, 3)).await.unwrap();
        assert_eq!(files.pages.read_at(0, 2048).await.unwrap(), [vec![0; 1024], vec![7; 512]].concat());
        assert_eq!(files.vector.read_at(0, 99).await.unwrap(), [vec![0; 32], entries.to_vec()].concat());
    }
}
