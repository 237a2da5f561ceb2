use std::sync::atomic::{AtomicU64, Ordering};

use seawall_host::{task, time};

use super::*;

fn hash_of(seed: u64) -> (u64, u64) {
    let world = SimWorld::new(seed, WorldOptions::default());
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let main = async move {
        let machine = current().add_machine("a");
        for _ in 0..10 {
            let count = counted.clone();
            current().spawn_on(machine, async move {
                loop {
                    time::sleep(seawall_host::random::jitter(Duration::from_millis(10))).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    task::spawn(async {}).await.unwrap();
                }
            });
        }
        time::sleep(Duration::from_secs(1)).await;
        current().kill(machine, true);
        let then = counted.load(Ordering::Relaxed);
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counted.load(Ordering::Relaxed), then);
        then
    };
    (world.run(main).unwrap(), world.hash())
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_one_another() {
    assert_eq!(hash_of(7), hash_of(7));
    assert_ne!(hash_of(7).1, hash_of(8).1);
    assert!(hash_of(7).0 > 500);
}

#[test]
fn a_panic_of_a_task_is_a_violation_even_if_it_is_caught() {
    let world = SimWorld::new(1, WorldOptions::default());
    let violation = world.run(async {
        let machine = current().add_machine("a");
        current().spawn_on(machine, async {
            let _ = task::spawn(async { panic!("oh") }).await;
        });
        time::sleep(Duration::from_secs(1)).await;
    });
    let violation = violation.unwrap_err();
    assert_eq!(violation.property, "no task panics");
    assert!(violation.text.contains("oh"), "{violation}");
}

#[test]
fn a_program_that_halts_takes_its_tasks_along_and_is_reported() {
    let world = SimWorld::new(1, WorldOptions::default());
    let death = world.run(async {
        let machine = current().add_machine("a");
        current().spawn_on(machine, async {
            task::spawn(async { seawall_host::process::halt("enough") });
            futures::future::pending::<()>().await;
        });
        let death = current().next_death().await;
        assert!(!current().is_alive(machine));
        death.reason
    });
    assert_eq!(death.unwrap(), "enough");
}

#[test]
fn a_world_in_which_nothing_will_happen_is_a_violation() {
    let world = SimWorld::new(1, WorldOptions::default());
    let violation = world.run(futures::future::pending::<()>()).unwrap_err();
    assert_eq!(violation.property, "time goes on");
}
