//! Destinations in trouble.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{disks, draw, snapshots, strike, wait};
use crate::destination::PlaceFaults;
use crate::random::Random;
use crate::stage::Stage;

/// One destination after the other has some of the troubles of real stores for a while.
pub(super) async fn troubles(stage: Arc<Stage>) {
    loop {
        wait(500..6_000).await;
        let places = stage.cluster.places();
        let (place, trouble) = draw(|random| (random.index(places.len()), random.below(9)));
        let place = &places[place];
        let full_at = place.bytes();
        strike(&stage, "destination-trouble", || format!("{}, kind {trouble}", place.name()));
        place.change_faults(|faults| draw(|random| worsen(faults, trouble, full_at, random)));
        let range = draw(|random| if random.chance(0.2) { 10_000..40_000 } else { 500..8_000 });
        wait(range).await;
        place.change_faults(|faults| {
            let lying = faults.lying;
            *faults = PlaceFaults { lying, ..faults.healed() };
        });
    }
}

fn worsen(faults: &mut PlaceFaults, trouble: u64, full_at: u64, random: &mut Random) {
    let share = *random.pick(&[0.05, 0.3, 0.8]).unwrap_or(&0.3);
    // Whoever lists seldom lists while only listings are in trouble.
    if trouble > 4 {
        faults.stale_listings = share;
    }
    match trouble {
        0 => faults.gone = true,
        1 => faults.refuses = true,
        2 => faults.throttling = share / 4.0,
        3 => {
            faults.time_out_after = share;
            // Callers that are in a hurry try again while what they gave up on is still on its way.
            faults.time_out = Duration::from_millis(random.range(300..5_000));
            faults.late_creations = share / 2.0;
            // Who tries again meets the creation that is still on its way.
            faults.conflicts = share;
        }
        4 => faults.time_out_before = share,
        5 => faults.broken_uploads = share,
        6 => faults.conflicts = share / 4.0,
        7 => {
            // What a caller has given up on comes all the same, and later: whoever tries again meets it on its way.
            faults.late_creations = 0.5;
            faults.conflicts = 1.0;
            faults.time_out = Duration::from_millis(random.range(200..1_500));
            faults.latest_creation = Duration::from_secs(random.range(2..20));
        }
        _ => {
            faults.capacity = Some(full_at + random.below(64 << 10));
            faults.bytes_per_second = Some(random.range(4 << 10..256 << 10));
            faults.delay = Duration::from_millis(5)..Duration::from_millis(random.range(10..2_000));
        }
    }
}

/// Destinations that are away, or slower than what is written, for longer than their share of the disk lasts; now and
/// then disks are short of room, or an agent dies in the midst of a transaction and stays away.
pub(super) async fn strain_budgets(stage: Arc<Stage>) {
    if stage.configuration.is_about_destinations() {
        let index = draw(|random| random.index(stage.cluster.places().len()));
        // Every upload takes as long as one may.
        strain(&stage, index, Some(draw(|random| random.range(10..120))), 40_000..55_000).await;
    }
    loop {
        wait(500..4_000).await;
        match draw(|random| random.below(10)) {
            0..3 => {
                disks::starve(&stage).await;
                continue;
            }
            3..6 => {
                // For longer than the parts of its transaction are kept.
                if let Some(host) = snapshots::leave_open(&stage).await {
                    wait(11_000..13_000).await;
                    host.start_agent(true);
                }
                continue;
            }
            _ => {}
        }
        let index = draw(|random| random.index(stage.cluster.places().len()));
        // The slower ones take a minute for a small window.
        let speed = draw(|random| if random.chance(0.5) { random.range(40..400) } else { random.range(500..16 << 10) });
        let is_gone = draw(|random| random.chance(0.4));
        strain(&stage, index, (!is_gone).then_some(speed), 8_000..50_000).await;
    }
}

/// A destination that takes in so many bytes a second, or is gone, for so many milliseconds.
async fn strain(stage: &Stage, index: usize, speed: Option<u64>, duration: Range<u64>) {
    let place = &stage.cluster.places()[index];
    strike(stage, "destination-absent", || {
        let how = speed.map_or_else(|| "gone".to_owned(), |speed| format!("{speed} bytes a second"));
        format!("{}, {how}", place.name())
    });
    place.change_faults(|faults| {
        faults.gone = speed.is_none();
        faults.bytes_per_second = speed;
    });
    wait(duration).await;
    place.change_faults(|faults| {
        faults.gone = false;
        faults.bytes_per_second = None;
    });
}

/// The last destination acknowledges objects and forgets or damages some of them. It is never the only one that counts.
pub(super) async fn lies(stage: Arc<Stage>) {
    wait(0..20_000).await;
    let places = stage.cluster.places();
    if places.len() < 2 {
        return;
    }
    let place = &places[places.len() - 1];
    strike(&stage, "lying-destination", || place.name().to_owned());
    stage.set_liar(places.len() - 1);
    place.change_faults(|faults| faults.lying = 0.2);
    loop {
        wait(1_000..10_000).await;
        if let Some(name) = place.corrupt_one() {
            strike(&stage, "object-damaged", || format!("{name} at {}", place.name()));
        }
    }
}

/// Destinations lose objects, or damage them, now and then; some of them the same one.
pub(super) async fn rot(stage: Arc<Stage>) {
    loop {
        wait(1_500..12_000).await;
        let places = stage.cluster.places();
        let (index, loses, everywhere) =
            draw(|random| (random.index(places.len()), random.chance(0.4), random.chance(0.3)));
        let place = &places[index];
        let name = if loses { place.lose_one() } else { place.corrupt_one() };
        let Some(name) = name else { continue };
        let what = if loses { "lost" } else { "damaged" };
        strike(&stage, "object-rotten", || format!("{name} at {}, {what}", place.name()));
        if everywhere {
            // Whatever takes its place must not be taken from there.
            for other in places.iter().filter(|other| other.name() != place.name()) {
                other.corrupt(&name);
            }
        }
    }
}
