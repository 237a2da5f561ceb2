//! Real files. Each call is one job on tokio's blocking threads.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::disk::{DirectoryEntry, Disk, LockGuard, OpenMode, RawFile, Space};

#[derive(Debug)]
pub(super) struct RealDisk;

/// Parts smaller than this are gathered into one write.
const GATHER_LIMIT: usize = 64 << 10;

fn job<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> BoxFuture<'static, io::Result<T>> {
    async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            // The runtime is shutting down, and this task with it: nobody is to take that for an error of the disk.
            Err(error) if error.is_cancelled() => std::future::pending().await,
            Err(error) => Err(io::Error::other(error)),
        }
    }
    .boxed()
}

impl Disk for RealDisk {
    fn open(&self, path: PathBuf, mode: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn RawFile>>> {
        job(move || {
            let mut options = fs::OpenOptions::new();
            options.read(true);
            match mode {
                OpenMode::Read => {}
                OpenMode::ReadWrite => _ = options.write(true),
                OpenMode::OpenOrCreate => _ = options.write(true).create(true).truncate(false),
                OpenMode::CreateNew => _ = options.write(true).create_new(true),
            }
            let file = options.open(path)?;
            Ok(Arc::new(RealFile(Arc::new(file))) as Arc<dyn RawFile>)
        })
    }

    fn rename(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::rename(from, to))
    }

    fn hard_link(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::hard_link(from, to))
    }

    fn remove_file(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::remove_file(path))
    }

    fn remove_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::remove_dir_all(path))
    }

    fn create_directories(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::create_dir_all(path))
    }

    fn sync_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        job(move || fs::File::open(path)?.sync_all())
    }

    fn list(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Vec<DirectoryEntry>>> {
        job(move || {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let is_directory = metadata.is_dir();
                let len = if is_directory { 0 } else { metadata.len() };
                entries.push(DirectoryEntry {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    len,
                    is_directory,
                });
            }
            entries.sort();
            Ok(entries)
        })
    }

    fn exists(&self, path: PathBuf) -> BoxFuture<'static, io::Result<bool>> {
        job(move || path.try_exists())
    }

    fn space(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        job(move || {
            let stat = rustix::fs::statvfs(&path)?;
            Ok(Space { available: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
        })
    }

    fn lock(&self, path: PathBuf) -> BoxFuture<'static, io::Result<LockGuard>> {
        job(move || {
            let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            Ok(LockGuard::new(Box::new(file)))
        })
    }
}

struct RealFile(Arc<fs::File>);

fn write_parts(file: &fs::File, mut offset: u64, parts: &[Bytes]) -> io::Result<()> {
    let mut gathered: Vec<u8> = Vec::new();
    for part in parts {
        if part.len() >= GATHER_LIMIT || gathered.len() + part.len() > GATHER_LIMIT {
            file.write_all_at(&gathered, offset)?;
            offset += gathered.len() as u64;
            gathered.clear();
        }
        if part.len() >= GATHER_LIMIT {
            file.write_all_at(part, offset)?;
            offset += part.len() as u64;
        } else {
            gathered.extend_from_slice(part);
        }
    }
    file.write_all_at(&gathered, offset)
}

impl RawFile for RealFile {
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let file = Arc::clone(&self.0);
        job(move || {
            let mut buffer = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(filled);
            Ok(buffer.into())
        })
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        job(move || write_parts(&file, offset, &parts))
    }

    fn write_scattered(&self, runs: Vec<(u64, Vec<Bytes>)>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        job(move || runs.iter().try_for_each(|(offset, parts)| write_parts(&file, *offset, parts)))
    }

    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        job(move || {
            write_parts(&file, offset, &parts)?;
            file.sync_data()
        })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        job(move || file.sync_data())
    }

    fn set_len(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.0);
        job(move || file.set_len(len))
    }

    fn len(&self) -> BoxFuture<'static, io::Result<u64>> {
        let file = Arc::clone(&self.0);
        job(move || Ok(file.metadata()?.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `data` into parts of the given sizes, the rest last.
    fn split(data: &[u8], sizes: &[usize]) -> Vec<Bytes> {
        let mut rest = data;
        let mut parts = Vec::new();
        for &size in sizes {
            let (part, tail) = rest.split_at(size.min(rest.len()));
            parts.push(Bytes::copy_from_slice(part));
            rest = tail;
        }
        parts.push(Bytes::copy_from_slice(rest));
        parts
    }

    #[test]
    fn writes_parts_of_any_size_in_order() {
        let data: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
        for sizes in [&[][..], &[1, 2, 3], &[GATHER_LIMIT, 5, GATHER_LIMIT - 1, 1, 1], &[0, 100_000, 7, 0, 100_000]] {
            let file = tempfile::tempfile().unwrap();
            write_parts(&file, 10, &split(&data, sizes)).unwrap();
            let mut read = vec![0; data.len()];
            file.read_exact_at(&mut read, 10).unwrap();
            assert!(read == data, "{sizes:?}");
        }
    }
}
