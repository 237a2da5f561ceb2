//! Creating objects at a host.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use seawall_host::random;

use super::super::{ByteStream, Creation, DestinationError};
use super::session::Session;
use super::walk::{entries, has_status};
use super::{OpenFile, Publication, REQUESTS_AT_ONCE, SftpDestination, is_broken, is_temporary};

/// Temporary files older than this belong to nobody any more, in seconds.
const STALE_SECONDS: u32 = 24 * 3600;

/// Why an object was not created.
enum Failure {
    /// Its bytes could not be produced.
    Source(std::io::Error),
    /// The host did not do what was asked.
    Host(SftpError),
}

impl From<SftpError> for Failure {
    fn from(error: SftpError) -> Self {
        Self::Host(error)
    }
}

/// A temporary file. Whatever becomes of its creation, it is removed sooner or later.
struct Temporary {
    path: String,
    removed: bool,
    abandoned: Arc<Mutex<Vec<String>>>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.removed {
            let path = std::mem::take(&mut self.path);
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        }
    }
}

impl SftpDestination {
    pub(super) async fn create_file(&self, name: &str, content: ByteStream) -> Result<Creation, DestinationError> {
        self.create_as_told(name, content, true).await
    }

    /// Creates an object. Unless it is told to `look` whether there is one, only publishing it tells.
    pub(super) async fn create_as_told(
        &self,
        name: &str,
        content: ByteStream,
        look: bool,
    ) -> Result<Creation, DestinationError> {
        let target = self.path_of("create", name)?;
        let session = self.session("create", name).await?;
        match self.write_and_publish(&session, &target, content, look).await {
            Ok(creation) => Ok(creation),
            Err(Failure::Source(error)) => Err(DestinationError::Source {
                destination: self.options.url.clone(),
                name: name.to_owned(),
                cause: error.to_string(),
            }),
            Err(Failure::Host(error)) => {
                if is_broken(&error) {
                    self.forget(&session).await;
                }
                Err(match self.failed(&session, "create", name, &error).await {
                    // A creation misses no object: what was not found is the directory.
                    DestinationError::NotFound { destination, name } => DestinationError::Unavailable {
                        destination,
                        action: format!("create {name}"),
                        cause: format!("{error}: was the directory removed?"),
                    },
                    other => other,
                })
            }
        }
    }

    async fn write_and_publish(
        &self,
        session: &Arc<Session>,
        target: &str,
        content: ByteStream,
        look: bool,
    ) -> Result<Creation, Failure> {
        // Writing everything in vain is worse than one more request.
        if look && exists(session, target).await? {
            return Ok(Creation::AlreadyExists);
        }
        self.remove_abandoned(session).await;
        let (directory, file_name) = target.rsplit_once('/').unwrap_or((".", target));
        let path = format!("{directory}/.{file_name}.{:016x}.tmp", random::u64());
        let mut temporary = Temporary { path, removed: false, abandoned: Arc::clone(&self.abandoned) };
        let file = self.open_in(session, directory, &temporary.path).await?;
        write(session, &file.handle, content).await?;
        session.sync(&file.handle).await?;
        let written = match session.ask(|sftp| sftp.fstat(file.handle.as_str())).await {
            Ok(stat) => stat.attrs.mtime,
            Err(error) if is_broken(&error) => return Err(error.into()),
            // Some hosts do not know a file before it is closed.
            Err(_) => None,
        };
        let creation = match self.link(session, &temporary.path, target).await? {
            Some(creation) => {
                // Journals write a name no later than what is synced after it.
                session.sync(&file.handle).await?;
                file.close().await?;
                creation
            }
            None => {
                // Some hosts keep what is written until then.
                file.close().await?;
                self.rename(session, &mut temporary, target).await?
            }
        };
        self.sweep(session, directory, written).await;
        if !temporary.removed {
            session.ask(|sftp| sftp.remove(temporary.path.as_str())).await?;
            temporary.removed = true;
        }
        Ok(creation)
    }

