//! Images on their way from a node to one that is far behind.
//!
//! The giver writes the snapshot segment of an image to a file, so that its bytes stay the same for as long as a peer
//! takes to pull them; the taker collects them in a file, so that it can go on where it was cut off. What takes long
//! runs in tasks of its own: a peer that loses patience and asks again finds it further on.

mod written;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::task::{self, OwnedTask};
use seawall_host::time;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};
use seawall_proto::v1;
use tokio::sync::Mutex;

use self::written::Written;
use crate::consensus::{BlobSink, BlobSource, BlobStream, Blobs, Need};
use crate::space::OwnSpace;
use crate::store::image::{ImageManifest, ImageStore};

const OUTGOING: &str = "outgoing";
const INCOMING: &str = "incoming";
/// How long an image may take to be folded to what a peer needs.
const FOLD_LIMIT: Duration = Duration::from_secs(30);
/// How long an image may be held still while it is written down.
const HOLD_LIMIT: Duration = Duration::from_secs(600);

/// What is written down goes when no peer asked for it for this long …
const KEEP: Duration = Duration::from_secs(600);
/// … or for this long when there is little room.
const KEEP_WITHOUT_ROOM: Duration = Duration::from_secs(30);
/// How often that is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Gives and takes images.
pub struct ImageBlobs {
    images: ImageStore,
    outgoing: PathBuf,
    incoming: PathBuf,
    written: Arc<Written>,
    /// One import at a time.
    importing: Arc<Mutex<()>>,
    piece_bytes: usize,
    space: Arc<dyn OwnSpace>,
    _sweeper: OwnedTask,
}

impl ImageBlobs {
    /// How far a file is read and sent at once, usually.
    pub const PIECE_BYTES: usize = 256 << 10;

    /// Over the images of a data directory. What was being given away before is removed; what was being taken in
    /// stays. Files are read and sent `piece_bytes` at a time.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(
        data_dir: &Path,
        images: ImageStore,
        space: Arc<dyn OwnSpace>,
        piece_bytes: usize,
    ) -> io::Result<Blobs> {
        let (outgoing, incoming) = (data_dir.join(OUTGOING), data_dir.join(INCOMING));
        if disk::exists(&outgoing).await? {
            disk::remove_directory(&outgoing).await?;
        }
        disk::create_directories(&outgoing).await?;
        disk::create_directories(&incoming).await?;
        let (written, importing): (Arc<Written>, _) = (Arc::default(), Arc::default());
        let sweeper = task::spawn_owned(sweep(written.clone(), outgoing.clone(), space.clone()));
        let both = Self { images, outgoing, incoming, written, importing, piece_bytes, space, _sweeper: sweeper };
        let both = Arc::new(both);
        Ok(Blobs { source: both.clone(), sink: both })
    }
}

impl BlobSource for ImageBlobs {
    fn list(&self, needs: Vec<Need>) -> BoxFuture<'_, io::Result<Vec<v1::Blob>>> {
        async move {
            let mut blobs = Vec::with_capacity(needs.len());
            for need in needs.into_iter().filter(|need| need.txid != Txid::NONE) {
                let written = self.written.clone();
                let (images, directory, space) = (self.images.clone(), self.outgoing.clone(), self.space.clone());
                let writing = task::spawn(async move {
                    let history = (need.database.clone(), need.lineage);
                    let (turn, number) = written.turn(&history);
                    let _turn = turn.lock_owned().await;
                    let fits = |blob: &v1::Blob| blob.head.as_ref().is_some_and(|head| head.txid >= need.txid.0);
                    if let Some(blob) = written.newest(&history).filter(fits) {
                        return Ok(blob);
                    }
                    let blob = write_down(&images, &directory, &format!("new-{number}"), &need, &*space).await?;
                    let older = written.replace(&history, blob.clone());
                    if let Some(older) = older.filter(|older| file_name(older) != file_name(&blob)) {
                        disk::remove_file(&directory.join(file_name(&older))).await?;
                    }
                    Ok::<_, io::Error>(blob)
                });
                blobs.push(writing.await.map_err(io::Error::other)??);
            }
            Ok(blobs)
        }
        .boxed()
    }

    fn folded(&self, database: &DatabaseName, lineage: Lineage) -> Txid {
        let status = self.images.get(database, lineage).map(|image| image.status());
        let sound = status.filter(|status| status.quarantined.is_none());
        sound.map_or(Txid::NONE, |status| status.position.txid)
    }

    fn read(&self, id: String, offset: u64) -> BoxFuture<'_, io::Result<BlobStream>> {
        async move {
            let blob = self.written.named(&id);
            let blob = blob.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no blob {id}")))?;
            let file = File::open(&self.outgoing.join(file_name(&blob)), OpenMode::Read).await?;
            if offset > 0 {
                return Ok(read_from(file, offset, self.piece_bytes));
            }
            let state = (read_from(file, 0, self.piece_bytes), 0, self.written.clone(), blob);
            let checked = stream::try_unfold(state, |(mut file, checksum, written, blob)| async move {
                if let Some(piece) = file.try_next().await? {
                    let checksum = crc32c::crc32c_append(checksum, &piece);
                    return Ok(Some((piece, (file, checksum, written, blob))));
                }
                if checksum == blob.crc32c {
                    return Ok(None);
                }
                written.forget(&blob);
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged here", blob.id)))
            });
            Ok(checked.boxed())
        }
        .boxed()
    }
}

