//! Files that Seawall owns.
//!
//! Every call is asynchronous, so that no task is held up and the simulator can give each its latency and faults.
//! A write is durable after [`File::sync`]; a name (creation, rename, removal) after [`sync_directory`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::world;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; created if it does not exist.
    OpenOrCreate,
    /// For reading and writing; it must not exist (`O_EXCL`).
    CreateNew,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name inside the directory.
    pub name: String,
    /// Its length in bytes (0 for directories).
    pub len: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Space on the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this program.
    pub available: u64,
    /// The size of the file system.
    pub total: u64,
}

/// The disk of a machine; what [`crate::World`]s implement.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: PathBuf, mode: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn RawFile>>>;
    /// Renames a file over whatever is at `to`.
    fn rename(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Gives the file at `from` the second name `to`; fails with `AlreadyExists` if that is taken.
    fn hard_link(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a file.
    fn remove_file(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a directory and all that is in it.
    fn remove_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Creates a directory and its parents.
    fn create_directories(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Makes the names inside a directory durable.
    fn sync_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>>;
    /// Lists a directory, in the order of names.
    fn list(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Vec<DirectoryEntry>>>;
    /// Whether something is at `path`.
    fn exists(&self, path: PathBuf) -> BoxFuture<'static, io::Result<bool>>;
    /// The space around `path`.
    fn space(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Space>>;
    /// Takes the exclusive lock of a data directory, held until the guard is dropped or the machine dies.
    fn lock(&self, path: PathBuf) -> BoxFuture<'static, io::Result<LockGuard>>;
}

/// An open file; what worlds implement.
#[expect(clippy::len_without_is_empty, reason = "asking for either costs a turn")]
pub trait RawFile: Send + Sync {
    /// Reads up to `len` bytes; fewer only where the file ends.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>>;
    /// Writes all of `parts`, one behind the other, from `offset` on.
    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>>;
    /// Writes each run of parts at its own offset, one run after the other.
    fn write_scattered(&self, runs: Vec<(u64, Vec<Bytes>)>) -> BoxFuture<'static, io::Result<()>> {
        let writes: Vec<_> = runs.into_iter().map(|(offset, parts)| self.write_at(offset, parts)).collect();
        async move {
            for write in writes {
                write.await?;
            }
            Ok(())
        }
        .boxed()
    }
    /// As [`RawFile::write_at`], then [`RawFile::sync`], in one turn.
    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>>;
    /// Makes contents and length durable (`fdatasync`).
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
    /// Cuts or extends (with zeros) to `len`.
    fn set_len(&self, len: u64) -> BoxFuture<'static, io::Result<()>>;
    /// The length in bytes.
    fn len(&self) -> BoxFuture<'static, io::Result<u64>>;
}

/// Holds the lock of a data directory.
pub struct LockGuard(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl LockGuard {
    /// A guard that releases its lock when `held` is dropped; for worlds.
    pub fn new(held: Box<dyn Send + Sync>) -> Self {
        Self(held)
    }
}

/// An open file. Clones share it.
#[derive(Clone)]
pub struct File {
    raw: Arc<dyn RawFile>,
    path: Arc<Path>,
}

impl File {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// The operating system's, with the path in its text.
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<Self> {
        let raw = world::current().disk().open(path.to_owned(), mode).await.map_err(|e| at(path, "open", &e))?;
        Ok(Self { raw, path: path.into() })
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads up to `len` bytes from `offset`; fewer only where the file ends.
    ///
    /// # Errors
    /// The operating system's, with the path in its text.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.raw.read_at(offset, len).await.map_err(|e| at(&self.path, "read", &e))
    }

    /// Reads exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, or the operating system's.
    pub async fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let bytes = self.read_at(offset, len).await?;
        if bytes.len() == len {
            return Ok(bytes);
        }
        let cause = format!("wanted {len} bytes at offset {offset}, the file ends after {}", bytes.len());
        Err(at(&self.path, "read", &io::Error::new(io::ErrorKind::UnexpectedEof, cause)))
    }

    /// Writes `parts`, one behind the other, from `offset` on.
    ///
    /// # Errors
    /// The operating system's, with the path in its text.
    pub async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        self.raw.write_at(offset, parts).await.map_err(|e| at(&self.path, "write", &e))
    }

    /// Writes each run of parts at its own offset, in one turn: many small runs cost little more than one large one.
    ///
    /// # Errors
    /// The operating system's, with the path in its text. After an error nothing is known of what was written.
    pub async fn write_scattered(&self, runs: Vec<(u64, Vec<Bytes>)>) -> io::Result<()> {
        self.raw.write_scattered(runs).await.map_err(|e| at(&self.path, "write", &e))
    }

    /// Writes `parts` and makes them durable, in one turn.
    ///
    /// # Errors
    /// The operating system's, with the path in its text. After an error nothing is known of what is durable.
    pub async fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        self.raw.write_and_sync(offset, parts).await.map_err(|e| at(&self.path, "write and sync", &e))
    }

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// The operating system's, with the path in its text. After an error nothing is known of what is durable.
    pub async fn sync(&self) -> io::Result<()> {
        self.raw.sync().await.map_err(|e| at(&self.path, "sync", &e))
    }

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// The operating system's, with the path in its text.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        self.raw.set_len(len).await.map_err(|e| at(&self.path, "resize", &e))
    }

    /// The length in bytes.
    ///
    /// # Errors
    /// The operating system's, with the path in its text.
    pub async fn len(&self) -> io::Result<u64> {
        self.raw.len().await.map_err(|e| at(&self.path, "stat", &e))
    }

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`File::len`].
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File").field(&self.path).finish()
    }
}

