//! Applications in a world without a cluster.

use std::collections::BTreeSet;

use seawall_host::time::sleep;

use super::*;
use crate::application::history::State;
use crate::application::sqlite::SeededSqlite;
use crate::world::{SimWorld, WorldOptions};

/// Runs `script` with an application of two databases; gives its result and the hash of the whole run.
fn with_application<T, F>(
    seed: u64,
    disruptive: bool,
    script: impl FnOnce(Arc<Application>) -> F + Send + 'static,
) -> (T, u64)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let _sqlite = SeededSqlite::new(seed);
    let directory = TemporaryDirectory::new().unwrap();
    let world = SimWorld::new(seed, WorldOptions::default());
    let within = Arc::clone(&world);
    let result = world.run(async move {
        let machine = within.add_machine("s1");
        let databases = vec!["app".parse().unwrap(), "tenants/acme".parse().unwrap()];
        let application = Application::new(machine, &directory, &ApplicationOptions { databases, disruptive });
        let application = Arc::new(application.unwrap());
        let result = script(Arc::clone(&application)).await;
        // The tasks must be gone before the directory is.
        within.kill(machine, true);
        drop(directory);
        result
    });
    (result.unwrap(), world.hash())
}

fn states(application: &Application) -> Vec<Vec<State>> {
    application.sources().iter().map(|source| source.with_history(|history| history.states().to_vec())).collect()
}

fn on_disk(source: &Source) -> Content {
    Content::read(&sqlite::open(source.path()).unwrap()).unwrap()
}

fn newest(source: &Source) -> State {
    source.with_history(|history| *history.newest().unwrap().1)
}

async fn minute(application: Arc<Application>) -> Vec<Vec<State>> {
    application.start();
    sleep(Duration::from_secs(60)).await;
    application.stop().await;
    assert!(!application.is_running());
    for source in application.sources() {
        assert_eq!(on_disk(source), newest(source).content);
    }
    states(&application)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..4 {
        let first = with_application(seed, true, minute);
        assert!(
            first.0.iter().all(|states| states.len() > 100),
            "{:?}",
            first.0.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert_eq!(first, with_application(seed, true, minute));
        assert_ne!(first.1, with_application(seed + 100, true, minute).1);
    }
}

#[test]
fn databases_stay_small_but_grow_and_shrink() {
    let mut shrunk = 0;
    for seed in 0..6 {
        for states in with_application(seed, true, minute).0 {
            let pages = || states.iter().map(|state| state.content.page_count);
            assert!(pages().max() < Some(700), "{:?}", pages().max());
            shrunk += pages().zip(pages().skip(1)).filter(|(before, after)| after < before).count();
        }
    }
    assert!(shrunk > 10, "{shrunk}");
}

#[test]
fn every_death_leaves_a_true_state() {
    let mut lost = 0;
    let mut replaced = 0;
    let mut rebuilt = BTreeSet::new();
    for seed in 0..12 {
        let (outcome, _) = with_application(seed, true, |application| async move {
            let world = world::current();
            let mut lost = 0;
            let mut replaced = 0;
            let mut rebuilt = BTreeSet::new();
            for round in 0..20 {
                application.start();
                sleep(Duration::from_millis(1500)).await;
                match round % 5 {
                    0 => application.stop().await,
                    1 => application.kill().await,
                    2 => {
                        application.machine_dies(MachineDeath::Reset).unwrap();
                        world.start(application.machine());
                    }
                    _ => {
                        let before = states(&application);
                        application.machine_dies(MachineDeath::PowerLoss).unwrap();
                        world.start(application.machine());
                        lost += states(&application).iter().zip(&before).filter(|(a, b)| a.len() > b.len()).count();
                    }
                }
                assert!(!application.is_running());
                for source in application.sources() {
                    assert_eq!(on_disk(source), newest(source).content, "round {round}");
                }
                let source = &application.sources()[round % 2];
                match round {
                    7 | 8 => replaced += usize::from(application.replace_with_backup(source).unwrap()),
                    10 | 13 => {
                        assert!(application.change_page_size(source).unwrap());
                        rebuilt.insert(newest(source).content.page_size.bytes());
                    }
                    _ => {}
                }
                assert_eq!(on_disk(source), newest(source).content, "round {round}");
            }
            (lost, replaced, rebuilt)
        });
        lost += outcome.0;
        replaced += outcome.1;
        rebuilt.extend(outcome.2);
    }
    assert!(lost > 5, "{lost}");
    assert!(replaced > 5, "{replaced}");
    assert!(rebuilt.len() >= 3, "{rebuilt:?}");
}

#[test]
fn a_paused_application_commits_nothing_but_what_it_is_told_to() {
    with_application(5, false, |application| async move {
        application.start();
        sleep(Duration::from_secs(5)).await;
        application.pause();
        // Transactions under way end first.
        sleep(Duration::from_secs(1)).await;
        let before = application.commits();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(application.commits(), before);
        let source = Arc::clone(&application.sources()[1]);
        let number = application.write_once(&source).await.unwrap();
        assert_eq!(source.with_history(|history| history.newest().unwrap().0), number);
        assert_eq!(application.commits(), before + 1);
        application.resume();
        sleep(Duration::from_secs(5)).await;
        assert!(application.commits() > before + 1);
    });
}

#[test]
fn an_operator_does_not_touch_the_database_of_a_running_application() {
    with_application(6, false, |application| async move {
        application.start();
        let source = Arc::clone(&application.sources()[0]);
        assert!(application.replace_with_backup(&source).is_err());
        assert!(application.change_page_size(&source).is_err());
    });
}
