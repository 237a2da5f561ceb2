//! What segments promise, on random histories.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Commit, PAGE_SIZE, decode, encode, events, header, history, log, squashed};
use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{
    EncodeError, InvalidHeader, MAX_FRAME_BYTES, MergeError, SegmentDecoder, SegmentEncoder, SegmentError,
    SegmentEvent, SegmentFooter, SegmentHeader, SegmentIndex, SegmentKind, concat, squash,
};

/// Cuts a byte string into pieces of the given sizes, again and again.
fn cut(whole: &[u8], sizes: &[usize]) -> Vec<Bytes> {
    let mut whole = Bytes::copy_from_slice(whole);
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !whole.is_empty() {
        pieces.push(whole.split_to(whole.len().min(*sizes.next().unwrap())));
    }
    pieces
}

/// Cuts a history into segments of at most `len` transactions.
fn segments(first: u64, commits: &[Commit], len: usize) -> Vec<Vec<Bytes>> {
    let mut before = 7;
    let mut next = first;
    commits
        .chunks(len)
        .map(|part| {
            let (pieces, summary) = log(next, before, part);
            (before, next) = (summary.checksum_after.0, next + part.len() as u64);
            pieces
        })
        .collect()
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_however_it_is_cut(
        commits in history(1..12), first in 1..u64::MAX / 2, before: u64,
        sizes in prop_oneof![prop::collection::vec(1..40_usize, 1..5), prop::collection::vec(1..70_000_usize, 1..5)],
    ) {
        let (pieces, summary) = log(first, before, &commits);
        let whole = pieces.concat();
        prop_assert_eq!(whole.len() as u64, summary.bytes);
        let mut expected = vec![SegmentEvent::Header(header(SegmentKind::Log, first, commits.len(), before))];
        expected.extend(events(first, &commits));
        expected.push(SegmentEvent::End(summary));
        prop_assert_eq!(decode(cut(&whole, &sizes)).unwrap(), expected);
        prop_assert_eq!(summary.page_count, commits.last().unwrap().page_count);
        prop_assert_eq!(summary.checksum_after.0, commits.last().unwrap().checksum);
        prop_assert_eq!(summary.first_commit_time_ms, commits[0].time);
        prop_assert_eq!(summary.last_commit_time_ms, commits.last().unwrap().time);
        prop_assert_eq!(summary.transactions, commits.len() as u64);
        prop_assert_eq!(summary.pages, commits.iter().map(|commit| commit.pages.len() as u64).sum::<u64>());
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(decode([bytes.clone().into()]).is_err());
        prop_assert!(SegmentIndex::parse(&bytes).is_err());
        prop_assert!(concat([vec![bytes.clone().into()]]).is_err());
        prop_assert!(squash([vec![bytes.into()]]).is_err());
    }

    #[test]
    fn any_mutation_is_refused(
        commits in history(1..4), changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let whole = log(1, 7, &commits).0.concat();
        let mut mutated = whole.clone();
        for (at, change) in changes {
            mutated[at.index(whole.len())] ^= change;
        }
        prop_assume!(mutated != whole);
        prop_assert!(decode([mutated.clone().into()]).is_err());
        prop_assert!(concat([vec![mutated.clone().into()]]).is_err());
        // Sees the tail alone: must not panic.
        let _ = SegmentIndex::parse(&mutated);
    }

    // Damage that carries right checksums: what a faulty or malicious writer could make.
    #[test]
    fn forged_parts_give_an_error_and_no_panic(
        commits in history(1..4), at: prop::sample::Index, from_end in prop_oneof![Just(usize::MAX), 1..300_usize], change in 1..=255_u8,
    ) {
        let (pieces, summary) = log(1, 7, &commits);
        let mut forged = pieces.concat();
        let at = forged.len().checked_sub(from_end).unwrap_or(at.index(forged.len()));
        forged[at] ^= change;
        repair_checksums(&mut forged, summary.bytes as usize);
        let whole = pieces.concat();
        let tables = whole.len() - SegmentFooter::parse(whole.last_chunk().unwrap()).unwrap().tail_len() as usize;
        let read = decode([forged.clone().into()]);
        if at < tables {
            // Only what no other part repeats may differ unseen: a page's bytes.
            let pages = read.unwrap_or_default().into_iter().filter(|event| matches!(event, SegmentEvent::Page { .. }));
            prop_assert!([0, summary.pages as usize].contains(&pages.count()));
        } else if forged != whole {
            prop_assert!(read.is_err(), "byte {} of the tables from {} on", at, tables);
            // Joining looks into no frame, but what comes out is no more acceptable than what went in.
            let joined = concat([vec![forged.clone().into()]]).map(|(joined, _)| decode(joined));
            prop_assert!(!matches!(joined, Ok(Ok(_))), "joined: byte {}", at);
            // The index sees the tables agree with the footer, but not the header, which the footer repeats.
            let footer = whole.len() - SegmentFooter::LEN;
            if at >= footer + 40 {
                prop_assert!(SegmentIndex::parse(&forged).is_err(), "index: byte {}", at);
            }
        }
        let _ = SegmentIndex::parse(&forged);
        let _ = concat([vec![forged.clone().into()]]);
        let _ = squash([vec![forged.into()]]);
    }

    #[test]
    fn joined_segments_hold_every_transaction(commits in history(1..12), len in 1..5_usize, first in 1..1000_u64) {
        let (joined, summary) = concat(segments(first, &commits, len)).unwrap();
        prop_assert_eq!(joined.iter().map(|piece| piece.len() as u64).sum::<u64>(), summary.bytes);
        let mut expected = vec![SegmentEvent::Header(header(SegmentKind::Log, first, commits.len(), 7))];
        expected.extend(events(first, &commits));
        expected.push(SegmentEvent::End(summary));
        prop_assert_eq!(decode(joined.clone()).unwrap(), expected);
        // Joining in other groups gives the same bytes.
        let parts = segments(first, &commits, len);
        let (left, right) = parts.split_at(parts.len() / 2);
        let halves = [left, right].into_iter().filter(|half| !half.is_empty());
        let regrouped = concat(halves.map(|half| concat(half.iter().cloned()).unwrap().0)).unwrap().0;
        prop_assert_eq!(regrouped.concat(), joined.concat());
    }

    #[test]
    fn squashed_segments_hold_the_last_version_of_each_page(commits in history(1..12), len in 1..5_usize) {
        let (pieces, summary) = squash(segments(5, &commits, len)).unwrap();
        prop_assert_eq!(summary.header, header(SegmentKind::Squashed, 5, commits.len(), 7));
        let last = commits.last().unwrap();
        prop_assert_eq!((summary.page_count, summary.checksum_after.0), (last.page_count, last.checksum));
        prop_assert_eq!((summary.transactions, summary.last_commit_time_ms), (1, last.time));
        let mut pages = Vec::new();
        for event in decode(pieces.clone()).unwrap() {
            if let SegmentEvent::Page { txid, page, bytes } = event {
                prop_assert_eq!(txid, summary.header.last);
                pages.push((page.0, bytes.to_vec()));
            }
        }
        prop_assert_eq!(pages, squashed(&commits).into_iter().collect::<Vec<_>>());
        // Squashing in steps gives the same.
        let parts = segments(5, &commits, len);
        let (left, right) = parts.split_at(parts.len() / 2);
        let halves = [left, right].into_iter().filter(|half| !half.is_empty());
        let (again, _) = squash(halves.map(|half| squash(half.iter().cloned()).unwrap().0)).unwrap();
        let changes = |pieces| {
            let pages = decode(pieces).unwrap().into_iter().filter(|event| matches!(event, SegmentEvent::Page { .. }));
            pages.collect::<Vec<_>>()
        };
        if !shrinks_and_grows(&commits) {
            prop_assert_eq!(changes(again), changes(pieces));
        }
    }

    #[test]
    fn the_index_finds_each_version_of_each_page(commits in history(1..8), spare in 0..100_usize) {
        let (pieces, summary) = log(10, 7, &commits);
        let whole = Bytes::from(pieces.concat());
        let footer = SegmentFooter::parse(whole.last_chunk().unwrap()).unwrap();
        prop_assert_eq!(footer.summary, summary);
        let start = whole.len() - footer.tail_len() as usize;
        let index = SegmentIndex::parse(&whole[start.saturating_sub(spare)..]).unwrap();
        prop_assert_eq!(index.frames().map(|frame| u64::from(frame.len)).sum::<u64>(), start as u64 - SegmentHeader::LEN as u64);
        prop_assert_eq!(index.transactions().len(), commits.len());
        let highest = commits.iter().map(|commit| commit.page_count).max().unwrap();
        for as_of in 0..=commits.len() {
            let expected = squashed(&commits[..as_of]);
            for page in 1..=highest + 1 {
                let location = index.locate(PageNumber(page), Txid(9 + as_of as u64));
                let found = location.map(|location| {
                    let frame = location.frame.offset as usize..location.frame.offset as usize + location.frame.len as usize;
                    index.page(&location, &whole.slice(frame)).unwrap().to_vec()
                });
                prop_assert_eq!(found.as_ref(), expected.get(&page));
            }
        }
        if start > 0 {
            prop_assert!(SegmentIndex::parse(&whole[start + 1..]).is_err());
        }
    }
}

