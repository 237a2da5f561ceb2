//! Destinations: places outside the cluster that hold segments and snapshots. One file a kind behind one small trait.

#[cfg(feature = "abs")]
mod abs;
mod config;
mod file;
#[cfg(feature = "gs")]
mod gs;
mod options;
#[cfg(any(feature = "abs", feature = "gs", feature = "s3", feature = "sftp"))]
mod parts;
#[cfg(any(feature = "abs", feature = "gs", feature = "s3", feature = "sftp"))]
mod probe;
mod retention;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;
mod verification;
mod windows;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

#[cfg(feature = "abs")]
pub use abs::{AzureCredentials, AzureDestination, AzureOptions};
pub use config::{DestinationConfig, InvalidDestination, open, open_url, process_environment, resolve_file_url};
pub use file::FileDestination;
#[cfg(feature = "gs")]
pub use gs::{GoogleCredentials, GoogleDestination, GoogleOptions};
pub use options::{DestinationOptions, Secret};
pub use retention::{Deletion, Retention};
#[cfg(feature = "s3")]
pub use s3::{Encryption, S3Destination, S3Options};
#[cfg(feature = "sftp")]
pub use sftp::{HostProof, PinnedKeys, SftpDestination, SftpOptions};
pub use verification::VerificationOptions;
pub use windows::Windows;

/// The bytes of an object, piece by piece, as its maker produces them.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// How a creation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object was created by this call.
    Created,
    /// An object of that name was there before; it is untouched.
    AlreadyExists,
}

/// An object as a listing names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedObject {
    /// The name below the destination's root, such as `app/@1/0/….seg`.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a destination did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DestinationError {
    /// No such object.
    #[error("{name} does not exist at {destination}")]
    NotFound {
        /// The destination's URL.
        destination: String,
        /// The object.
        name: String,
    },
    /// It will not work until an operator changes something: credentials, bucket, permissions.
    #[error("{destination}: {action}: {cause}")]
    Refused {
        /// The destination's URL.
        destination: String,
        /// What was tried.
        action: String,
        /// What it answered and what to do.
        cause: String,
    },
    /// What was to be created could not be produced; nothing is left behind under its name.
    #[error("{destination}: {name} was not created, because its contents could not be read: {cause}")]
    Source {
        /// The destination's URL.
        destination: String,
        /// The object.
        name: String,
        /// What the producer of the bytes reported.
        cause: String,
    },
    /// It may work later: unreachable, slow, overloaded, full.
    #[error("{destination}: {action}: {cause}")]
    Unavailable {
        /// The destination's URL.
        destination: String,
        /// What was tried.
        action: String,
        /// What happened.
        cause: String,
    },
}

/// A place outside the cluster that holds objects. Names are `/`-separated paths below its root.
#[async_trait]
pub trait Destination: Send + Sync + 'static {
    /// Where it is, for people; never shows a secret.
    fn url(&self) -> &str;
    /// Asks the place whether it can do what is needed, and warns in the log where it can do less; the answer of
    /// [`Destination::creates_conditionally`] rests on it. Leaves nothing behind.
    ///
    /// # Errors
    /// As creating an object would give: it tells an operator early what is wrong.
    async fn probe(&self) -> Result<(), DestinationError>;
    /// Whether creation is atomic against other creators of the same name, as far as is known.
    fn creates_conditionally(&self) -> bool;
    /// Creates an object from `parts`, one behind the other, durable when this returns; never overwrites.
    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError>;
    /// As [`Destination::create`], for objects too large to be held in memory. `size_hint` is their length in bytes
    /// if it is known, roughly; the length itself is where `content` ends.
    async fn create_streaming(
        &self,
        name: &str,
        size_hint: Option<u64>,
        content: ByteStream,
    ) -> Result<Creation, DestinationError>;
    /// Reads `length` bytes from `offset`; fewer only where the object ends.
    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError>;
    /// Lists every object whose name begins with `prefix`, in the order of names.
    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError>;
    /// Removes an object; fine if it is not there.
    async fn delete(&self, name: &str) -> Result<(), DestinationError>;
}

/// A destination under the name its configuration gives it.
#[derive(Clone)]
pub struct NamedDestination {
    /// The configured name.
    pub name: String,
    /// Into which objects its history is cut.
    pub windows: Windows,
    /// How long they are kept.
    pub retention: Retention,
    /// How it is verified.
    pub verification: VerificationOptions,
    /// The place itself.
    pub destination: Arc<dyn Destination>,
}