impl BlobSink for ImageBlobs {
    fn held(&self, blob: v1::Blob) -> BoxFuture<'_, io::Result<u64>> {
        async move {
            let (database, manifest) = understand(&blob)?;
            let image = self.images.get(&database, manifest.position.lineage).map(|image| image.status());
            let folded = image.filter(|status| status.quarantined.is_none()).map(|status| status.position.txid);
            if folded.is_some_and(|txid| txid >= manifest.position.txid) {
                return Ok(blob.size);
            }
            let path = self.incoming.join(file_name(&blob));
            if !disk::exists(&path).await? {
                return Ok(0);
            }
            let here = File::open(&path, OpenMode::Read).await?.len().await?;
            if here < blob.size {
                return Ok(here);
            }
            match self.take_in(blob.clone()).await {
                Ok(()) => Ok(blob.size),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(0),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn write(&self, blob: v1::Blob, offset: u64, mut bytes: BlobStream) -> BoxFuture<'_, io::Result<()>> {
        async move {
            // The image that is made of it comes on top.
            let (_, manifest) = understand(&blob)?;
            check_room(&*self.space, blob.size.saturating_sub(offset).saturating_add(bytes_of(&manifest)))?;
            let file = File::open(&self.incoming.join(file_name(&blob)), OpenMode::OpenOrCreate).await?;
            file.set_len(offset).await?;
            let mut end = offset;
            while let Some(piece) = bytes.try_next().await? {
                if end + piece.len() as u64 > blob.size {
                    return Err(invalid(&blob, "longer than announced"));
                }
                let len = piece.len() as u64;
                file.write_at(end, vec![piece]).await?;
                end += len;
            }
            if end < blob.size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} ends early", blob.id)));
            }
            file.sync().await?;
            self.take_in(blob).await
        }
        .boxed()
    }
}

impl ImageBlobs {
    /// Makes a collected file an image, and removes it. A file that is not what was announced is removed, too.
    async fn take_in(&self, blob: v1::Blob) -> io::Result<()> {
        let (database, manifest) = understand(&blob)?;
        let (images, importing) = (self.images.clone(), self.importing.clone());
        let (path, piece_bytes) = (self.incoming.join(file_name(&blob)), self.piece_bytes);
        let taking = task::spawn(async move {
            let _importing = importing.lock_owned().await;
            if !disk::exists(&path).await? {
                // An earlier attempt, which nobody waited for, took it in.
                return Ok(());
            }
            let file = File::open(&path, OpenMode::Read).await?;
            let mut checksum = 0;
            let mut pieces = read_from(file.clone(), 0, piece_bytes);
            while let Some(piece) = pieces.try_next().await? {
                checksum = crc32c::crc32c_append(checksum, &piece);
            }
            let outcome = if checksum == blob.crc32c {
                let imported = images.import(&database, manifest, read_from(file, 0, piece_bytes)).await;
                imported.map(|_image| ()).map_err(|error| invalid(&blob, &error.to_string()))
            } else {
                Err(invalid(&blob, "its checksum is wrong"))
            };
            disk::remove_file(&path).await?;
            outcome
        });
        taking.await.map_err(io::Error::other)?
    }
}

