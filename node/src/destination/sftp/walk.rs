//! Listing what is in a directory of the host and below.

use std::sync::Arc;

use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{File, StatusCode};

use super::super::{DestinationError, ListedObject};
use super::session::Session;
use super::{OpenFile, SftpDestination, is_temporary};

impl SftpDestination {
    /// Lists the objects whose names begin with `prefix`.
    pub(super) async fn list_below(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let directory = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
        if !directory.is_empty() {
            self.path_of("list", directory.trim_end_matches('/'))?;
        }
        let attempt = |session: Arc<Session>| async move {
            let mut found = Vec::new();
            let mut pending = vec![directory.to_owned()];
            while let Some(relative) = pending.pop() {
                for entry in entries(&session, format!("{}{relative}", self.options.root)).await? {
                    let name = format!("{relative}{}", entry.filename);
                    if is_directory(&entry) {
                        let name = format!("{name}/");
                        if name.starts_with(prefix) || prefix.starts_with(&name) {
                            pending.push(name);
                        }
                    } else if name.starts_with(prefix) && !is_temporary(&entry.filename) {
                        found.push(ListedObject { name, size: entry.attrs.len() });
                    }
                }
            }
            found.sort();
            Ok(found)
        };
        self.retried("list", prefix, attempt).await
    }
}

/// What stands in a directory; nothing if it does not exist.
pub(super) async fn entries(session: &Arc<Session>, path: String) -> Result<Vec<File>, SftpError> {
    let directory = match OpenFile::open_directory(session, path).await {
        Ok(directory) => directory,
        Err(error) if has_status(&error, StatusCode::NoSuchFile) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    loop {
        let handle = directory.handle.clone();
        match session.ask(|sftp| sftp.readdir(handle)).await {
            Ok(page) => found.extend(page.files.into_iter().filter(|entry| !matches!(&*entry.filename, "." | ".."))),
            Err(error) if has_status(&error, StatusCode::Eof) => break,
            Err(error) => return Err(error),
        }
    }
    directory.close().await?;
    Ok(found)
}

fn is_directory(entry: &File) -> bool {
    // Some hosts tell the kind of an entry only in the line for people.
    if entry.attrs.permissions.is_some() { entry.attrs.file_type().is_dir() } else { entry.longname.starts_with('d') }
}

pub(super) fn has_status(error: &SftpError, code: StatusCode) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == code)
}
