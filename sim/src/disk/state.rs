//! The file system of a machine, without time and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use seawall_host::disk::{DirectoryEntry, OpenMode, Space};

mod death;
mod naming;

pub use death::Crash;
pub(super) use death::Survival;

use super::faults::{DiskFaults, no_space_error};
use super::file::{Contents, PAGE};
use super::names::{Journal, Name, NameChange};

/// Identifies a file or directory whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeNumber(u64);

const ROOT: InodeNumber = InodeNumber(0);
/// The size of a disk that is given none, in bytes.
const DEFAULT_CAPACITY: u64 = 1 << 40;

#[derive(Default)]
struct Directory {
    live: BTreeMap<Arc<str>, InodeNumber>,
    durable: BTreeMap<Arc<str>, InodeNumber>,
}

enum Kind {
    File(Contents),
    Directory(Directory),
}

struct Inode {
    kind: Kind,
    /// Live names and open files.
    users: u32,
    /// Durable names and pending changes that give one.
    promises: u32,
}

/// The file system of a machine.
pub(super) struct State {
    inodes: BTreeMap<InodeNumber, Inode>,
    next: u64,
    journal: Journal,
    locks: BTreeSet<InodeNumber>,
    used_pages: u64,
    capacity: u64,
    /// Counts the deaths of the machine: what was opened in an earlier life is of no use.
    pub(super) life: u64,
    pub(super) faults: DiskFaults,
    /// Files of which a write or sync failed in this life of the machine.
    failed: BTreeSet<PathBuf>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn components(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => _ = names.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            inodes: BTreeMap::new(),
            next: 1,
            journal: Journal::default(),
            locks: BTreeSet::new(),
            used_pages: 0,
            capacity: DEFAULT_CAPACITY,
            life: 0,
            faults: DiskFaults::default(),
            failed: BTreeSet::new(),
        };
        state.wipe();
        state
    }

    /// Empties the disk.
    pub(super) fn wipe(&mut self) {
        self.inodes =
            BTreeMap::from([(ROOT, Inode { kind: Kind::Directory(Directory::default()), users: 1, promises: 1 })]);
        self.journal = Journal::default();
        self.locks.clear();
        self.used_pages = 0;
        self.failed.clear();
        self.life += 1;
    }

    /// Takes note that a write or sync of a file failed.
    pub(super) fn note_failure(&mut self, number: InodeNumber) {
        let named = self.files().into_iter().filter(|(_, file)| *file == number);
        self.failed.extend(named.map(|(path, _)| path));
    }

    /// The files of which a write or sync failed in this life.
    pub(super) fn failed(&self) -> &BTreeSet<PathBuf> {
        &self.failed
    }

    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes.unwrap_or(DEFAULT_CAPACITY);
    }

    pub(super) fn space(&self) -> Space {
        Space { available: self.free_pages() * PAGE as u64, total: self.capacity }
    }

    fn free_pages(&self) -> u64 {
        (self.capacity / PAGE as u64).saturating_sub(self.used_pages)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_pages * PAGE as u64
    }

    fn directory(&self, number: InodeNumber) -> io::Result<&Directory> {
        match &self.inodes.get(&number).ok_or_else(not_found)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn live_mut(&mut self, number: InodeNumber) -> Option<&mut BTreeMap<Arc<str>, InodeNumber>> {
        match &mut self.inodes.get_mut(&number)?.kind {
            Kind::Directory(directory) => Some(&mut directory.live),
            Kind::File(_) => None,
        }
    }

    fn is_directory(&self, number: InodeNumber) -> bool {
        self.inodes.get(&number).is_some_and(|inode| matches!(inode.kind, Kind::Directory(_)))
    }

    fn child(&self, directory: InodeNumber, name: &str) -> io::Result<Option<InodeNumber>> {
        Ok(self.directory(directory)?.live.get(name).copied())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<InodeNumber> {
        let mut at = ROOT;
        for name in components(path) {
            at = self.child(at, &name)?.ok_or_else(not_found)?;
        }
        Ok(at)
    }

    /// The directory that holds `path`, and its name there.
    fn place(&self, path: &Path) -> io::Result<Name> {
        let mut names = components(path);
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for name in names {
            at = self.child(at, &name)?.ok_or_else(not_found)?;
        }
        self.directory(at)?;
        Ok((at, last.into()))
    }

    fn contents(&self, number: InodeNumber) -> io::Result<&Contents> {
        match &self.inodes.get(&number).ok_or_else(not_found)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn contents_mut(&mut self, number: InodeNumber) -> io::Result<&mut Contents> {
        match &mut self.inodes.get_mut(&number).ok_or_else(not_found)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn read(&self, number: InodeNumber, offset: u64, len: usize) -> io::Result<Bytes> {
        Ok(self.contents(number)?.read(offset, len))
    }

    pub(super) fn len(&self, number: InodeNumber) -> io::Result<u64> {
        Ok(self.contents(number)?.len())
    }

    pub(super) fn write(&mut self, number: InodeNumber, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        let free = self.free_pages();
        let contents = self.contents_mut(number)?;
        let before = contents.allocated();
        let written = contents.write(offset, parts, free);
        let after = contents.allocated();
        self.used_pages = self.used_pages + after - before;
        written.map_err(|_full| no_space_error())
    }

    pub(super) fn set_len(&mut self, number: InodeNumber, len: u64) -> io::Result<()> {
        let contents = self.contents_mut(number)?;
        let before = contents.allocated();
        contents.set_len(len);
        let after = contents.allocated();
        self.used_pages = self.used_pages + after - before;
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<InodeNumber> {
        let (directory, name) = self.place(path)?;
        let number = match (self.child(directory, &name)?, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => number,
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(not_found()),
            (None, OpenMode::OpenOrCreate | OpenMode::CreateNew) => {
                self.create((directory, name), Kind::File(Contents::default()))?
            }
        };
        self.contents(number)?;
        self.add_user(number);
        Ok(number)
    }

    pub(super) fn close(&mut self, number: InodeNumber, life: u64) {
        if life == self.life {
            self.remove_user(number);
        }
    }

    fn create(&mut self, name: Name, kind: Kind) -> io::Result<InodeNumber> {
        if self.free_pages() == 0 {
            return Err(no_space_error());
        }
        let number = InodeNumber(self.next);
        self.next += 1;
        self.inodes.insert(number, Inode { kind, users: 0, promises: 0 });
        self.change(NameChange { removed: None, added: Some((name, number)) });
        Ok(number)
    }

    /// Changes live names, and notes that the disk does not know yet.
    fn change(&mut self, change: NameChange) {
        // What gains a name gains it first, so that it is never without one.
        if let Some((_, number)) = &change.added {
            self.add_user(*number);
            self.promise(*number);
        }
        if let Some((directory, name)) = &change.removed
            && let Some(number) = self.live_mut(*directory).and_then(|live| live.remove(name))
        {
            self.remove_user(number);
        }
        if let Some(((directory, name), number)) = &change.added
            && let Some(live) = self.live_mut(*directory)
            && let Some(replaced) = live.insert(Arc::clone(name), *number)
        {
            self.remove_user(replaced);
        }
        for durable in self.journal.push(change) {
            self.commit(durable);
        }
    }

    /// Makes a change durable.
    fn commit(&mut self, change: NameChange) {
        if let Some((directory, name)) = &change.removed
            && let Some(durable) = self.durable_mut(*directory)
            && let Some(number) = durable.remove(name)
        {
            self.release(number);
        }
        if let Some(((directory, name), number)) = change.added {
            let released = match self.durable_mut(directory) {
                // The promise of the change is now that of the name.
                Some(durable) => durable.insert(name, number),
                None => Some(number),
            };
            if let Some(released) = released {
                self.release(released);
            }
        }
    }

    fn durable_mut(&mut self, number: InodeNumber) -> Option<&mut BTreeMap<Arc<str>, InodeNumber>> {
        match &mut self.inodes.get_mut(&number)?.kind {
            Kind::Directory(directory) => Some(&mut directory.durable),
            Kind::File(_) => None,
        }
    }

    fn add_user(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.users += 1;
        }
    }

    fn remove_user(&mut self, number: InodeNumber) {
        let Some(inode) = self.inodes.get_mut(&number) else { return };
        inode.users -= 1;
        if inode.users == 0 {
            if let Kind::File(contents) = &inode.kind {
                self.used_pages -= contents.allocated();
            }
            self.drop_unneeded(number);
        }
    }

    fn promise(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.promises += 1;
        }
    }

    fn release(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.promises -= 1;
            self.drop_unneeded(number);
        }
    }

    fn drop_unneeded(&mut self, number: InodeNumber) {
        let unneeded = |inode: &Inode| inode.users == 0 && inode.promises == 0;
        if !self.inodes.get(&number).is_some_and(unneeded) {
            return;
        }
        if let Some(Inode { kind: Kind::Directory(directory), .. }) = self.inodes.remove(&number) {
            for number in directory.live.into_values() {
                self.remove_user(number);
            }
            for number in directory.durable.into_values() {
                self.release(number);
            }
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let entry = |(name, number): (&Arc<str>, &InodeNumber)| DirectoryEntry {
            name: name.to_string(),
            len: self.len(*number).unwrap_or(0),
            is_directory: self.is_directory(*number),
        };
        Ok(self.directory(self.find(path)?)?.live.iter().map(entry).collect())
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All files, in the order of their paths.
    pub(super) fn files(&self) -> Vec<(PathBuf, InodeNumber)> {
        let mut files = Vec::new();
        self.collect_files(ROOT, &PathBuf::from("/"), &mut files);
        files
    }

    fn collect_files(&self, number: InodeNumber, path: &Path, files: &mut Vec<(PathBuf, InodeNumber)>) {
        let Ok(directory) = self.directory(number) else { return };
        for (name, number) in &directory.live {
            let path = path.join(&**name);
            if self.is_directory(*number) {
                self.collect_files(*number, &path, files);
            } else {
                files.push((path, *number));
            }
        }
    }

    /// Takes the lock of the file at `path`, which is created if need be.
    pub(super) fn lock(&mut self, path: &Path) -> io::Result<InodeNumber> {
        let number = self.open(path, OpenMode::OpenOrCreate)?;
        if !self.locks.insert(number) {
            self.remove_user(number);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(number)
    }

    pub(super) fn unlock(&mut self, number: InodeNumber, life: u64) {
        if life == self.life {
            self.locks.remove(&number);
            self.remove_user(number);
        }
    }
}
