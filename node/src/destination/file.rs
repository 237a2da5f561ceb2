//! A directory as a destination: a disk beside the machine, or a mounted share.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::random;
use seawall_host::time::UnixMillis;

use super::{ByteStream, Creation, Destination, DestinationError, ListedObject};

/// Objects as files below a directory.
///
/// A creation writes a temporary file beside its target, syncs it, and gives it its name by a hard link, which fails
/// if the name is taken: so an object is there whole or not at all, and is never replaced. Temporary files that a
/// crash left behind are not listed; when they are a day old, the next process to write into their directory removes
/// them.
#[derive(Debug)]
pub struct FileDestination {
    root: PathBuf,
    url: String,
    /// Directories whose names were made durable by this process.
    durable: Mutex<BTreeSet<PathBuf>>,
    abandoned: Arc<Abandoned>,
}

/// Temporary files of creations that failed or were given up; the next creation removes them.
type Abandoned = Mutex<Vec<PathBuf>>;

impl FileDestination {
    /// The destination in the directory `root`, which is created when the first object is.
    pub fn new(root: &Path) -> Self {
        let url = format!("file://{}", root.display());
        Self { root: root.to_owned(), url, durable: Mutex::default(), abandoned: Arc::default() }
    }

    fn path_of(&self, action: &str, name: &str) -> Result<PathBuf, DestinationError> {
        let fine = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0') && !is_temporary(part);
        if name.split('/').all(fine) {
            return Ok(self.root.join(name));
        }
        let cause = format!("`{name}` cannot be the name of an object");
        Err(DestinationError::Refused { destination: self.url.clone(), action: action.to_owned(), cause })
    }

    fn error(&self, action: &str, name: &str, error: &io::Error) -> DestinationError {
        let (destination, action) = (self.url.clone(), format!("{action} {name}"));
        match error.kind() {
            io::ErrorKind::NotFound => DestinationError::NotFound { destination, name: name.to_owned() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                let cause = format!("{error}: let the user Seawall runs as create and read files there");
                DestinationError::Refused { destination, action, cause }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let cause = format!("{error}: make room there");
                DestinationError::Unavailable { destination, action, cause }
            }
            _ => DestinationError::Unavailable { destination, action, cause: error.to_string() },
        }
    }

