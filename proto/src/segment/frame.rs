//! Frames: compressed records, each checked on its own.

use bytes::Bytes;

use super::compression;
use super::section::CRC_LEN;

/// The greatest length of a frame's content before compression; holds three of the largest pages.
pub const MAX_FRAME_BYTES: usize = 256 << 10;

pub(super) const TAG: u8 = 1;
/// Bytes before the stored content: tag, content length, stored length.
pub(super) const PREFIX_LEN: usize = 9;

/// The two lengths a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameLengths {
    /// Of the content before compression.
    pub(super) content: u32,
    /// Of the content as stored; equal to `content` if it is not compressed.
    pub(super) stored: u32,
}

impl FrameLengths {
    /// Checks the bounds, before anything is allocated.
    pub(super) fn new(content: u64, stored: u64) -> Option<Self> {
        let in_bounds = 0 < stored && stored <= content && content <= MAX_FRAME_BYTES as u64;
        in_bounds.then_some(Self { content: content as u32, stored: stored as u32 })
    }

    pub(super) fn parse(prefix: [u8; PREFIX_LEN]) -> Option<Self> {
        let [tag, a, b, c, d, e, f, g, h] = prefix;
        let number = |bytes| u64::from(u32::from_le_bytes(bytes));
        Self::new(number([a, b, c, d]), number([e, f, g, h])).filter(|_| tag == TAG)
    }

    /// Bytes of the whole frame.
    pub(super) const fn frame_len(self) -> usize {
        PREFIX_LEN + self.stored as usize + CRC_LEN
    }
}

/// Appends a frame that holds `content`, which is not empty nor longer than [`MAX_FRAME_BYTES`].
pub(super) fn write(out: &mut Vec<u8>, content: &[u8]) -> FrameLengths {
    compression::compress(content, |stored| {
        let start = out.len();
        let lengths = FrameLengths { content: content.len() as u32, stored: stored.len() as u32 };
        out.reserve(lengths.frame_len());
        out.push(TAG);
        out.extend_from_slice(&lengths.content.to_le_bytes());
        out.extend_from_slice(&lengths.stored.to_le_bytes());
        out.extend_from_slice(stored);
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        lengths
    })
}

/// The content of a whole frame.
///
/// # Errors
/// What is damaged.
pub(super) fn read(frame: &Bytes) -> Result<(FrameLengths, Bytes), &'static str> {
    let prefix = frame.first_chunk().ok_or("a frame is cut off")?;
    let lengths = FrameLengths::parse(*prefix).ok_or("a frame's lengths are out of bounds")?;
    if frame.len() != lengths.frame_len() {
        return Err("a frame has another length than it says");
    }
    let (checked, crc) = frame.split_at(frame.len() - CRC_LEN);
    if crc32c::crc32c(checked).to_le_bytes() != crc {
        return Err("a frame's CRC32C does not match");
    }
    let stored = frame.slice(PREFIX_LEN..checked.len());
    let content = if lengths.stored == lengths.content {
        stored
    } else {
        compression::decompress(&stored, lengths.content as usize)
            .ok_or("a frame does not decompress to the length it says")?
            .into()
    };
    Ok((lengths, content))
}
