//! A directory on another machine, through SFTP.

mod create;
mod host_key;
mod options;
mod session;
mod walk;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::FuturesOrdered;
use futures::{StreamExt, stream};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use seawall_host::task;

use super::{ByteStream, Creation, Destination, DestinationError, ListedObject, probe};
pub use host_key::PinnedKeys;
pub use options::{HostProof, SftpOptions};
use session::{ConnectError, Session};

/// Requests under way at a time for one object.
const REQUESTS_AT_ONCE: usize = 16;

/// How a finished file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publication {
    /// By a hard link, which fails if the name is taken.
    HardLink,
    /// By renaming, which fails if the name is taken.
    Rename,
    /// By asking whether the name is taken, and renaming.
    AskAndRename,
}

/// Objects as files in a directory of another machine.
///
/// A creation writes a temporary file beside its target, makes it durable, and gives it its name by a hard link, or by
/// renaming where the host has none: so an object is there whole or not at all. Where neither fails if the name is
/// taken (see [`Destination::probe`]) existence is asked for before, which leaves a gap between the two. Temporary
/// files that a crash left behind are not listed, and are removed when they are a day old.
///
/// All requests share one connection, made before the first and again after it broke.
pub struct SftpDestination {
    options: SftpOptions,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    publication: AtomicU8,
    /// Directories that this process has seen.
    known: Mutex<BTreeSet<String>>,
    /// Directories where this process has looked for what crashes left behind.
    swept: Mutex<BTreeSet<String>>,
    /// Temporary files of creations that failed or were given up; the next creation removes them.
    abandoned: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for SftpDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SftpDestination").field("options", &self.options).finish_non_exhaustive()
    }
}

impl SftpDestination {
    /// The destination that `options` describes.
    pub fn new(options: SftpOptions) -> Self {
        Self {
            options,
            session: tokio::sync::Mutex::default(),
            publication: AtomicU8::new(Publication::HardLink as u8),
            known: Mutex::default(),
            swept: Mutex::default(),
            abandoned: Arc::default(),
        }
    }

    fn publication(&self) -> Publication {
        match self.publication.load(Ordering::Relaxed) {
            0 => Publication::HardLink,
            1 => Publication::Rename,
            _ => Publication::AskAndRename,
        }
    }

    fn publish_by(&self, publication: Publication) {
        self.publication.store(publication as u8, Ordering::Relaxed);
    }

    /// The connection, made anew if it broke.
    async fn session(&self, action: &str, name: &str) -> Result<Arc<Session>, DestinationError> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.is_alive()) {
            return Ok(Arc::clone(session));
        }
        *held = None;
        let (destination, action) = (self.options.url.clone(), format!("{action} {name}"));
        let session = Session::connect(&self.options).await.map_err(|error| match error {
            ConnectError::Refused(cause) => DestinationError::Refused { destination, action, cause },
            ConnectError::Unavailable(cause) => DestinationError::Unavailable { destination, action, cause },
        })?;
        let session = Arc::new(session);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Lets go of a connection that does not answer properly any more.
    async fn forget(&self, broken: &Arc<Session>) {
        let mut held = self.session.lock().await;
        if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
            *held = None;
        }
    }

    /// Does something that can be done again, a second time if the connection turns out to be broken.
    async fn retried<T, F>(
        &self,
        action: &str,
        name: &str,
        attempt: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, DestinationError>
    where
        F: Future<Output = Result<T, SftpError>>,
    {
        let mut retry = true;
        loop {
            let session = self.session(action, name).await?;
            match attempt(Arc::clone(&session)).await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    let broken = is_broken(&error);
                    if broken {
                        self.forget(&session).await;
                    }
                    if !broken || !retry || matches!(error, SftpError::Timeout) {
                        return Err(self.failed(&session, action, name, &error).await);
                    }
                    retry = false;
                }
            }
        }
    }

    /// What happened, and what to do about it.
    async fn failed(&self, session: &Session, action: &str, name: &str, error: &SftpError) -> DestinationError {
        let destination = self.options.url.clone();
        let place = format!("{}:{}", self.options.host, self.options.port);
        let code = if let SftpError::Status(status) = error { Some(status.status_code) } else { None };
        let unavailable = |cause: String| DestinationError::Unavailable {
            destination: destination.clone(),
            action: format!("{action} {name}"),
            cause,
        };
        match (error, code) {
            (_, Some(StatusCode::NoSuchFile)) => DestinationError::NotFound { destination, name: name.to_owned() },
            (_, Some(StatusCode::PermissionDenied)) => {
                let (user, root) = (&self.options.user, &self.options.root);
                let cause = format!("{place} answered {error}: let {user} create and read files in {root} there");
                DestinationError::Refused { destination, action: format!("{action} {name}"), cause }
            }
            // Protocol version 3 has no word for a full disk.
            (_, Some(StatusCode::Failure)) if session.is_full(&self.options.root).await => {
                unavailable(format!("the disk of {place} is full: make room there"))
            }
            (SftpError::Timeout, _) => unavailable(format!("{place} did not answer in time")),
            (_, Some(_)) => unavailable(format!("{place} answered {error}")),
            (_, None) => unavailable(format!("the connection to {place} broke ({error})")),
        }
    }

    fn path_of(&self, action: &str, name: &str) -> Result<String, DestinationError> {
        let fine = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0') && !is_temporary(part);
        if name.split('/').all(fine) {
            return Ok(format!("{}{name}", self.options.root));
        }
        let cause = format!("`{name}` cannot be the name of an object");
        Err(DestinationError::Refused { destination: self.options.url.clone(), action: action.to_owned(), cause })
    }

    /// Finds out how files get their names here.
    async fn try_publications(&self) -> Result<(), DestinationError> {
        for publication in [Publication::HardLink, Publication::Rename] {
            self.publish_by(publication);
            let name = probe::name();
            let create = || self.create_as_told(&name, stream::empty().boxed(), false);
            if probe::creates_once(self, &name, create(), create()).await? {
                return Ok(());
            }
            // The host may have no hard links, which was noticed; then renaming was tried.
            if self.publication() != publication {
                break;
            }
        }
        self.publish_by(Publication::AskAndRename);
        tracing::warn!(
            destination = self.options.url,
            "this host cannot create files only if none exists: one more request goes before each upload, and a node \
             that wrongly takes itself for the leader may replace an object by another of the same state"
        );
        Ok(())
    }
}

