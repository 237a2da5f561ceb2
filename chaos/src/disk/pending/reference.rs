//! Who needs an inode: live names, open files, durable names and pending changes that give one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use super::{Inode, InodeNumber, Kind, NameChange, Refusal, State};

impl State {
    /// A file is opened: it stays as long as it is, whatever becomes of its names.
    pub(in crate::disk) fn open(&mut self, number: InodeNumber) -> Result<(), Refusal> {
        self.contents(number)?;
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.opens += 1;
        }
        Ok(())
    }

    /// It is closed.
    pub(in crate::disk) fn close(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        self.forget_unused(number);
    }

    /// Changes live names, and notes that the disk does not know yet.
    pub(super) fn change(&mut self, change: NameChange) {
        // What gains a name gains it first, so that it is never without one.
        if let Some((_, number)) = &change.added
            && let Some(inode) = self.inodes.get_mut(number)
        {
            inode.links += 1;
            inode.promises += 1;
        }
        if let Some((directory, name)) = &change.removed
            && let Some(number) = self.live_mut(*directory).and_then(|live| live.remove(name))
        {
            self.remove_link(number);
        }
        if let Some(((directory, name), number)) = &change.added
            && let Some(live) = self.live_mut(*directory)
            && let Some(replaced) = live.insert(Arc::clone(name), *number)
        {
            self.remove_link(replaced);
        }
        for durable in self.journal.push(change) {
            self.commit(durable);
        }
    }

    /// Makes a change durable.
    pub(super) fn commit(&mut self, change: NameChange) {
        if let Some((directory, name)) = &change.removed
            && let Some(number) = self.durable_mut(*directory).and_then(|durable| durable.remove(name))
        {
            self.remove_promise(number);
        }
        if let Some(((directory, name), number)) = change.added {
            let released = match self.durable_mut(directory) {
                // The promise of the change is now that of the name.
                Some(durable) => durable.insert(name, number),
                None => Some(number),
            };
            if let Some(released) = released {
                self.remove_promise(released);
            }
        }
    }

    fn live_mut(&mut self, number: InodeNumber) -> Option<&mut BTreeMap<Arc<OsStr>, InodeNumber>> {
        match &mut self.inodes.get_mut(&number)?.kind {
            Kind::Directory(directory) => Some(&mut directory.live),
            Kind::File(_) => None,
        }
    }

    fn durable_mut(&mut self, number: InodeNumber) -> Option<&mut BTreeMap<Arc<OsStr>, InodeNumber>> {
        match &mut self.inodes.get_mut(&number)?.kind {
            Kind::Directory(directory) => Some(&mut directory.durable),
            Kind::File(_) => None,
        }
    }

    fn remove_link(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.links -= 1;
        }
        self.forget_unused(number);
    }

    fn remove_promise(&mut self, number: InodeNumber) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.promises -= 1;
        }
        self.forget_unneeded(number);
    }

    /// Gives back the space of what no program can reach any more. The inode itself stays while a cut of power could give it
    /// a name again.
    fn forget_unused(&mut self, number: InodeNumber) {
        let Some(inode) = self.inodes.get(&number) else { return };
        if inode.links > 0 || inode.opens > 0 {
            return;
        }
        if let Kind::File(contents) = &inode.kind {
            self.used_pages -= contents.allocated();
        }
        self.forget_unneeded(number);
    }

    fn forget_unneeded(&mut self, number: InodeNumber) {
        let unneeded = |inode: &Inode| inode.links == 0 && inode.opens == 0 && inode.promises == 0;
        if !self.inodes.get(&number).is_some_and(unneeded) {
            return;
        }
        if let Some(Inode { kind: Kind::Directory(directory), .. }) = self.inodes.remove(&number) {
            for number in directory.live.into_values() {
                self.remove_link(number);
            }
            for number in directory.durable.into_values() {
                self.remove_promise(number);
            }
        }
    }
}