async fn sweep(written: Arc<Written>, directory: PathBuf, space: Arc<dyn OwnSpace>) {
    loop {
        time::sleep(SWEEP_EVERY).await;
        let has_room = space.own_space().has_room_for_copies(0);
        written.sweep(&directory, if has_room { KEEP } else { KEEP_WITHOUT_ROOM }).await;
    }
}

/// Copies leave a part of the reserve to those who cannot wait.
fn check_room(space: &dyn OwnSpace, bytes: u64) -> io::Result<()> {
    let own = space.own_space();
    if own.has_room_for_copies(bytes) {
        return Ok(());
    }
    let cause = format!(
        "no room for a copy of an image: {} MiB are needed, the node's data may take {} MiB more, and half of its \
         reserve of {} MiB is not for copies",
        bytes >> 20,
        own.free >> 20,
        own.reserve >> 20
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, cause))
}

fn bytes_of(manifest: &ImageManifest) -> u64 {
    u64::from(manifest.page_count) * u64::from(manifest.page_size.bytes())
}

async fn write_down(
    images: &ImageStore,
    directory: &Path,
    temporary: &str,
    need: &Need,
    space: &dyn OwnSpace,
) -> io::Result<v1::Blob> {
    let image = images.get(&need.database, need.lineage);
    let image = image.ok_or_else(|| io::Error::other(format!("there is no image of {} yet", need.database)))?;
    image.wait_folded(need.txid, FOLD_LIMIT).await.map_err(io::Error::other)?;
    let exported = images.export(&need.database, need.lineage, HOLD_LIMIT).await;
    let (manifest, mut bytes) = exported.map_err(io::Error::other)?;
    check_room(space, bytes_of(&manifest))?;
    let position = manifest.position;
    let mut blob = v1::Blob {
        id: format!("image/{}@{}/{}-{}", need.database, need.lineage, position.txid, position.checksum),
        size: 0,
        crc32c: 0,
        database: need.database.to_string(),
        head: Some(v1::Head {
            lineage: position.lineage.0,
            txid: position.txid.0,
            checksum: position.checksum.0,
            page_size: manifest.page_size.bytes(),
            page_count: manifest.page_count,
            commit_time_ms: manifest.commit_time_ms,
            wal: None,
        }),
    };
    let temporary = directory.join(temporary);
    let file = File::open(&temporary, OpenMode::OpenOrCreate).await?;
    file.set_len(0).await?;
    while let Some(piece) = bytes.try_next().await.map_err(io::Error::other)? {
        blob.crc32c = crc32c::crc32c_append(blob.crc32c, &piece);
        let len = piece.len() as u64;
        file.write_at(blob.size, vec![piece]).await?;
        blob.size += len;
    }
    disk::rename(&temporary, &directory.join(file_name(&blob))).await?;
    Ok(blob)
}

/// A name that no peer can choose.
fn file_name(blob: &v1::Blob) -> String {
    format!("{:08x}-{:08x}-{}", crc32c::crc32c(blob.id.as_bytes()), blob.crc32c, blob.size)
}

fn understand(blob: &v1::Blob) -> io::Result<(DatabaseName, ImageManifest)> {
    let head = blob.head.as_ref().ok_or_else(|| invalid(blob, "it does not say which state it holds"))?;
    let database = blob.database.parse().map_err(|error| invalid(blob, &format!("{error}")))?;
    let position =
        Position { lineage: Lineage(head.lineage), txid: Txid(head.txid), checksum: Checksum(head.checksum) };
    let manifest = ImageManifest {
        position,
        page_size: PageSize::new(head.page_size).map_err(|error| invalid(blob, &error.to_string()))?,
        page_count: head.page_count,
        commit_time_ms: head.commit_time_ms,
    };
    Ok((database, manifest))
}

fn invalid(blob: &v1::Blob, cause: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} from a peer cannot be used: {cause}", blob.id))
}

fn read_from(file: File, offset: u64, piece_bytes: usize) -> BlobStream {
    stream::try_unfold((file, offset), move |(file, offset)| async move {
        let piece: Bytes = file.read_at(offset, piece_bytes).await?;
        let next = offset + piece.len() as u64;
        Ok((!piece.is_empty()).then_some((piece, (file, next))))
    })
    .boxed()
}
