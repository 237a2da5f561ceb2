//! stub
use futures::future::BoxFuture;
use seawall_host::disk::*;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
/// stub
pub struct SimDisk;
impl SimDisk {
    /// stub
    pub fn new() -> Self {
        Self
    }
}
impl Disk for SimDisk {
    fn open(&self, _path: PathBuf, _mode: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn RawFile>>> {
        todo!()
    }
    fn rename(&self, _from: PathBuf, _to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn hard_link(&self, _from: PathBuf, _to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn remove_file(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn remove_directory(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn create_directories(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn sync_directory(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }
    fn list(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<Vec<DirectoryEntry>>> {
        todo!()
    }
    fn exists(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<bool>> {
        todo!()
    }
    fn space(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        todo!()
    }
    fn lock(&self, _path: PathBuf) -> BoxFuture<'static, io::Result<LockGuard>> {
        todo!()
    }
}
