//! A disk and what the kernel was told about it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::contents::{PAGE, SECTOR};
use super::pending::{Attributes, InodeNumber, Ownership, ROOT, Refusal, State};

/// Bits of the kernel's inode numbers that hold the disk's; those above count the cuts of power.
const NUMBER_BITS: u32 = 40;

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Errno::ENOENT,
            Refusal::Exists => Errno::EEXIST,
            Refusal::NotADirectory => Errno::ENOTDIR,
            Refusal::IsADirectory => Errno::EISDIR,
            Refusal::NotEmpty => Errno::ENOTEMPTY,
            Refusal::Full => Errno::ENOSPC,
            Refusal::Gone => Errno::ESTALE,
            Refusal::NameTooLong => Errno::ENAMETOOLONG,
            Refusal::Broken => Errno::EIO,
        }
    }
}

/// The names of a directory.
pub(super) type Listing = Vec<(Arc<OsStr>, InodeNumber)>;

/// A disk and what the kernel was told about it.
pub(super) struct Volume {
    pub(super) state: State,
    /// How often the power was cut.
    pub(super) life: u64,
    /// What open directories held when they were first read, so that removals meanwhile do not shift what is read next.
    pub(super) listings: BTreeMap<u64, Listing>,
    pub(super) next_listing: u64,
}

impl Volume {
    /// The disk in its first life.
    pub(super) fn new(state: State) -> Self {
        Self { state, life: 0, listings: BTreeMap::new(), next_listing: 1 }
    }

    /// Everything that was open or known is so no more.
    pub(super) fn begin_life(&mut self) {
        self.life += 1;
        self.listings.clear();
    }

    /// What the kernel means by `inode`; gone if it is of an earlier life.
    pub(super) fn number(&self, inode: INodeNo) -> Result<InodeNumber, Refusal> {
        if inode.0 == ROOT.0 {
            return Ok(ROOT);
        }
        let number = InodeNumber(inode.0 & ((1 << NUMBER_BITS) - 1));
        if inode.0 >> NUMBER_BITS == self.life { Ok(number) } else { Err(Refusal::Gone) }
    }

    /// What the kernel is to call `number`.
    pub(super) fn inode(&self, number: InodeNumber) -> INodeNo {
        INodeNo(if number == ROOT { ROOT.0 } else { self.life << NUMBER_BITS | number.0 })
    }

    /// What the kernel wants to know about it.
    pub(super) fn attributes(&self, number: InodeNumber) -> Result<FileAttr, Refusal> {
        let Attributes { is_directory, len, pages, links, ownership } = self.state.attributes(number)?;
        let Ownership { permissions, user, group, modified } = ownership;
        Ok(FileAttr {
            ino: self.inode(number),
            size: len,
            blocks: pages * (PAGE / SECTOR) as u64,
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind: kind(is_directory),
            perm: permissions,
            nlink: if is_directory { 2 } else { links },
            uid: user,
            gid: group,
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        })
    }
}

/// What the kernel calls a file or a directory.
pub(super) fn kind(is_directory: bool) -> FileType {
    if is_directory { FileType::Directory } else { FileType::RegularFile }
}
