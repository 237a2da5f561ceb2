//! The tasks of an application on one database: writers and long-lived readers.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use seawall_host::time::sleep;

use super::life::Life;
use super::profile::Action;
use super::source::Source;
use super::sqlite::{self, SourceError};
use super::transactions;
use crate::random::Random;
use crate::world;

/// A writer that finds the database locked tries again after a time in this range …
const RETRY: std::ops::Range<Duration> = Duration::from_micros(200)..Duration::from_millis(3);
/// … so often, and then does something else.
const ATTEMPTS: u32 = 50;
/// One in so many commits is followed by an operator's backup.
const BACKUPS: u64 = 25;

/// Opens the database and makes it what its profile says, however long somebody keeps it locked.
async fn open(source: &Source, random: &mut Random) -> Result<Connection, SourceError> {
    loop {
        let connection = sqlite::open(source.path())?;
        match transactions::prepare(&connection, source.profile()) {
            Ok(()) => {
                source.found(&connection)?;
                return Ok(connection);
            }
            Err(SourceError::Busy) => {
                drop(connection);
                let pause = random.duration(RETRY);
                sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes until the life ends.
pub(super) async fn write(source: Arc<Source>, life: Arc<Life>, mut random: Random) {
    if let Err(error) = write_on(&source, &life, &mut random).await {
        failed(&source, &error);
    }
}

/// Reads for long times until the life ends.
pub(super) async fn read(source: Arc<Source>, life: Arc<Life>, mut random: Random) {
    if let Err(error) = read_on(&source, &life, &mut random).await {
        failed(&source, &error);
    }
}

/// The application is part of the simulator: that it fails is a defect of the simulator, or of what an agent did to the
/// database.
pub(super) fn failed(source: &Source, error: &SourceError) {
    let text = format!("an application on `{}`: {error}", source.name());
    world::current().violate("the application is left alone", text);
}

async fn write_on(source: &Source, life: &Life, random: &mut Random) -> Result<(), SourceError> {
    let mut connection = open(source, random).await?;
    let profile = source.profile();
    loop {
        let pause = profile.draw_pause(random);
        life.rest(pause).await;
        if life.is_ending() {
            break;
        }
        let action = profile.choose(random);
        for _ in 0..ATTEMPTS {
            match step(action, &mut connection, source, random).await {
                Ok(()) => break,
                Err(SourceError::Busy) => {
                    let pause = random.duration(RETRY);
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
    sqlite::checkpoint_on_close(&connection, life.ends_in_order())?;
    drop(connection);
    // The last to close may have written everything back.
    world::current().touched(source.path());
    Ok(())
}

async fn step(
    action: Action,
    connection: &mut Connection,
    source: &Source,
    random: &mut Random,
) -> Result<(), SourceError> {
    if action == Action::LongTransaction {
        transactions::begin(connection)?;
        let outcome = long_transaction(connection, random).await;
        if !matches!(outcome, Ok(true)) {
            transactions::roll_back(connection);
            return outcome.map(|_| ());
        }
        source.committed(connection)?;
    } else if transactions::run(action, connection, source.profile(), random)? {
        source.committed(connection)?;
    } else {
        world::current().touched(source.path());
        return Ok(());
    }
    if random.below(BACKUPS) == 0 {
        source.back_up(connection)?;
    }
    Ok(())
}

/// The inside of a transaction that takes its time; the last step commits. Answers whether it did.
async fn long_transaction(connection: &mut Connection, random: &mut Random) -> Result<bool, SourceError> {
    for _ in 0..random.range(2..6) {
        for _ in 0..random.range(1..6) {
            transactions::change(connection, random)?;
        }
        let pause = random.duration(Duration::from_millis(1)..Duration::from_millis(120));
        sleep(pause).await;
    }
    if random.chance(0.2) {
        return Ok(false);
    }
    transactions::commit(connection)?;
    Ok(true)
}

async fn read_on(source: &Source, life: &Life, random: &mut Random) -> Result<(), SourceError> {
    let connection = open(source, random).await?;
    while !life.is_ending() {
        let pause = random.duration(Duration::from_millis(100)..Duration::from_secs(8));
        life.rest(pause).await;
        match connection.execute_batch("BEGIN; SELECT count(*) FROM item").map_err(SourceError::from) {
            Ok(()) | Err(SourceError::Busy) => {}
            Err(error) => return Err(error),
        }
        let longest = if random.chance(0.1) { 10_000 } else { 500 };
        let held = random.duration(Duration::from_millis(1)..Duration::from_millis(longest));
        life.rest(held).await;
        transactions::roll_back(&connection);
    }
    sqlite::checkpoint_on_close(&connection, life.ends_in_order())
}
