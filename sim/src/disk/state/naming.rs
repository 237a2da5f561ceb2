//! Changes of names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Directory, InodeNumber, Kind, Name, NameChange, ROOT, State, components, not_found};

impl State {
    pub(in crate::disk) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let number = self.child(from.0, &from.1)?.ok_or_else(not_found)?;
        if let Some(target) = self.child(to.0, &to.1)? {
            if target == number {
                return Ok(());
            }
            match (self.is_directory(number), self.is_directory(target)) {
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (true, true) if !self.directory(target)?.live.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.change(NameChange { removed: Some(from), added: Some((to, number)) });
        Ok(())
    }

    pub(in crate::disk) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.find(from)?;
        self.contents(number)?;
        let to = self.place(to)?;
        if self.child(to.0, &to.1)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(NameChange { removed: None, added: Some((to, number)) });
        Ok(())
    }

    pub(in crate::disk) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let name = self.place(path)?;
        let number = self.child(name.0, &name.1)?.ok_or_else(not_found)?;
        self.contents(number)?;
        self.change(NameChange { removed: Some(name), added: None });
        Ok(())
    }

    pub(in crate::disk) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        let name = self.place(path)?;
        let number = self.child(name.0, &name.1)?.ok_or_else(not_found)?;
        self.directory(number)?;
        self.remove_tree(name, number);
        Ok(())
    }

    /// Removes what is inside first, each a change of its own.
    fn remove_tree(&mut self, name: Name, number: InodeNumber) {
        let inside: Vec<_> = self
            .directory(number)
            .map(|directory| directory.live.iter().map(|(name, number)| (Arc::clone(name), *number)).collect())
            .unwrap_or_default();
        for (child, child_number) in inside {
            self.remove_tree((number, child), child_number);
        }
        self.change(NameChange { removed: Some(name), added: None });
    }

    pub(in crate::disk) fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in components(path) {
            at = match self.child(at, &name)? {
                Some(number) => number,
                None => self.create((at, name.into()), Kind::Directory(Directory::default()))?,
            };
        }
        self.directory(at).map(|_| ())
    }

    /// As [`State::create_directories`], and makes them durable.
    pub(in crate::disk) fn prepare_directories(&mut self, path: &Path) -> io::Result<()> {
        self.create_directories(path)?;
        for ancestor in path.ancestors() {
            self.sync_directory(ancestor)?;
        }
        Ok(())
    }

    pub(in crate::disk) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let number = self.find(path)?;
        self.directory(number)?;
        for change in self.journal.take_synced(number) {
            self.commit(change);
        }
        Ok(())
    }
}