    /// Creates `directory` and makes its name and those of its parents durable.
    async fn ensure_directory(&self, directory: &Path) -> io::Result<()> {
        let known = self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(directory);
        if known && disk::exists(directory).await? {
            return Ok(());
        }
        disk::create_directories(directory).await?;
        sweep(directory).await;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned());
        Ok(())
    }

    async fn create_file(&self, name: &str, mut content: ByteStream) -> Result<Creation, DestinationError> {
        let fail = |error: io::Error| self.creation_error(name, &error);
        let target = self.path_of("create", name)?;
        let directory = target.parent().unwrap_or(&self.root);
        self.ensure_directory(directory).await.map_err(fail)?;
        let file_name = target.file_name().unwrap_or_default().to_string_lossy();
        self.remove_abandoned().await;
        let path = directory.join(temporary_name(&file_name, UnixMillis::now()));
        let temporary = Temporary { path, removed: false, abandoned: Arc::clone(&self.abandoned) };
        let file = File::open(&temporary.path, OpenMode::CreateNew).await.map_err(fail)?;
        let mut offset = 0;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|error| DestinationError::Source {
                destination: self.url.clone(),
                name: name.to_owned(),
                cause: error.to_string(),
            })?;
            let length = piece.len() as u64;
            file.write_at(offset, vec![piece]).await.map_err(fail)?;
            offset += length;
        }
        file.sync().await.map_err(fail)?;
        self.publish(name, temporary, &target, directory).await
    }

    async fn remove_abandoned(&self) {
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        for path in abandoned {
            // It may never have been created; and what cannot be removed is not listed.
            let _ = disk::remove_file(&path).await;
        }
    }

    /// Gives a finished temporary file its name, durably.
    async fn publish(
        &self,
        name: &str,
        temporary: Temporary,
        target: &Path,
        directory: &Path,
    ) -> Result<Creation, DestinationError> {
        let fail = |error: io::Error| self.creation_error(name, &error);
        let creation = match disk::hard_link(&temporary.path, target).await {
            Ok(()) => Creation::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Creation::AlreadyExists,
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                return Err(DestinationError::Refused {
                    destination: self.url.clone(),
                    action: format!("create {name}"),
                    cause: format!("{error}: use a file system that has hard links, they make creation atomic"),
                });
            }
            Err(error) => return Err(fail(error)),
        };
        temporary.remove().await.map_err(fail)?;
        // What exists was perhaps linked by someone whose crash came before this.
        disk::sync_directory(directory).await.map_err(fail)?;
        Ok(creation)
    }

    /// A creation misses no object: what was not found is the directory.
    fn creation_error(&self, name: &str, error: &io::Error) -> DestinationError {
        match self.error("create", name, error) {
            DestinationError::NotFound { destination, name } => DestinationError::Unavailable {
                destination,
                action: format!("create {name}"),
                cause: format!("{error}: was the directory removed?"),
            },
            other => other,
        }
    }

    /// Collects the files below `directory` (`relative` to the root) whose names begin with `prefix`.
    async fn walk(&self, relative: &str, prefix: &str) -> io::Result<Vec<ListedObject>> {
        let mut found = Vec::new();
        let mut pending = vec![relative.to_owned()];
        while let Some(relative) = pending.pop() {
            let entries = match disk::list(&self.root.join(&relative)).await {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory && !relative.is_empty() => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let name = format!("{relative}{}", entry.name);
                if entry.is_directory {
                    let name = format!("{name}/");
                    if name.starts_with(prefix) || prefix.starts_with(&name) {
                        pending.push(name);
                    }
                } else if name.starts_with(prefix) && !is_temporary(&entry.name) {
                    found.push(ListedObject { name, size: entry.len });
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// How old a temporary file is when it is of no use to anybody, in milliseconds.
const STALE_MILLIS: i64 = 24 * 3600 * 1000;

fn temporary_name(file_name: &str, now: UnixMillis) -> String {
    format!(".{file_name}.{:016x}.{:016x}.tmp", now.0, random::u64())
}

fn is_temporary(file_name: &str) -> bool {
    file_name.starts_with('.') && file_name.ends_with(".tmp")
}

/// Whether a temporary file was begun more than a day before `now`, as its name has it.
fn is_stale(file_name: &str, now: UnixMillis) -> bool {
    let begun = file_name.rsplit('.').nth(2).filter(|begun| begun.len() == 16);
    let begun = begun.and_then(|begun| i64::from_str_radix(begun, 16).ok());
    is_temporary(file_name) && begun.is_some_and(|begun| begun.saturating_add(STALE_MILLIS) < now.0)
}

/// Removes the temporary files that crashes left in `directory`. It may be in vain: they do no harm but take room.
async fn sweep(directory: &Path) {
    let now = UnixMillis::now();
    for entry in disk::list(directory).await.unwrap_or_default() {
        if is_stale(&entry.name, now) {
            let _ = disk::remove_file(&directory.join(&entry.name)).await;
        }
    }
}

/// A temporary file. Whatever becomes of its creation, it is removed sooner or later.
struct Temporary {
    path: PathBuf,
    removed: bool,
    abandoned: Arc<Abandoned>,
}

impl Temporary {
    async fn remove(mut self) -> io::Result<()> {
        disk::remove_file(&self.path).await?;
        self.removed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.removed {
            let path = std::mem::take(&mut self.path);
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        }
    }
}

#[async_trait]
impl Destination for FileDestination {
    fn url(&self) -> &str {
        &self.url
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        let name = format!("@seawall-probe/{:016x}", random::u64());
        self.create(&name, Vec::new()).await?;
        self.delete(&name).await
    }

    fn creates_conditionally(&self) -> bool {
        true
    }

    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        self.create_file(name, stream::iter(parts.into_iter().map(Ok)).boxed()).await
    }

    async fn create_streaming(
        &self,
        name: &str,
        _size_hint: Option<u64>,
        content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        self.create_file(name, content).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError> {
        let path = self.path_of("read", name)?;
        let read = async {
            let file = File::open(&path, OpenMode::Read).await?;
            let length = length.min(file.len().await?.saturating_sub(offset));
            let length = usize::try_from(length).map_err(io::Error::other)?;
            file.read_at(offset, length).await
        };
        read.await.map_err(|error| self.error("read", name, &error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let directory = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
        if !directory.is_empty() {
            self.path_of("list", directory.trim_end_matches('/'))?;
        }
        self.walk(directory, prefix).await.map_err(|error| self.error("list", prefix, &error))
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let path = self.path_of("delete", name)?;
        let removal = async {
            disk::remove_file(&path).await?;
            disk::sync_directory(path.parent().unwrap_or(&self.root)).await
        };
        match removal.await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("delete", name, &error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_of_yesterday_are_stale() {
        seawall_host::real::install();
        let begun = UnixMillis(1_800_000_000_000);
        let name = temporary_name("0-1.seg", begun);
        assert!(is_temporary(&name) && !is_stale(&name, begun));
        assert!(!is_stale(&name, UnixMillis(begun.0 + STALE_MILLIS)), "it may still be written");
        assert!(is_stale(&name, UnixMillis(begun.0 + STALE_MILLIS + 1)));
        for other in ["0-1.seg", ".tmp", ".a.tmp", ".a.b.c.tmp", ".a.0000000000000000.c", "a.0.0.tmp"] {
            assert!(!is_stale(other, UnixMillis(i64::MAX)), "{other}");
        }
    }
}
