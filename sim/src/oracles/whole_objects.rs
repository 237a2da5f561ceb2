//! What a node creates at a destination is whole.
//!
//! Source: Seawall's design, "objects are immutable and named by what they hold": a restore proves what it reads, so a
//! damaged object helps nobody, and one that takes the place of another must be proven first.

use bytes::Bytes;
use seawall_proto::object_name::ObjectName;
use seawall_proto::segment::SegmentDecoder;

/// Checks that `content` is a whole segment that holds what `name` says.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(name: &ObjectName, content: Bytes) -> Result<(), String> {
    let mut decoder = SegmentDecoder::new();
    decoder.push(content);
    while decoder.next().map_err(|error| error.to_string())?.is_some() {}
    let summary = decoder.finish().map_err(|error| error.to_string())?;
    let header = &summary.header;
    let held = (header.lineage, header.first, header.last, summary.checksum_after);
    if held == (name.lineage, name.first, name.last, name.checksum_after) {
        Ok(())
    } else {
        Err(format!("it holds @{} {}-{} with {}", header.lineage, header.first, header.last, summary.checksum_after))
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;
    use seawall_proto::object_name::Level;
    use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
    use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};

    use super::*;

    fn object() -> (ObjectName, Vec<u8>) {
        let page = [7; 512];
        let checksum_after = Checksum::of_page(PageNumber(1), &page);
        let header = SegmentHeader {
            kind: SegmentKind::Log,
            lineage: Lineage(1),
            first: Txid(1),
            last: Txid(1),
            checksum_before: Checksum::EMPTY,
            page_size: PageSize::new(512).unwrap(),
        };
        let mut encoder = SegmentEncoder::new(header);
        encoder.page(PageNumber(1), &page).unwrap();
        encoder.commit(1, 0, checksum_after).unwrap();
        let (pieces, _) = encoder.finish().unwrap();
        let content = pieces.concat();
        let name = ObjectName { lineage: Lineage(1), level: Level::Log, first: Txid(1), last: Txid(1), checksum_after };
        (name, content)
    }

    #[test]
    fn whole_objects_are_told_from_damaged_ones_and_from_others() {
        let (name, content) = object();
        assert_eq!(check(&name, content.clone().into()), Ok(()));
        let other = ObjectName { last: Txid(2), ..name };
        assert!(check(&other, content.clone().into()).unwrap_err().contains("it holds @1 1-1"));
        for byte in 0..content.len() {
            let mut damaged = content.clone();
            damaged[byte] ^= 1;
            assert!(check(&name, damaged.into()).is_err(), "{byte}");
        }
        assert!(check(&name, content[..content.len() - 1].to_vec().into()).is_err());
    }
}
