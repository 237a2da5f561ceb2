//! The WAL file, read beside SQLite.

use std::io;
use std::path::Path;

use seawall_host::local::{Identity, ReadFile};
use seawall_proto::position::PageSize;

use super::format::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, InvalidHeader, WalHeader, frame_offset};

/// The one descriptor that the agent opens itself. SQLite takes no POSIX lock on the `-wal`, so opening and closing it
/// disturbs nobody; the database and the `-shm` are never opened but through SQLite.
#[derive(Debug)]
pub struct WalFile {
    file: ReadFile,
}

impl WalFile {
    /// Opens the WAL at `path`.
    ///
    /// # Errors
    /// Whatever `open` gives.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: ReadFile::open(path)? })
    }

    /// Which file this is.
    ///
    /// # Errors
    /// Whatever `fstat` gives.
    pub fn identity(&self) -> io::Result<Identity> {
        Ok(self.file.stat()?.identity)
    }

    /// The header as it stands in the file now.
    ///
    /// # Errors
    /// The operating system's; inside, why the bytes are no header.
    pub fn header(&self) -> io::Result<Result<WalHeader, InvalidHeader>> {
        let mut bytes = [0; HEADER_BYTES];
        let read = self.file.read_at(&mut bytes, 0)?;
        Ok(WalHeader::parse(&bytes[..read]))
    }

    /// The bytes of the header of frame `number` (from 1); `None` if the file ends before.
    ///
    /// # Errors
    /// The operating system's.
    pub fn frame_header_bytes(&self, page_size: PageSize, number: u32) -> io::Result<Option<[u8; FRAME_HEADER_BYTES]>> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let read = self.file.read_at(&mut bytes, frame_offset(page_size, number))?;
        Ok((read == FRAME_HEADER_BYTES).then_some(bytes))
    }

    /// The header of frame `number` (from 1); `None` if the file ends before.
    ///
    /// # Errors
    /// The operating system's.
    pub fn frame_header(&self, page_size: PageSize, number: u32) -> io::Result<Option<FrameHeader>> {
        Ok(self.frame_header_bytes(page_size, number)?.map(|bytes| FrameHeader::parse(&bytes)))
    }

    /// Reads frames from number `first` on into `buffer`, whose length is a whole number of frames; answers how many
    /// whole frames were read.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read_frames(&self, page_size: PageSize, first: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, frame_offset(page_size, first))?;
        Ok(read / (FRAME_HEADER_BYTES + page_size.bytes() as usize))
    }
}
