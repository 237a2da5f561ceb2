//! A file system that knows what of it would survive a cut of power. Pure: no time, no kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::contents::{Contents, PAGE, Sync};
use super::names::{Journal, Name, NameChange};

mod power;
mod reference;

/// Identifies a file or directory whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeNumber(pub(super) u64);

/// The directory that is mounted.
pub(super) const ROOT: InodeNumber = InodeNumber(1);
/// Bytes of the longest name.
pub(super) const LONGEST_NAME: usize = 255;

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such name.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotADirectory,
    /// A file was needed.
    IsADirectory,
    /// The directory has names in it.
    NotEmpty,
    /// The disk is full.
    Full,
    /// The file is gone, by a cut of power or because it lost its last name.
    Gone,
    /// The name is longer than [`LONGEST_NAME`].
    NameTooLong,
    /// The sync failed.
    Broken,
}

/// Whose something is, and when it changed. Durable at once: nothing rests on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    pub(super) permissions: u16,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) modified: SystemTime,
}

/// What there is to know about a file or directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) is_directory: bool,
    pub(super) len: u64,
    pub(super) pages: u64,
    pub(super) links: u32,
    pub(super) ownership: Ownership,
}

#[derive(Default)]
struct Directory {
    live: BTreeMap<Arc<OsStr>, InodeNumber>,
    durable: BTreeMap<Arc<OsStr>, InodeNumber>,
}

enum Kind {
    File(Contents),
    Directory(Directory),
}

struct Inode {
    kind: Kind,
    ownership: Ownership,
    /// Live names.
    links: u32,
    /// Open files.
    opens: u32,
    /// Durable names and pending changes that give one.
    promises: u32,
}

/// A file system.
pub(super) struct State {
    inodes: BTreeMap<InodeNumber, Inode>,
    next: u64,
    journal: Journal,
    used_pages: u64,
    capacity: u64,
}

impl State {
    /// An empty one of `capacity` bytes whose root belongs to `ownership`.
    pub(super) fn new(capacity: u64, ownership: Ownership) -> Self {
        let root = Inode { kind: Kind::Directory(Directory::default()), ownership, links: 1, opens: 0, promises: 1 };
        let inodes = BTreeMap::from([(ROOT, root)]);
        Self { inodes, next: ROOT.0 + 1, journal: Journal::default(), used_pages: 0, capacity }
    }

    /// Changes the size, in bytes. Nothing happens to what is there already.
    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Pages in all.
    pub(super) fn total_pages(&self) -> u64 {
        self.capacity / PAGE as u64
    }

    /// Pages that can still be taken.
    pub(super) fn free_pages(&self) -> u64 {
        self.total_pages().saturating_sub(self.used_pages)
    }

    /// Pages that are taken.
    pub(super) fn used_pages(&self) -> u64 {
        self.used_pages
    }

    /// Files and directories.
    pub(super) fn inodes(&self) -> u64 {
        self.inodes.len() as u64
    }

    fn inode(&self, number: InodeNumber) -> Result<&Inode, Refusal> {
        self.inodes.get(&number).ok_or(Refusal::Gone)
    }

