//! `chaos soak`.

use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::run::{Common, Session};
use crate::scenario;

/// For nights: play all scenarios in ever new orders and with ever new seeds until the time is over or one does not hold.
#[derive(Args)]
pub(super) struct Soak {
    /// How long; a round that has begun is finished.
    #[arg(long, default_value_t = 8 * 60)]
    minutes: u64,
    /// How long faults strike in each, in minutes, instead of what the scenario says.
    #[arg(long)]
    each: Option<u64>,
    /// Decides orders and seeds. Another one each time, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Soak {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut rng = StdRng::seed_from_u64(self.seed.unwrap_or_else(rand::random));
        let end = Instant::now() + Duration::from_secs(self.minutes * 60);
        let span = self.each.map(|minutes| Duration::from_secs(minutes * 60));
        let session = Session::begin(self.common)?;
        while Instant::now() < end {
            let mut scenarios = scenario::all();
            scenarios.shuffle(&mut rng);
            let plays = scenarios.into_iter().map(|scenario| (scenario, rng.random(), span)).collect();
            if !session.play(plays)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