fn shrinks_and_grows(commits: &[Commit]) -> bool {
    commits.windows(2).any(|pair| pair[1].page_count < pair[0].page_count)
}

/// Makes the checksums of a damaged segment right again, as far as its lengths can be followed.
fn repair_checksums(bytes: &mut [u8], len: usize) {
    let seal = |bytes: &mut [u8], start: usize, end: usize| {
        if start <= end && end + 4 <= bytes.len() {
            let crc = crc32c::crc32c(&bytes[start..end]);
            bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        }
    };
    seal(bytes, 0, SegmentHeader::LEN - 4);
    let mut at = SegmentHeader::LEN;
    while at + 9 <= bytes.len() {
        let number = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap());
        let content = match bytes[at] {
            1 => number >> 32,
            2 | 3 => number,
            _ => break,
        };
        let Ok(content) = usize::try_from(content) else { break };
        if content > bytes.len() {
            break;
        }
        seal(bytes, at, at + 9 + content);
        at += 9 + content + 4;
    }
    let footer = len - SegmentFooter::LEN;
    let crc = crc32c::crc32c(&bytes[..footer]);
    bytes[footer + 68..footer + 72].copy_from_slice(&crc.to_le_bytes());
    seal(bytes, footer, len - 8);
}

fn small() -> (Vec<u8>, Vec<Commit>) {
    let page = |byte| vec![byte; PAGE_SIZE as usize];
    let commits = vec![
        Commit {
            page_count: 3,
            time: 1000,
            checksum: 11,
            pages: vec![(1, page(1)), (2, common::noise(2)), (3, page(3))],
        },
        Commit { page_count: 2, time: 1000, checksum: 12, pages: vec![(1, page(4))] },
    ];
    (log(1, 0, &commits).0.concat(), commits)
}

