//! The directory of all images.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use seawall_host::disk;
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};
use tokio::sync::{Notify, Semaphore};

use super::image::lock;
use super::name;
use super::{Hold, Image, ImageError, SegmentStream};

/// How images behave.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Make folded pages durable after this long at the latest.
    pub checkpoint_interval: Duration,
    /// Make folded pages durable when this many bytes of them are waiting, over all images of the node.
    pub checkpoint_bytes: usize,
    /// Pages of one image that wait in memory while a segment is folded; above it they are written.
    pub fold_bytes: usize,
    /// Images that are folded at once.
    pub concurrent_folds: usize,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_bytes: 32 << 20,
            fold_bytes: 8 << 20,
            concurrent_folds: 4,
        }
    }
}

/// What an image holds: goes before its bytes when a peer pulls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The exact state.
    pub position: Position,
    /// Its page size.
    pub page_size: PageSize,
    /// Its pages, the lock page counted.
    pub page_count: u32,
    /// Commit time of its last transaction, milliseconds since 1970.
    pub commit_time_ms: i64,
}

/// All images of a node. Clones share them.
#[derive(Clone)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    options: ImageOptions,
    folds: Arc<Semaphore>,
    images: Mutex<BTreeMap<(DatabaseName, Lineage), Image>>,
    /// Held while an image's directory is created or removed.
    changing: tokio::sync::Mutex<()>,
    /// Notified when there is a new image.
    created: Notify,
}

impl ImageStore {
    /// Opens the directory `root`, created if need be, and every image in it.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(root: PathBuf, options: ImageOptions) -> io::Result<Self> {
        disk::create_directories(&root).await?;
        let folds = Arc::new(Semaphore::new(options.concurrent_folds.max(1)));
        let mut images = BTreeMap::new();
        for entry in disk::list(&root).await? {
            let Some(database) = name::parse_database(&entry.name).filter(|_| entry.is_directory) else { continue };
            for entry in disk::list(&name::database_directory(&root, &database)).await? {
                let Some(lineage) = name::parse_lineage(&entry.name).filter(|_| entry.is_directory) else { continue };
                let directory = name::image_directory(&root, &database, lineage);
                let image =
                    Image::open(database.clone(), lineage, directory, Arc::clone(&folds), options.fold_bytes).await?;
                images.insert((database.clone(), lineage), image);
            }
        }
        let changing = tokio::sync::Mutex::new(());
        Ok(Self {
            shared: Arc::new(Shared {
                root,
                options,
                folds,
                images: Mutex::new(images),
                changing,
                created: Notify::new(),
            }),
        })
    }

    /// How images behave.
    pub(super) fn options(&self) -> &ImageOptions {
        &self.shared.options
    }

    /// The image of a database's lineage, if there is one.
    pub fn get(&self, database: &DatabaseName, lineage: Lineage) -> Option<Image> {
        lock(&self.shared.images).get(&(database.clone(), lineage)).cloned()
    }

    /// The image of a database's lineage, an empty one if there was none.
    ///
    /// # Errors
    /// The disk's.
    pub async fn get_or_create(&self, database: &DatabaseName, lineage: Lineage) -> Result<Image, ImageError> {
        let _changing = self.shared.changing.lock().await;
        if let Some(image) = self.get(database, lineage) {
            return Ok(image);
        }
        let create = async {
            let parent = name::database_directory(&self.shared.root, database);
            let directory = name::image_directory(&self.shared.root, database, lineage);
            disk::create_directories(&directory).await?;
            disk::sync_directory(&self.shared.root).await?;
            disk::sync_directory(&parent).await?;
            let folds = Arc::clone(&self.shared.folds);
            Image::open(database.clone(), lineage, directory, folds, self.shared.options.fold_bytes).await
        };
        let image = create.await.map_err(|source| io_error(database, lineage, source))?;
        lock(&self.shared.images).insert((database.clone(), lineage), image.clone());
        self.shared.created.notify_waiters();
        Ok(image)
    }

    /// Holds the image of a database's lineage once it is folded to `txid` or beyond; what is held may be newer.
    ///
    /// # Errors
    /// [`ImageError::Behind`] or [`ImageError::Recovering`] if `timeout` passed first, or as [`Image::hold`].
    pub async fn hold_from(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        txid: Txid,
        limit: Duration,
        timeout: Duration,
    ) -> Result<Hold, ImageError> {
        let deadline = Instant::now() + timeout;
        let image = loop {
            let mut created = std::pin::pin!(self.shared.created.notified());
            created.as_mut().enable();
            if let Some(image) = self.get(database, lineage) {
                break image;
            }
            if time::timeout_at(deadline, created).await.is_err() {
                let image = format!("{database}@{lineage}");
                return Err(ImageError::Behind { image, folded: Txid::NONE, wanted: txid });
            }
        };
        let mut wanted = txid;
        loop {
            let status = image.wait_folded(wanted, deadline - Instant::now()).await?;
            match image.hold(limit).await {
                // Went back to what is durable after an error on the disk.
                Ok(hold) if hold.manifest().position.txid < txid => wanted = txid,
                Err(ImageError::Recovering { until, .. }) if Instant::now() < deadline => {
                    wanted = status.position.txid.next().min(until);
                }
                outcome => return outcome,
            }
        }
    }

    /// Every image, in the order of names and lineages.
    pub fn images(&self) -> Vec<Image> {
        lock(&self.shared.images).values().cloned().collect()
    }

    /// Holds an image and streams it as a snapshot segment, for a peer to [`ImageStore::import`].
    ///
    /// # Errors
    /// [`ImageError::Empty`] if there is none, or as [`Image::hold`]; the stream's as [`super::Hold::snapshot`].
    pub async fn export(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        limit: Duration,
    ) -> Result<(ImageManifest, SegmentStream), ImageError> {
        let image = self.get(database, lineage);
        let image = image.ok_or_else(|| ImageError::Empty { image: format!("{database}@{lineage}") })?;
        let hold = image.hold(limit).await?;
        Ok((hold.manifest(), hold.snapshot()))
    }

    /// Takes in a snapshot segment as the image of `database`, in place of any it has of that lineage, unless that one
    /// is sound and newer. The old one stays untouched until all of the new one is verified and durable; holds on it
    /// expire then.
    ///
    /// # Errors
    /// [`ImageError::Segment`] if the bytes are damaged or not what `expected` says.
    pub async fn import(
        &self,
        database: &DatabaseName,
        expected: ImageManifest,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<Image, ImageError> {
        let image = self.get_or_create(database, expected.position.lineage).await?;
        image.import(expected, bytes).await?;
        Ok(image)
    }

    /// Removes an image. Nobody may use it any more.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove(&self, database: &DatabaseName, lineage: Lineage) -> Result<(), ImageError> {
        let _changing = self.shared.changing.lock().await;
        if lock(&self.shared.images).remove(&(database.clone(), lineage)).is_none() {
            return Ok(());
        }
        let directory = name::image_directory(&self.shared.root, database, lineage);
        disk::remove_directory(&directory).await.map_err(|source| io_error(database, lineage, source))
    }
}

fn io_error(database: &DatabaseName, lineage: Lineage, source: io::Error) -> ImageError {
    ImageError::Io { image: format!("{database}@{lineage}"), source }
}