fn at(path: &Path, action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}

/// Renames `from` over whatever is at `to`.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let disk = world::current();
    disk.disk().rename(from.to_owned(), to.to_owned()).await.map_err(|e| at(to, "rename to", &e))
}

/// Gives `from` the second name `to`.
///
/// # Errors
/// `AlreadyExists` if `to` is taken, or the operating system's.
pub async fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    let world = world::current();
    world.disk().hard_link(from.to_owned(), to.to_owned()).await.map_err(|e| at(to, "link to", &e))
}

/// Removes a file.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn remove_file(path: &Path) -> io::Result<()> {
    world::current().disk().remove_file(path.to_owned()).await.map_err(|e| at(path, "remove", &e))
}

/// Removes a directory and all that is in it.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn remove_directory(path: &Path) -> io::Result<()> {
    world::current().disk().remove_directory(path.to_owned()).await.map_err(|e| at(path, "remove", &e))
}

/// Creates a directory and its parents, durably; fine if it is there. The directory that holds the first of them that
/// was there before is synced too: whoever created it may have died before that.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn create_directories(path: &Path) -> io::Result<()> {
    let mut new = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        new.push(ancestor);
        if exists(ancestor).await? {
            break;
        }
    }
    world::current().disk().create_directories(path.to_owned()).await.map_err(|e| at(path, "create", &e))?;
    for directory in new.into_iter().rev() {
        match directory.parent() {
            None => {}
            Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")).await?,
            Some(parent) => sync_directory(parent).await?,
        }
    }
    Ok(())
}

/// Makes the names inside a directory durable.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn sync_directory(path: &Path) -> io::Result<()> {
    world::current().disk().sync_directory(path.to_owned()).await.map_err(|e| at(path, "sync", &e))
}

/// Lists a directory, in the order of names.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn list(path: &Path) -> io::Result<Vec<DirectoryEntry>> {
    world::current().disk().list(path.to_owned()).await.map_err(|e| at(path, "list", &e))
}

/// Whether something is at `path`.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn exists(path: &Path) -> io::Result<bool> {
    world::current().disk().exists(path.to_owned()).await.map_err(|e| at(path, "stat", &e))
}

/// The space of the file system around `path`.
///
/// # Errors
/// The operating system's, with the path in its text.
pub async fn space(path: &Path) -> io::Result<Space> {
    world::current().disk().space(path.to_owned()).await.map_err(|e| at(path, "stat", &e))
}

/// Takes the exclusive lock file at `path` (created if need be).
///
/// # Errors
/// `WouldBlock` if another program holds it, or the operating system's.
pub async fn lock(path: &Path) -> io::Result<LockGuard> {
    world::current().disk().lock(path.to_owned()).await.map_err(|e| at(path, "lock", &e))
}

/// Reads a whole small file, at most `limit` bytes of it.
///
/// # Errors
/// `InvalidData` if the file is larger, or the operating system's.
pub async fn read_file(path: &Path, limit: usize) -> io::Result<Bytes> {
    let file = File::open(path, OpenMode::Read).await?;
    let len = file.len().await?;
    if len > limit as u64 {
        let cause = format!("it has {len} bytes, at most {limit} are expected");
        return Err(at(path, "read", &io::Error::new(io::ErrorKind::InvalidData, cause)));
    }
    file.read_exact_at(0, len as usize).await
}

/// Puts `contents` at `path` atomically and durably: temporary file, sync, rename, sync of the directory.
///
/// # Errors
/// The operating system's, with the path in its text; what was at `path` is untouched then.
pub async fn replace_file(path: &Path, contents: Bytes) -> io::Result<()> {
    replace_file_with(path, vec![contents]).await
}

/// As [`replace_file`], with contents in parts, one after the other.
///
/// # Errors
/// As [`replace_file`].
pub async fn replace_file_with(path: &Path, parts: Vec<Bytes>) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = File::open(&temporary, OpenMode::OpenOrCreate).await?;
    file.set_len(0).await?;
    file.write_and_sync(0, parts).await?;
    rename(&temporary, path).await?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent).await,
        _ => sync_directory(Path::new(".")).await,
    }
}