    /// Opens a new file, and creates its directory if that is missing.
    async fn open_in(&self, session: &Arc<Session>, directory: &str, path: &str) -> Result<OpenFile, SftpError> {
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(directory);
        if known {
            match OpenFile::open(session, path.to_owned(), flags).await {
                // Somebody removed the directory.
                Err(error) if has_status(&error, StatusCode::NoSuchFile) => {}
                other => return other,
            }
        }
        create_directories(session, directory).await?;
        let opened = OpenFile::open(session, path.to_owned(), flags).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned());
        Ok(opened)
    }

    /// Gives a finished temporary file a second name; `None` where that is not how files get their names.
    async fn link(&self, session: &Session, path: &str, target: &str) -> Result<Option<Creation>, SftpError> {
        if self.publication() != Publication::HardLink {
            return Ok(None);
        }
        if session.hardlink {
            match session.ask(|sftp| sftp.hardlink(path, target)).await {
                Ok(_) => return Ok(Some(Creation::Created)),
                Err(error) if is_broken(&error) => return Err(error),
                Err(_) if exists(session, target).await? => return Ok(Some(Creation::AlreadyExists)),
                // The host speaks of hard links, but its file system has none.
                Err(error) => tracing::debug!(destination = self.options.url, %error, "no hard links: renaming"),
            }
        }
        self.publish_by(Publication::Rename);
        Ok(None)
    }

    /// Gives a finished temporary file another name.
    async fn rename(&self, session: &Session, temporary: &mut Temporary, target: &str) -> Result<Creation, SftpError> {
        if self.publication() == Publication::AskAndRename && exists(session, target).await? {
            return Ok(Creation::AlreadyExists);
        }
        match session.ask(|sftp| sftp.rename(temporary.path.as_str(), target)).await {
            Ok(_) => {
                temporary.removed = true;
                Ok(Creation::Created)
            }
            Err(error) if is_broken(&error) => Err(error),
            Err(_) if exists(session, target).await? => Ok(Creation::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    async fn remove_abandoned(&self, session: &Session) {
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        for path in abandoned {
            // It may never have been created; and what cannot be removed is not listed.
            let _ = session.ask(|sftp| sftp.remove(path)).await;
        }
    }

    /// Once for each directory, removes the temporary files that crashes left in it. How old they are is told by the
    /// host's clock alone: `now` is when it saw something written just now.
    async fn sweep(&self, session: &Arc<Session>, directory: &str, now: Option<u32>) {
        let Some(now) = now else { return };
        if !self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned()) {
            return;
        }
        let Ok(found) = entries(session, format!("{directory}/")).await else { return };
        for entry in found {
            let stale = entry.attrs.mtime.is_some_and(|written| written.saturating_add(STALE_SECONDS) < now);
            if is_temporary(&entry.filename) && stale {
                let path = format!("{directory}/{}", entry.filename);
                let _ = session.ask(|sftp| sftp.remove(path)).await;
            }
        }
    }
}

/// Writes `content` with several requests under way; memory holds little more than those.
async fn write(session: &Session, handle: &str, mut content: ByteStream) -> Result<(), Failure> {
    let mut offset = 0;
    let mut under_way = FuturesUnordered::new();
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(Failure::Source)?;
        for chunk in piece.chunks(session.write_bytes) {
            if under_way.len() >= REQUESTS_AT_ONCE
                && let Some(written) = under_way.next().await
            {
                let _: () = written?;
            }
            let (at, chunk) = (offset, chunk.to_vec());
            offset += chunk.len() as u64;
            under_way.push(async move { session.ask(|sftp| sftp.write(handle, at, chunk)).await.map(drop) });
        }
    }
    while let Some(written) = under_way.next().await {
        written?;
    }
    Ok(())
}

async fn exists(session: &Session, path: &str) -> Result<bool, SftpError> {
    match session.ask(|sftp| sftp.lstat(path)).await {
        Ok(_) => Ok(true),
        Err(error) if has_status(&error, StatusCode::NoSuchFile) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates `directory` and what is missing above it.
async fn create_directories(session: &Session, directory: &str) -> Result<(), SftpError> {
    let mut missing = Vec::new();
    let mut path = directory;
    while !path.is_empty() && !exists(session, path).await? {
        missing.push(path);
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    for path in missing.into_iter().rev() {
        if let Err(error) = session.ask(|sftp| sftp.mkdir(path, FileAttributes::empty())).await {
            // Perhaps somebody else was faster.
            if is_broken(&error) || !exists(session, path).await? {
                return Err(error);
            }
        }
    }
    Ok(())
}