#[test]
fn every_flipped_bit_is_refused() {
    let (whole, _) = small();
    assert!(decode([whole.clone().into()]).is_ok());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode([flipped.clone().into()]).is_err(), "byte {at} bit {bit}");
            assert!(concat([vec![flipped.clone().into()]]).is_err(), "concat, byte {at} bit {bit}");
            let tail_len = SegmentFooter::parse(whole.last_chunk().unwrap()).unwrap().tail_len() as usize;
            if at >= whole.len() - tail_len {
                assert!(SegmentIndex::parse(&flipped).is_err(), "index, byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn damage_shows_where_it_is_before_anything_is_read_from_it() {
    let whole = small().0;
    let tail_len = SegmentFooter::parse(whole.last_chunk().unwrap()).unwrap().tail_len() as usize;
    let index = SegmentIndex::parse(&whole).unwrap();
    let tables = whole.len() - tail_len;
    let frame = "a frame's CRC32C does not match";
    let table = "a table's CRC32C does not match";
    let cases = [(SegmentHeader::LEN + 20, SegmentHeader::LEN, frame), (tables + 10, tables, table)];
    for (at, start, what) in cases {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let expected = SegmentError::Damaged { offset: start as u64, what };
        let mut decoder = SegmentDecoder::new();
        decoder.push(damaged.clone().into());
        if what == frame {
            assert!(matches!(decoder.next(), Ok(Some(SegmentEvent::Header(_)))));
            assert_eq!(decoder.next(), Err(expected.clone()));
            let location = index.locate(PageNumber(1), Txid(1)).unwrap();
            let bytes = Bytes::from(damaged).slice(start..start + location.frame.len as usize);
            assert_eq!(index.page(&location, &bytes), Err(expected));
        } else {
            assert_eq!(decoder.finish(), Err(expected));
        }
    }
}

#[test]
fn a_header_that_the_footer_does_not_repeat_is_refused() {
    let mut forged = small().0;
    forged[16] = 9;
    let length = forged.len();
    repair_checksums(&mut forged, length);
    let forged = Bytes::from(forged);
    assert!(matches!(decode([forged.clone()]), Err(SegmentError::Inconsistent { .. })));
    let cause = |result| match result {
        Err(MergeError::Segment { number: 0, cause: SegmentError::Inconsistent { what, .. }, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(concat([vec![forged]]).map(|_| ())), "header and footer state different things");
}

#[test]
fn every_truncation_and_every_byte_too_many_is_refused() {
    let (whole, _) = small();
    for end in 0..whole.len() {
        let cut_off = Bytes::copy_from_slice(&whole[..end]);
        assert_eq!(decode([cut_off.clone()]), Err(SegmentError::Truncated { bytes: end as u64 }));
        assert!(concat([vec![cut_off.clone()]]).is_err(), "{end}");
        assert!(SegmentIndex::parse(&cut_off).is_err(), "{end}");
    }
    let bytes = whole.len() as u64;
    for more in [&b"\0"[..], b"\x01", &whole] {
        let longer = Bytes::from([&whole, more].concat());
        assert_eq!(decode([longer.clone()]), Err(SegmentError::TrailingBytes { bytes }));
        assert!(concat([vec![longer]]).is_err());
    }
}

#[test]
fn an_error_stays() {
    let mut decoder = SegmentDecoder::new();
    decoder.push(vec![1; 100].into());
    assert_eq!(decoder.next(), Err(SegmentError::NotASegment));
    decoder.push(small().0.into());
    assert_eq!(decoder.next(), Err(SegmentError::NotASegment));
    assert_eq!(decoder.finish(), Err(SegmentError::NotASegment));
}

#[test]
fn names_a_later_version() {
    let mut whole = small().0;
    whole[8] = 2;
    assert_eq!(decode([whole.into()]), Err(SegmentError::UnknownVersion { found: 2 }));
}

#[test]
fn refuses_lengths_that_the_format_does_not_allow_before_reading_on() {
    let (whole, _) = small();
    for (content, stored) in [(u32::MAX, 10_u32), (MAX_FRAME_BYTES as u32 + 1, 10), (10, 11), (10, 0), (0, 0)] {
        let mut forged = whole[..SegmentHeader::LEN].to_vec();
        forged.push(1);
        forged.extend(content.to_le_bytes());
        forged.extend(stored.to_le_bytes());
        let mut decoder = SegmentDecoder::new();
        decoder.push(forged.into());
        assert!(matches!(decoder.next(), Ok(Some(SegmentEvent::Header(_)))));
        let what = "a frame's lengths are out of bounds";
        assert_eq!(decoder.next(), Err(SegmentError::Damaged { offset: SegmentHeader::LEN as u64, what }));
    }
}

#[test]
fn a_page_of_a_commit_makes_a_small_segment_in_one_piece() {
    let header = SegmentHeader { page_size: PageSize::new(4096).unwrap(), ..header(SegmentKind::Log, 1, 1, 0) };
    let mut encoder = SegmentEncoder::new(header);
    encoder.page(PageNumber(70_000), &[5; 4096]).unwrap();
    encoder.commit(100_000, 1_700_000_000_000, Checksum(u64::MAX / 3)).unwrap();
    let (pieces, summary) = encoder.finish().unwrap();
    assert_eq!(pieces.len(), 1);
    assert!(summary.bytes < 330, "{}", summary.bytes);
}

#[test]
fn every_page_size_fits_its_frames() {
    for shift in 9..=16 {
        let page_size = PageSize::new(1 << shift).unwrap();
        let header = SegmentHeader { page_size, ..header(SegmentKind::Log, 1, 1, 0) };
        let mut encoder = SegmentEncoder::new(header);
        let pages = (3 * MAX_FRAME_BYTES as u32) >> shift;
        for page in 1..=pages {
            let noise: Vec<u8> = (0..page_size.bytes()).map(|i| (i.wrapping_mul(page) >> 3) as u8).collect();
            encoder.page(PageNumber(page), &noise).unwrap();
        }
        encoder.commit(pages, 0, Checksum(1)).unwrap();
        let (pieces, summary) = encoder.finish().unwrap();
        assert!(summary.frames > 3);
        assert_eq!(decode(pieces).unwrap().len(), pages as usize + 3);
    }
}

#[test]
fn memory_stays_bounded_while_a_large_transaction_streams() {
    let pages = 20_000;
    let mut encoder = SegmentEncoder::new(header(SegmentKind::Log, 1, 1, 0));
    let mut decoder = SegmentDecoder::new();
    let mut seen = 0;
    let mut drain = |pieces: Vec<Bytes>, decoder: &mut SegmentDecoder| {
        let taken = pieces.iter().map(Bytes::len).sum::<usize>();
        assert!(taken <= 2 * MAX_FRAME_BYTES, "{taken}");
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next().unwrap() {
                seen += usize::from(matches!(event, SegmentEvent::Page { .. }));
            }
        }
    };
    for page in 1..=pages {
        encoder.page(PageNumber(page), &common::noise(page.into())).unwrap();
        drain(encoder.take(), &mut decoder);
    }
    encoder.commit(pages, 0, Checksum(1)).unwrap();
    let (rest, summary) = encoder.finish().unwrap();
    drain(rest, &mut decoder);
    assert_eq!(decoder.finish().unwrap(), summary);
    assert_eq!(seen, pages as usize);
}

#[test]
fn the_encoder_refuses_what_breaks_a_rule() {
    let page = [0; PAGE_SIZE as usize];
    let new = |kind, first, transactions| SegmentEncoder::new(header(kind, first, transactions, 0));
    let (log, txid) = (SegmentKind::Log, Txid(1));

    assert_eq!(new(log, 1, 1).page(PageNumber(0), &page), Err(EncodeError::PageZero { txid }));
    let lock_page = PageSize::new(PAGE_SIZE).unwrap().lock_page();
    assert_eq!(new(log, 1, 1).page(lock_page, &page), Err(EncodeError::LockPage { txid, page: lock_page }));
    for beside in [lock_page.0 - 1, lock_page.0 + 1] {
        assert_eq!(new(log, 1, 1).page(PageNumber(beside), &page), Ok(()));
    }
    let found = 511;
    assert_eq!(
        new(log, 1, 1).page(PageNumber(1), &page[1..]),
        Err(EncodeError::PageLength { txid, page: PageNumber(1), expected: PAGE_SIZE, found })
    );

    let mut encoder = new(log, 1, 2);
    encoder.page(PageNumber(5), &page).unwrap();
    let beyond = EncodeError::PageBeyondEnd { txid, page: PageNumber(5), page_count: 4 };
    assert_eq!(encoder.commit(4, 0, Checksum(1)), Err(beyond));
    assert_eq!(encoder.commit(5, 10, Checksum(1)), Ok(()));
    let earlier = EncodeError::CommitTimeDecreases { txid: Txid(2), time_ms: 9, previous_ms: 10 };
    assert_eq!(encoder.commit(5, 9, Checksum(1)), Err(earlier));
    assert_eq!(encoder.commit(5, 10, Checksum(1)), Ok(()));
    let too_many = Err(EncodeError::TooManyTransactions { last: Txid(2) });
    assert_eq!(encoder.commit(5, 10, Checksum(1)), too_many);
    assert_eq!(encoder.page(PageNumber(1), &page), too_many);

    let mut encoder = new(log, 1, 2);
    encoder.commit(5, 10, Checksum(1)).unwrap();
    let missing = EncodeError::MissingTransactions { next: Txid(2), last: Txid(2) };
    assert_eq!(encoder.finish().map(|_| ()), Err(missing));

    for (kind, first, transactions) in [(log, 0, 1), (SegmentKind::Resync, 1, 2), (log, 2, 0), (log, u64::MAX, 1)] {
        let refused = new(kind, first, transactions).finish().map(|_| ());
        assert!(matches!(refused, Err(EncodeError::Header(_))), "{refused:?}");
    }
    let no_lineage = SegmentHeader { lineage: Lineage(0), ..header(log, 1, 1, 0) };
    let refused = SegmentEncoder::new(no_lineage).commit(1, 0, Checksum(0));
    assert_eq!(refused, Err(EncodeError::Header(InvalidHeader::LineageZero)));
}

/// A segment of one frame with the records given, the tables and the footer as if they were good.
fn forge(header: SegmentHeader, records: &[u8]) -> Bytes {
    let mut out = header.encode().to_vec();
    let start = out.len();
    out.push(1);
    out.extend((records.len() as u32).to_le_bytes());
    out.extend((records.len() as u32).to_le_bytes());
    out.extend(records);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend(crc.to_le_bytes());
    out.into()
}

fn page_record(page: u32) -> Vec<u8> {
    [&[1][..], &page.to_le_bytes(), &[0; PAGE_SIZE as usize]].concat()
}

fn commit_record(flags: u8, page_count: u32, pages: u32, time: i64) -> Vec<u8> {
    [&[2, flags][..], &page_count.to_le_bytes(), &pages.to_le_bytes(), &time.to_le_bytes(), &[9; 8]].concat()
}

#[test]
fn the_decoder_refuses_intact_segments_that_break_a_rule() {
    let offset = SegmentHeader::LEN as u64;
    let txid = Txid(1);
    let lock_page = PageSize::new(PAGE_SIZE).unwrap().lock_page();
    let two = header(SegmentKind::Log, 1, 2, 0);
    let rule = |rule| SegmentError::Rule { offset, rule };
    let inconsistent = |what| SegmentError::Inconsistent { offset, what };
    let kind = |kind| rule(EncodeError::Kind { txid, kind });
    let cases = [
        (two, page_record(0), rule(EncodeError::PageZero { txid })),
        (two, page_record(lock_page.0), rule(EncodeError::LockPage { txid, page: lock_page })),
        (
            two,
            [page_record(3), commit_record(0, 2, 1, 0)].concat(),
            rule(EncodeError::PageBeyondEnd { txid, page: PageNumber(3), page_count: 2 }),
        ),
        (
            two,
            [page_record(1), commit_record(0, 2, 2, 0)].concat(),
            rule(EncodeError::PagesMiscounted { txid, stated: 2, found: 1 }),
        ),
        (
            two,
            [commit_record(0, 2, 0, 5), commit_record(0, 2, 0, 4)].concat(),
            rule(EncodeError::CommitTimeDecreases { txid: Txid(2), time_ms: 4, previous_ms: 5 }),
        ),
        (two, commit_record(0, 1, 0, 0).repeat(3), rule(EncodeError::TooManyTransactions { last: Txid(2) })),
        (
            two,
            [commit_record(0, 1, 0, 0).repeat(2), page_record(1)].concat(),
            rule(EncodeError::TooManyTransactions { last: Txid(2) }),
        ),
        (two, commit_record(2, 1, 0, 0), inconsistent("a commit has unknown flags")),
        (two, vec![3; 30], inconsistent("a record is neither a page nor a commit")),
        (two, page_record(1)[..400].to_vec(), inconsistent("a frame ends within a record")),
        (header(SegmentKind::Resync, 1, 1, 0), commit_record(0, 1, 0, 0), kind(SegmentKind::Resync)),
        (header(SegmentKind::Squashed, 1, 1, 0), commit_record(1, 1, 0, 0), kind(SegmentKind::Squashed)),
    ];
    for (header, records, expected) in cases {
        assert_eq!(decode([forge(header, &records)]), Err(expected));
    }
    let unfinished = [&forge(two, &commit_record(0, 1, 0, 0))[..], &[2; 9]].concat();
    let rule = EncodeError::MissingTransactions { next: Txid(2), last: Txid(2) };
    let offset = unfinished.len() as u64 - 9;
    assert_eq!(decode([unfinished.into()]), Err(SegmentError::Rule { offset, rule }));
}

#[test]
fn joining_keeps_the_mark_of_a_resync() {
    let commits = small().1;
    let before = log(1, 0, &commits[..1]).0;
    let resync = encode(header(SegmentKind::Resync, 2, 1, 11), &commits[1..]).0;
    assert_eq!(concat([resync.clone()]).unwrap().0.concat(), resync.concat());
    let (joined, summary) = concat([before, resync]).unwrap();
    assert_eq!(summary.header.kind, SegmentKind::Log);
    let marks: Vec<bool> = decode(joined)
        .unwrap()
        .into_iter()
        .filter_map(|event| if let SegmentEvent::Commit(transaction) = event { Some(transaction.resync) } else { None })
        .collect();
    assert_eq!(marks, [false, true]);
}

#[test]
fn segments_that_do_not_continue_one_another_are_not_merged() {
    let commits = small().1;
    let first = log(1, 0, &commits[..1]).0;
    let second = |change: fn(&mut SegmentHeader), time| {
        let mut header = header(SegmentKind::Log, 2, 1, 11);
        change(&mut header);
        let page = vec![0; header.page_size.bytes() as usize];
        encode(header, &[Commit { page_count: 2, time, checksum: 12, pages: vec![(1, page)] }]).0
    };
    let page_size = |bytes| PageSize::new(bytes).unwrap();
    let cases = [
        (
            second(|header| header.lineage = Lineage(4), 1000),
            MergeError::Lineage { expected: Lineage(3), found: Lineage(4) },
        ),
        (
            second(|header| (header.first, header.last) = (Txid(3), Txid(3)), 1000),
            MergeError::NotAdjacent { last: Txid(1), first: Txid(3) },
        ),
        (first.clone(), MergeError::NotAdjacent { last: Txid(1), first: Txid(1) }),
        (
            second(|header| header.checksum_before = Checksum(10), 1000),
            MergeError::Checksum { txid: Txid(1), expected: Checksum(11), found: Checksum(10) },
        ),
        (
            second(|header| header.page_size = PageSize::new(1024).unwrap(), 1000),
            MergeError::PageSizeChanges { expected: page_size(512), found: page_size(1024), first: Txid(2) },
        ),
        (second(|_| {}, 999), MergeError::CommitTimeDecreases { last: Txid(1), first: Txid(2) }),
    ];
    for (second, expected) in cases {
        assert_eq!(concat([first.clone(), second.clone()]).map(|_| ()), Err(expected.clone()));
        assert_eq!(squash([first.clone(), second]).map(|_| ()), Err(expected));
    }
    assert!(concat([first.clone(), second(|_| {}, 1000)]).is_ok());

    let squashed = second(|header| header.kind = SegmentKind::Squashed, 1000);
    let refused = MergeError::Squashed { first: Txid(2), last: Txid(2) };
    assert_eq!(concat([first.clone(), squashed.clone()]).map(|_| ()), Err(refused));
    assert!(squash([first, squashed]).is_ok());
    assert_eq!(concat([]).map(|_| ()), Err(MergeError::NoSegments));
    assert_eq!(squash([]).map(|_| ()), Err(MergeError::NoSegments));
}

#[test]
fn encoder_and_decoder_move_between_threads() {
    fn assert_send<T: Send + 'static>() {}
    assert_send::<SegmentEncoder>();
    assert_send::<SegmentDecoder>();
    assert_send::<SegmentIndex>();
}
