//! Promise 2, "never a wrong database".
//!
//! Source: Seawall's design, promise 2: what restore gives back is byte for byte the source's logical content (every
//! page except the lock page) at exactly one txid; its checksum equals the position's.

use seawall_proto::position::{PageSize, Position};

use crate::application::history::{Content, SourceHistory};

/// Checks a restored database file against the position that it is said to be, and against the source's states.
///
/// # Errors
/// What does not hold, in words.
pub fn check(image: &[u8], page_size: PageSize, claimed: &Position, source: &SourceHistory) -> Result<(), String> {
    if !image.len().is_multiple_of(page_size.bytes() as usize) {
        return Err(format!("{} bytes are no whole number of pages of {}", image.len(), page_size.bytes()));
    }
    let restored = Content::of_image(image, page_size);
    if restored.checksum != claimed.checksum {
        return Err(format!("what was restored as {claimed} has the checksum {}", restored.checksum));
    }
    let numbers = source.find(claimed.checksum);
    let Some(first) = numbers.first() else {
        return Err(format!("{claimed} was restored, but the source was never in that state"));
    };
    if numbers.iter().any(|number| source.states()[*number].content == restored) {
        return Ok(());
    }
    let truth = source.states()[*first].content;
    Err(format!(
        "what was restored as {claimed} has the checksum of the source's state {first} but is not that state: \
         {} pages of {} bytes, hash {:032x}, instead of {} of {}, hash {:032x}",
        restored.page_count,
        restored.page_size.bytes(),
        restored.hash,
        truth.page_count,
        truth.page_size.bytes(),
        truth.hash
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::testing::{PAGE_SIZE, history, image, position};

    #[test]
    fn takes_the_very_bytes() {
        assert_eq!(check(&image(2), PAGE_SIZE, &position(1, 7, 2), &history(&[1, 2, 3])), Ok(()));
    }

    #[test]
    fn refuses_one_wrong_byte() {
        let mut image = image(2);
        image[700] ^= 1;
        let error = check(&image, PAGE_SIZE, &position(1, 7, 2), &history(&[1, 2, 3])).unwrap_err();
        assert!(error.contains("has the checksum"), "{error}");
    }

    #[test]
    fn refuses_what_the_source_never_was() {
        let error = check(&image(4), PAGE_SIZE, &position(1, 7, 4), &history(&[1, 2, 3])).unwrap_err();
        assert!(error.contains("never in that state"), "{error}");
    }

    #[test]
    fn refuses_a_file_that_is_cut() {
        assert!(check(&image(2)[..1000], PAGE_SIZE, &position(1, 7, 2), &history(&[2])).is_err());
    }

    #[test]
    fn refuses_other_pages_behind_the_right_checksum() {
        // As if the checksum had a collision: the source's state tells another hash.
        let mut content = Content::of_image(&image(2), PAGE_SIZE);
        content.hash ^= 1;
        let mut source = SourceHistory::new();
        source.record(std::time::Duration::ZERO, content);
        let error = check(&image(2), PAGE_SIZE, &position(1, 7, 2), &source).unwrap_err();
        assert!(error.contains("is not that state"), "{error}");
    }
}
