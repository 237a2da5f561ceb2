//! What checksums of whole databases promise.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::PageNumber;

fn from_scratch(pages: &BTreeMap<u32, Vec<u8>>) -> Checksum {
    pages.iter().fold(Checksum::EMPTY, |sum, (&page, bytes)| sum ^ Checksum::of_page(PageNumber(page), bytes))
}

#[derive(Clone, Debug)]
enum Change {
    Write(u32, u8),
    Truncate(u32),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..40_u32, any::<u8>()).prop_map(|(page, byte)| Change::Write(page, byte)),
        1 => (0..40_u32).prop_map(Change::Truncate),
    ]
}

proptest! {
    #[test]
    fn keeping_up_to_date_equals_starting_from_scratch(changes in prop::collection::vec(change(), 0..100)) {
        let mut pages = BTreeMap::new();
        let mut checksum = Checksum::EMPTY;
        for change in changes {
            match change {
                Change::Write(page, byte) => {
                    let bytes = vec![byte; 512];
                    checksum ^= Checksum::of_page(PageNumber(page), &bytes);
                    if let Some(old) = pages.insert(page, bytes) {
                        checksum ^= Checksum::of_page(PageNumber(page), &old);
                    }
                }
                Change::Truncate(page_count) => {
                    for (page, old) in pages.split_off(&(page_count + 1)) {
                        checksum ^= Checksum::of_page(PageNumber(page), &old);
                    }
                }
            }
            prop_assert_eq!(checksum, from_scratch(&pages));
        }
    }

    #[test]
    fn pages_that_change_places_change_the_checksum(a in 1..1000_u32, b in 1..1000_u32, x: u8, y: u8) {
        prop_assume!(a != b && x != y);
        let sum = |x, y| from_scratch(&BTreeMap::from([(a, vec![x; 512]), (b, vec![y; 512])]));
        prop_assert_ne!(sum(x, y), sum(y, x));
    }
}

// The hash is part of the format: every database's history rests on it.
#[test]
fn the_hash_of_a_page_is_what_it_always_was() {
    let page: Vec<u8> = (0..4096_u32).map(|i| i as u8).collect();
    let found = [1, 2, u32::MAX].map(|number| Checksum::of_page(PageNumber(number), &page).to_string());
    assert_eq!(found, ["ffefa3e527085c0a", "a9f3c2cbf96fe883", "de98b2b38865102c"]);
}
