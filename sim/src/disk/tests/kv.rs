//! Properties of the ordered map on a simulated disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use seawall_node::store::kv::{KvError, OrderedKv};

use super::{disk, now, outcomes, path, sync_names};
use crate::disk::{Crash, SimDisk, SimKv};

fn open_kv(disk: &SimDisk) -> Result<Arc<dyn OrderedKv>, KvError> {
    let opener = SimKv::opener(disk);
    loop {
        match now(opener(path("kv"))) {
            Err(KvError::Held { .. }) => {}
            opened => return opened,
        }
    }
}

fn pair(key: u8, value: Option<u8>) -> (Bytes, Option<Bytes>) {
    (Bytes::from(vec![key]), value.map(|value| Bytes::from(vec![value])))
}

fn all(kv: &Arc<dyn OrderedKv>) -> BTreeMap<u8, u8> {
    let pairs = kv.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap();
    pairs.iter().map(|(key, value)| (key[0], value[0])).collect()
}

#[test]
fn maps_survive_a_checkpoint() {
    for seed in 0..50 {
        let disk = disk(seed);
        let kv = open_kv(&disk).unwrap();
        now(kv.apply(vec![pair(1, Some(1)), pair(2, Some(2))])).unwrap();
        now(kv.apply(vec![pair(1, None), pair(3, Some(3))])).unwrap();
        now(kv.checkpoint()).unwrap();
        sync_names(&disk);
        let opener = SimKv::opener(&disk);
        assert!(matches!(now(opener(path("kv"))), Err(KvError::Held { .. })));
        drop(kv);
        disk.crash(Crash::Power);
        let kv = open_kv(&disk).unwrap();
        assert_eq!(all(&kv), BTreeMap::from([(2, 2), (3, 3)]));
        assert_eq!(kv.get(&[2]).unwrap().as_deref(), Some(&[2][..]));
        assert_eq!(kv.last(&[0], &[2]).unwrap().unwrap().0, vec![2]);
        assert_eq!(kv.last(&[4], &[2]).unwrap(), None);
        assert_eq!(kv.scan(Bound::Excluded(&[2]), Bound::Included(&[2]), 9).unwrap(), []);
        assert_eq!(kv.scan(Bound::Excluded(&[2]), Bound::Included(&[3]), 9).unwrap().len(), 1);
    }
}

#[test]
fn maps_tell_anything_after_an_unclean_stop() {
    for crash in [Crash::Process, Crash::Power] {
        let counts = outcomes(|seed| {
            let disk = disk(seed);
            let kv = open_kv(&disk).unwrap();
            now(kv.apply(vec![pair(1, Some(1))])).unwrap();
            now(kv.checkpoint()).unwrap();
            sync_names(&disk);
            for key in 2..30 {
                now(kv.apply(vec![pair(key, Some(key))])).unwrap();
            }
            drop(kv);
            disk.crash(crash);
            match open_kv(&disk) {
                Err(KvError::Damaged { .. }) => "damaged",
                Err(error) => panic!("{error}"),
                Ok(kv) => match all(&kv).len() {
                    1 => "none",
                    29 => "all",
                    _ => "some",
                },
            }
        });
        assert_eq!(counts.len(), 4, "{crash:?}: {counts:?}");
    }
}

#[test]
fn rotten_maps_are_found_damaged_or_short() {
    let counts = outcomes(|seed| {
        let disk = disk(seed);
        let kv = open_kv(&disk).unwrap();
        (0..100).for_each(|key| now(kv.apply(vec![pair(key, Some(key))])).unwrap());
        now(kv.checkpoint()).unwrap();
        drop(kv);
        disk.rot_one(|path, len| if path.ends_with("db") { len } else { 0 }).unwrap();
        match open_kv(&disk) {
            Err(KvError::Damaged { .. }) => "damaged",
            Err(error) => panic!("{error}"),
            Ok(kv) => {
                assert!(all(&kv).iter().all(|(key, value)| key == value));
                "short"
            }
        }
    });
    assert_eq!(counts.len(), 2, "{counts:?}");
}