    fn directory(&self, number: InodeNumber) -> Result<&Directory, Refusal> {
        match &self.inode(number)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Refusal::NotADirectory),
        }
    }

    fn contents(&self, number: InodeNumber) -> Result<&Contents, Refusal> {
        match &self.inode(number)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Directory(_) => Err(Refusal::IsADirectory),
        }
    }

    fn contents_mut(&mut self, number: InodeNumber) -> Result<&mut Contents, Refusal> {
        match &mut self.inodes.get_mut(&number).ok_or(Refusal::Gone)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Directory(_) => Err(Refusal::IsADirectory),
        }
    }

    /// Whether it is a directory.
    pub(super) fn is_directory(&self, number: InodeNumber) -> bool {
        self.directory(number).is_ok()
    }

    fn child(&self, directory: InodeNumber, name: &OsStr) -> Result<Option<InodeNumber>, Refusal> {
        if name.len() > LONGEST_NAME {
            return Err(Refusal::NameTooLong);
        }
        Ok(self.directory(directory)?.live.get(name).copied())
    }

    /// What has `name` in `directory`.
    pub(super) fn lookup(&self, directory: InodeNumber, name: &OsStr) -> Result<InodeNumber, Refusal> {
        self.child(directory, name)?.ok_or(Refusal::NotFound)
    }

    /// What there is to know about it.
    pub(super) fn attributes(&self, number: InodeNumber) -> Result<Attributes, Refusal> {
        let inode = self.inode(number)?;
        let (is_directory, len, pages) = match &inode.kind {
            Kind::File(contents) => (false, contents.len(), contents.allocated()),
            Kind::Directory(_) => (true, 0, 0),
        };
        Ok(Attributes { is_directory, len, pages, links: inode.links, ownership: inode.ownership })
    }

    /// Whose it is, to be changed.
    pub(super) fn ownership_mut(&mut self, number: InodeNumber) -> Result<&mut Ownership, Refusal> {
        self.inodes.get_mut(&number).map(|inode| &mut inode.ownership).ok_or(Refusal::Gone)
    }

    /// All names in a directory, in their order.
    pub(super) fn list(&self, number: InodeNumber) -> Result<Vec<(Arc<OsStr>, InodeNumber)>, Refusal> {
        Ok(self.directory(number)?.live.iter().map(|(name, number)| (Arc::clone(name), *number)).collect())
    }

    /// Creates an empty file.
    pub(super) fn create_file(
        &mut self,
        directory: InodeNumber,
        name: &OsStr,
        ownership: Ownership,
    ) -> Result<InodeNumber, Refusal> {
        self.create(directory, name, Kind::File(Contents::default()), ownership)
    }

    /// Creates an empty directory.
    pub(super) fn create_directory(
        &mut self,
        directory: InodeNumber,
        name: &OsStr,
        ownership: Ownership,
    ) -> Result<InodeNumber, Refusal> {
        self.create(directory, name, Kind::Directory(Directory::default()), ownership)
    }

    fn create(
        &mut self,
        directory: InodeNumber,
        name: &OsStr,
        kind: Kind,
        ownership: Ownership,
    ) -> Result<InodeNumber, Refusal> {
        if self.child(directory, name)?.is_some() {
            return Err(Refusal::Exists);
        }
        if self.free_pages() == 0 {
            return Err(Refusal::Full);
        }
        let number = InodeNumber(self.next);
        self.next += 1;
        self.inodes.insert(number, Inode { kind, ownership, links: 0, opens: 0, promises: 0 });
        self.change(NameChange { removed: None, added: Some(((directory, name.into()), number)) });
        Ok(number)
    }

    /// Gives a file a second name.
    pub(super) fn link(&mut self, number: InodeNumber, directory: InodeNumber, name: &OsStr) -> Result<(), Refusal> {
        self.contents(number)?;
        if self.child(directory, name)?.is_some() {
            return Err(Refusal::Exists);
        }
        self.change(NameChange { removed: None, added: Some(((directory, name.into()), number)) });
        Ok(())
    }

    /// Removes a name of a file.
    pub(super) fn unlink(&mut self, directory: InodeNumber, name: &OsStr) -> Result<(), Refusal> {
        let number = self.lookup(directory, name)?;
        self.contents(number)?;
        self.change(NameChange { removed: Some((directory, name.into())), added: None });
        Ok(())
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&mut self, directory: InodeNumber, name: &OsStr) -> Result<(), Refusal> {
        let number = self.lookup(directory, name)?;
        if !self.directory(number)?.live.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.change(NameChange { removed: Some((directory, name.into())), added: None });
        Ok(())
    }

    /// Renames over whatever has the new name, if it is of the same kind (a directory: and empty).
    pub(super) fn rename(&mut self, from: (InodeNumber, &OsStr), to: (InodeNumber, &OsStr)) -> Result<(), Refusal> {
        let number = self.lookup(from.0, from.1)?;
        if let Some(target) = self.child(to.0, to.1)? {
            if target == number {
                return Ok(());
            }
            match (self.is_directory(number), self.is_directory(target)) {
                (false, true) => return Err(Refusal::IsADirectory),
                (true, false) => return Err(Refusal::NotADirectory),
                (true, true) if !self.directory(target)?.live.is_empty() => return Err(Refusal::NotEmpty),
                _ => {}
            }
        }
        let (from, to): (Name, Name) = ((from.0, from.1.into()), (to.0, to.1.into()));
        self.change(NameChange { removed: Some(from), added: Some((to, number)) });
        Ok(())
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&mut self, number: InodeNumber) -> Result<(), Refusal> {
        self.directory(number)?;
        for change in self.journal.take_synced(number) {
            self.commit(change);
        }
        Ok(())
    }

    /// Up to `len` bytes from `offset`; fewer only where the file ends.
    pub(super) fn read(&self, number: InodeNumber, offset: u64, len: usize) -> Result<Vec<u8>, Refusal> {
        Ok(self.contents(number)?.read(offset, len))
    }

    /// Writes what fits; refused if that is nothing.
    pub(super) fn write(&mut self, number: InodeNumber, offset: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        let free = self.free_pages();
        let contents = self.contents_mut(number)?;
        let before = contents.allocated();
        let written = contents.write(offset, bytes, free);
        let after = contents.allocated();
        self.used_pages = self.used_pages + after - before;
        if written == 0 && !bytes.is_empty() { Err(Refusal::Full) } else { Ok(written) }
    }

    /// Cuts or extends a file.
    pub(super) fn set_len(&mut self, number: InodeNumber, len: u64) -> Result<(), Refusal> {
        let contents = self.contents_mut(number)?;
        let before = contents.allocated();
        contents.set_len(len);
        let after = contents.allocated();
        self.used_pages = self.used_pages + after - before;
        Ok(())
    }

    /// Begins a sync of a file.
    pub(super) fn begin_sync(&mut self, number: InodeNumber) -> Result<Sync, Refusal> {
        Ok(self.contents_mut(number)?.begin_sync())
    }

    /// Ends it well.
    pub(super) fn finish_sync(&mut self, number: InodeNumber, sync: Sync) -> Result<(), Refusal> {
        if self.contents_mut(number)?.finish_sync(sync) { Ok(()) } else { Err(Refusal::Broken) }
    }

    /// Ends it in an error.
    pub(super) fn fail_sync(&mut self, number: InodeNumber, sync: Sync) {
        if let Ok(contents) = self.contents_mut(number) {
            contents.fail_sync(sync);
        }
    }
}
