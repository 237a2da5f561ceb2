//! The kernel's questions about a mounted disk, and the answers of its [`super::pending::State`].
//!
//! Nothing that the kernel keeps may hide a loss: files are read and written past its page cache, names and attributes are asked
//! for every time, and after a cut of power everything but the root has new inode numbers.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

use super::contents::PAGE;
use super::pending::{InodeNumber, LONGEST_NAME, Ownership, Refusal};
use super::syncs::Syncs;
use super::volume::{Volume, kind};

/// How long the kernel may remember an answer.
const REMEMBERED: Duration = Duration::ZERO;
/// Names are never given to another file under the same number.
const GENERATION: Generation = Generation(0);

fn ownership(request: &Request, mode: u32) -> Ownership {
    let permissions = (mode & 0o7777) as u16;
    Ownership { permissions, user: request.uid(), group: request.gid(), modified: SystemTime::now() }
}

/// Answers the kernel for a disk.
#[derive(Clone)]
pub(super) struct Server {
    volume: Arc<Mutex<Volume>>,
    syncs: Arc<Syncs>,
}

impl Server {
    pub(super) fn new(volume: Arc<Mutex<Volume>>, syncs: Arc<Syncs>) -> Self {
        Self { volume, syncs }
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, reply: ReplyEntry, find: impl FnOnce(&mut Volume) -> Result<InodeNumber, Refusal>) {
        let mut volume = self.volume();
        match find(&mut volume).and_then(|number| volume.attributes(number)) {
            Ok(attributes) => reply.entry(&REMEMBERED, &attributes, GENERATION),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn empty(&self, reply: ReplyEmpty, act: impl FnOnce(&mut Volume) -> Result<(), Refusal>) {
        answer(reply, act(&mut self.volume()));
    }

    /// Ends a sync when its time has come, without holding up other requests.
    fn end_sync(&self, reply: ReplyEmpty, end: impl FnOnce(&mut Volume, bool) -> Result<(), Refusal> + Send + 'static) {
        if !self.syncs.stall() {
            return answer(reply, end(&mut self.volume(), self.syncs.fail()));
        }
        let (server, began) = (self.clone(), Instant::now());
        let stalled = move || {
            server.syncs.wait_out(began);
            answer(reply, end(&mut server.volume(), server.syncs.fail()));
        };
        // Without a thread the reply is dropped, which is an input/output error.
        let _ = thread::Builder::new().name("stalled sync".to_owned()).spawn(stalled);
    }
}

fn answer(reply: ReplyEmpty, outcome: Result<(), Refusal>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(refusal.into()),
    }
}

/// Whether each write is to be a sync: the only thing that is not done here.
fn wants_synced_writes(flags: i32) -> bool {
    flags & libc::O_DSYNC != 0
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |volume| volume.state.lookup(volume.number(parent)?, name));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let volume = self.volume();
        match volume.number(inode).and_then(|number| volume.attributes(number)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = |volume: &mut Volume| {
            let number = volume.number(inode)?;
            if let Some(size) = size {
                volume.state.set_len(number, size)?;
            }
            let ownership = volume.state.ownership_mut(number)?;
            ownership.permissions = mode.map_or(ownership.permissions, |mode| (mode & 0o7777) as u16);
            ownership.user = user.unwrap_or(ownership.user);
            ownership.group = group.unwrap_or(ownership.group);
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => ownership.modified = time,
                None if size.is_none() => {}
                _ => ownership.modified = SystemTime::now(),
            }
            volume.attributes(number)
        };
        match change(&mut self.volume()) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let ownership = ownership(request, mode);
        self.entry(reply, |volume| volume.state.create_directory(volume.number(parent)?, name, ownership));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |volume| volume.state.unlink(volume.number(parent)?, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |volume| volume.state.remove_directory(volume.number(parent)?, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        self.empty(reply, |volume| {
            let (parent, new_parent) = (volume.number(parent)?, volume.number(new_parent)?);
            if flags.contains(RenameFlags::RENAME_NOREPLACE) && volume.state.lookup(new_parent, new_name).is_ok() {
                return Err(Refusal::Exists);
            }
            volume.state.rename((parent, name), (new_parent, new_name))
        });
    }

    fn link(&self, _: &Request, inode: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |volume| {
            let number = volume.number(inode)?;
            volume.state.link(number, volume.number(new_parent)?, new_name)?;
            Ok(number)
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if wants_synced_writes(flags.0) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut volume = self.volume();
        match volume.number(inode).and_then(|number| volume.state.open(number)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        if wants_synced_writes(flags) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let create = |volume: &mut Volume| {
            let parent = volume.number(parent)?;
            let number = match volume.state.lookup(parent, name) {
                Ok(_) if flags & libc::O_EXCL != 0 => return Err(Refusal::Exists),
                Err(Refusal::NotFound) => volume.state.create_file(parent, name, ownership(request, mode))?,
                found => found?,
            };
            volume.state.open(number)?;
            volume.attributes(number)
        };
        match create(&mut self.volume()) {
            Ok(attributes) => {
                reply.created(&REMEMBERED, &attributes, GENERATION, FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |volume| {
            volume.state.close(volume.number(inode)?);
            Ok(())
        });
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let volume = self.volume();
        let read = volume.number(inode).and_then(|number| volume.state.read(number, offset, size as usize));
        drop(volume);
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = |volume: &mut Volume| {
            let number = volume.number(inode)?;
            let written = volume.state.write(number, offset, data)?;
            volume.state.ownership_mut(number)?.modified = SystemTime::now();
            Ok::<_, Refusal>(written)
        };
        let written = write(&mut self.volume());
        match written {
            Ok(written) => reply.written(written as u32),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut volume = self.volume();
        let begun = volume.number(inode).and_then(|number| Ok((number, volume.state.begin_sync(number)?, volume.life)));
        drop(volume);
        let (number, sync, life) = match begun {
            Ok(begun) => begun,
            Err(refusal) => return reply.error(refusal.into()),
        };
        self.end_sync(reply, move |volume, fails| {
            if volume.life != life {
                return Err(Refusal::Gone);
            }
            if fails {
                volume.state.fail_sync(number, sync);
                return Err(Refusal::Broken);
            }
            volume.state.finish_sync(number, sync)
        });
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut volume = self.volume();
        let listing = volume.next_listing;
        volume.next_listing += 1;
        reply.opened(FileHandle(listing), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, inode: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut volume = self.volume();
        let listing = match volume.listings.remove(&handle.0) {
            Some(listing) if offset > 0 => Ok(listing),
            _ => volume.number(inode).and_then(|number| volume.state.list(number)),
        };
        let listing = match listing {
            Ok(listing) => listing,
            Err(refusal) => return reply.error(refusal.into()),
        };
        for (index, (name, number)) in listing.iter().enumerate().skip(offset as usize) {
            let kind = kind(volume.state.is_directory(*number));
            if reply.add(volume.inode(*number), index as u64 + 1, kind, name) {
                break;
            }
        }
        volume.listings.insert(handle.0, listing);
        drop(volume);
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.volume().listings.remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let life = self.volume().life;
        self.end_sync(reply, move |volume, fails| {
            if volume.life != life {
                return Err(Refusal::Gone);
            }
            let number = volume.number(inode)?;
            if fails { Err(Refusal::Broken) } else { volume.state.sync_directory(number) }
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let volume = self.volume();
        let (total, free) = (volume.state.total_pages(), volume.state.free_pages());
        let inodes = volume.state.inodes();
        let page = PAGE as u32;
        reply.statfs(total, free, free, inodes + free, free, page, LONGEST_NAME as u32, page);
    }
}