/// Whether the connection is of no use after this.
fn is_broken(error: &SftpError) -> bool {
    !matches!(error, SftpError::Status(_) | SftpError::Limited(_))
}

fn is_temporary(file_name: &str) -> bool {
    file_name.starts_with('.') && file_name.ends_with(".tmp")
}

/// A file or directory that is open at the host, until this is dropped.
struct OpenFile {
    session: Arc<Session>,
    handle: String,
    closed: bool,
}

impl OpenFile {
    async fn open(session: &Arc<Session>, path: String, flags: OpenFlags) -> Result<Self, SftpError> {
        let opened = session.ask(|sftp| sftp.open(path, flags, FileAttributes::empty())).await?;
        Ok(Self { session: Arc::clone(session), handle: opened.handle, closed: false })
    }

    async fn open_directory(session: &Arc<Session>, path: String) -> Result<Self, SftpError> {
        let opened = session.ask(|sftp| sftp.opendir(path)).await?;
        Ok(Self { session: Arc::clone(session), handle: opened.handle, closed: false })
    }

    /// Closes it; some hosts only then keep what was written.
    async fn close(mut self) -> Result<(), SftpError> {
        self.closed = true;
        let handle = self.handle.clone();
        self.session.ask(|sftp| sftp.close(handle)).await.map(drop)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.closed && self.session.is_alive() {
            let (session, handle) = (Arc::clone(&self.session), std::mem::take(&mut self.handle));
            task::spawn(async move { drop(session.ask(|sftp| sftp.close(handle)).await) });
        }
    }
}

/// Reads `length` bytes from `offset`, or what there is of them.
async fn read_file(session: &Session, handle: &str, offset: u64, length: u64) -> Result<Bytes, SftpError> {
    let size = session.ask(|sftp| sftp.fstat(handle)).await?.attrs.len();
    let length = length.min(size.saturating_sub(offset));
    let mut content = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    let end = offset + length;
    let mut ahead = offset;
    let mut under_way = FuturesOrdered::new();
    loop {
        while under_way.len() < REQUESTS_AT_ONCE && ahead < end {
            let wanted = u32::try_from(end - ahead).unwrap_or(u32::MAX).min(session.read_bytes);
            under_way.push_back(read_chunk(session, handle, ahead, wanted));
            ahead += u64::from(wanted);
        }
        match under_way.next().await {
            Some(chunk) => content.extend_from_slice(&chunk?),
            None => return Ok(content.freeze()),
        }
    }
}

/// Reads exactly `length` bytes; hosts may answer with fewer at a time.
async fn read_chunk(session: &Session, handle: &str, offset: u64, length: u32) -> Result<Vec<u8>, SftpError> {
    let mut chunk = Vec::new();
    while chunk.len() < length as usize {
        let missing = length - u32::try_from(chunk.len()).unwrap_or(length);
        let from = offset + chunk.len() as u64;
        let data = session.ask(|sftp| sftp.read(handle, from, missing)).await?.data;
        if data.is_empty() || data.len() > missing as usize {
            return Err(SftpError::UnexpectedBehavior("it answered another length than was asked for".to_owned()));
        }
        if chunk.is_empty() {
            chunk = data;
        } else {
            chunk.extend_from_slice(&data);
        }
    }
    Ok(chunk)
}

#[async_trait]
impl Destination for SftpDestination {
    fn url(&self) -> &str {
        &self.options.url
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        let tried = self.try_publications().await;
        // Also where others probe at the same time it goes at last.
        if let Ok(session) = self.session("probe", "").await {
            let directory = format!("{}@seawall-probe", self.options.root);
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&directory);
            let _ = session.ask(|sftp| sftp.rmdir(directory)).await;
        }
        tried
    }

    fn creates_conditionally(&self) -> bool {
        self.publication() != Publication::AskAndRename
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
        let attempt = |session: Arc<Session>| {
            let path = path.clone();
            async move {
                let file = OpenFile::open(&session, path, OpenFlags::READ).await?;
                let read = read_file(&session, &file.handle, offset, length).await;
                // Nothing was written.
                let _ = file.close().await;
                read
            }
        };
        self.retried("read", name, attempt).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        self.list_below(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let path = self.path_of("delete", name)?;
        let attempt = |session: Arc<Session>| {
            let path = path.clone();
            async move { session.ask(|sftp| sftp.remove(path)).await.map(drop) }
        };
        match self.retried("delete", name, attempt).await {
            Err(DestinationError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}
