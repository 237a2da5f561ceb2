//! Whether two files are the same database, page by page.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::JournalError;

/// The byte that SQLite locks; the page that holds it is never used.
const LOCK_BYTE: u64 = 1 << 30;

/// A database's header is as long.
const HEADER: usize = 100;

/// Pages that are compared at a time.
const PAGES_AT_ONCE: usize = 64;

/// The first page, counted from 1, in which two databases differ; nothing if they are the same, and of the same size. Both stand
/// alone: of a source that has a WAL, take a [`SourceCopy`](super::SourceCopy). Two that differ in their page size differ in page 1.
///
/// # Errors
/// One of them cannot be read.
pub fn same_pages(restored: &Path, source: &Path) -> Result<Option<u64>, JournalError> {
    let mut one = Pages::open(restored)?;
    let mut other = Pages::open(source)?;
    if one.page_size != other.page_size {
        return Ok(Some(1));
    }
    let page_size = one.page_size;
    let lock_page = LOCK_BYTE / page_size as u64 + 1;
    let mut page = 1;
    loop {
        let ours = one.next()?;
        let theirs = other.next()?;
        for (ours, theirs) in ours.chunks(page_size).zip(theirs.chunks(page_size)) {
            // A last page that was cut differs, be it the lock page.
            if ours.len() != theirs.len() || ours != theirs && page != lock_page {
                return Ok(Some(page));
            }
            page += 1;
        }
        if ours.len() != theirs.len() {
            return Ok(Some(page));
        }
        if ours.is_empty() {
            return Ok(None);
        }
    }
}

/// A file, page by page.
struct Pages<'a> {
    path: &'a Path,
    file: File,
    page_size: usize,
    buffer: Vec<u8>,
    /// What was read for the header is the beginning of the first pages.
    held: usize,
}

impl<'a> Pages<'a> {
    fn open(path: &'a Path) -> Result<Self, JournalError> {
        let mut file = File::open(path).map_err(JournalError::io(path))?;
        let mut header = [0; HEADER];
        let held = fill(&mut file, &mut header).map_err(JournalError::io(path))?;
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            // 65536 does not fit, and is written so.
            1 => 1 << 16,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            // Not a database's header, of which no page can be told from another.
            _ => 512,
        };
        let mut buffer = vec![0; page_size * PAGES_AT_ONCE];
        buffer[..held].copy_from_slice(&header[..held]);
        Ok(Self { path, file, page_size, buffer, held })
    }

    /// The next pages, fewer at the end of the file and none behind it.
    fn next(&mut self) -> Result<&[u8], JournalError> {
        let held = std::mem::take(&mut self.held);
        let read = fill(&mut self.file, &mut self.buffer[held..]).map_err(JournalError::io(self.path))?;
        Ok(&self.buffer[..held + read])
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;

    fn file(directory: &Path, name: &str, page_size: u16, pages: usize) -> std::path::PathBuf {
        let size = if page_size == 1 { 1 << 16 } else { usize::from(page_size) };
        let mut bytes: Vec<u8> = (0..size * pages).map(|byte| (byte / size) as u8).collect();
        bytes[16..18].copy_from_slice(&page_size.to_be_bytes());
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn change(path: &Path, offset: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0xff], offset).unwrap();
    }

    #[test]
    fn the_first_page_that_differs_is_named() {
        let directory = tempfile::tempdir().unwrap();
        for page_size in [512, 4096, 1] {
            let size = if page_size == 1 { 1 << 16 } else { u64::from(page_size) };
            let one = file(directory.path(), "one", page_size, 200);
            let other = file(directory.path(), "other", page_size, 200);
            assert_eq!(same_pages(&one, &other).unwrap(), None);
            change(&other, 150 * size);
            change(&other, 151 * size - 1);
            assert_eq!(same_pages(&one, &other).unwrap(), Some(151));
            change(&other, 64 * size - 1);
            assert_eq!(same_pages(&one, &other).unwrap(), Some(64));
            change(&other, 24);
            assert_eq!(same_pages(&one, &other).unwrap(), Some(1));
        }
    }

    #[test]
    fn a_shorter_file_differs_in_the_page_that_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let long = file(directory.path(), "long", 1024, 129);
        for (pages, differs) in [(128, 129), (100, 101), (64, 65)] {
            let short = file(directory.path(), "short", 1024, pages);
            assert_eq!(same_pages(&long, &short).unwrap(), Some(differs));
            assert_eq!(same_pages(&short, &long).unwrap(), Some(differs));
        }
        let torn = file(directory.path(), "torn", 1024, 129);
        File::options().write(true).open(&torn).unwrap().set_len(128 * 1024 + 5).unwrap();
        assert_eq!(same_pages(&long, &torn).unwrap(), Some(129));
        let other_size = file(directory.path(), "other size", 512, 258);
        assert_eq!(same_pages(&long, &other_size).unwrap(), Some(1));
        fs::write(&torn, b"").unwrap();
        assert_eq!(same_pages(&long, &torn).unwrap(), Some(1));
        assert_eq!(same_pages(&torn, &torn).unwrap(), None);
    }

    #[test]
    fn the_lock_page_is_left_out_and_the_next_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let sparse = |name: &str| {
            let path = file(directory.path(), name, 1, 2);
            File::options().write(true).open(&path).unwrap().set_len((1 << 30) + (3 << 16)).unwrap();
            path
        };
        let (one, other) = (sparse("one"), sparse("other"));
        change(&other, 1 << 30);
        change(&other, (1 << 30) + (1 << 16) - 1);
        change(&other, (1 << 30) + (1 << 16));
        assert_eq!(same_pages(&one, &other).unwrap(), Some((1 << 14) + 2));
    }
}
