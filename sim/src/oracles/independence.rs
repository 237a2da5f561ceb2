//! A destination in trouble delays neither an acknowledgement nor another destination.
//!
//! Source: Seawall's design, promise 4: "one that is slow, full, down or lying never delays an acknowledgement, another
//! destination, or a restore that another source can serve; not even when it stays away for weeks".

use std::collections::BTreeMap;
use std::time::Duration;

use seawall_proto::database_name::DatabaseName;

/// How long a destination without trouble of its own may lack what was the head: the window, its upload, the agreement on
/// it, and an attempt begun in worse times that has to time out and be repeated.
const UPLOADING: Duration = Duration::from_secs(30);
/// How long an agent may wait for an acknowledgement while nothing but destinations is in trouble.
const ACKNOWLEDGING: Duration = Duration::from_secs(10);

/// One database on its way to one destination, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which node leads, and in which term.
    pub leader: (usize, u64),
    /// The lineage and the newest transaction of the database.
    pub head: (u64, u64),
    /// The same of what the destination has.
    pub watermark: (u64, u64),
}

/// What a destination has to reach.
#[derive(Clone, Copy, Debug)]
struct Goal {
    leader: (usize, u64),
    since: Duration,
    head: (u64, u64),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Independence {
    calm_since: Option<Duration>,
    goals: BTreeMap<(DatabaseName, String), Goal>,
}

impl Independence {
    /// Takes in whether nothing but destinations is in trouble at `now`, true time since the run began.
    pub fn is_calm(&mut self, calm: bool, now: Duration) {
        self.calm_since = self.calm_since.filter(|_| calm).or(calm.then_some(now));
        if !calm {
            self.goals.clear();
        }
    }

    /// Takes in a lane; `None` if its own destination is in trouble.
    ///
    /// # Errors
    /// If it does not get on, in words.
    pub fn observe(&mut self, key: (DatabaseName, String), lane: Option<Lane>, now: Duration) -> Result<(), String> {
        let Some(lane) = lane.filter(|_| self.calm_since.is_some()) else {
            self.goals.remove(&key);
            return Ok(());
        };
        let new = Goal { leader: lane.leader, since: now, head: lane.head };
        let goal = self.goals.entry(key.clone()).or_insert(new);
        if goal.leader != lane.leader || goal.head <= lane.watermark {
            *goal = new;
        }
        let Goal { since, head, .. } = *goal;
        if now.saturating_sub(since) <= UPLOADING {
            return Ok(());
        }
        let ((lineage, txid), (name, place)) = (head, key);
        let reached = lane.watermark.1;
        Err(format!(
            "`{name}` was at @{lineage}/{txid} at {since:?}, and `{place}`, which is well, is still at {reached} only"
        ))
    }

    /// Takes in that an acknowledgement came at `now` that was asked for at `asked`.
    ///
    /// # Errors
    /// If it took too long without a reason, in words.
    pub fn acknowledged(&self, asked: Duration, now: Duration) -> Result<(), String> {
        let waited = now.saturating_sub(asked);
        if waited <= ACKNOWLEDGING || self.calm_since.is_none_or(|since| since > asked) {
            return Ok(());
        }
        Err(format!("an acknowledgement took {waited:?}, while nothing but destinations was in trouble"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (DatabaseName, String) {
        ("app".parse().unwrap(), "s3".to_owned())
    }

    fn lane(head: u64, watermark: u64) -> Option<Lane> {
        Some(Lane { leader: (0, 1), head: (1, head), watermark: (1, watermark) })
    }

    fn calm() -> Independence {
        let mut independence = Independence::default();
        independence.is_calm(true, Duration::ZERO);
        independence
    }

    #[test]
    fn one_that_is_well_gets_on() {
        let mut independence = calm();
        for second in 0..100 {
            let now = Duration::from_secs(second);
            assert_eq!(independence.observe(key(), lane(second + 29, second), now), Ok(()));
        }
        let mut independence = calm();
        let observed = (0..100).map(|at| independence.observe(key(), lane(at + 50, 3), Duration::from_secs(at)));
        let observed: Vec<bool> = observed.map(|it| it.is_ok()).collect();
        assert!(observed[..31].iter().all(|ok| *ok) && !observed[31]);
    }

    #[test]
    fn its_own_trouble_another_leader_and_a_storm_are_reasons() {
        let mut independence = calm();
        for at in 0..200 {
            let now = Duration::from_secs(at);
            let well = lane(9, 3).filter(|_| at % 20 > 0);
            assert_eq!(independence.observe(key(), well, now), Ok(()));
            let moving = lane(9, 3).map(|lane| Lane { leader: (0, at / 20), ..lane });
            assert_eq!(independence.observe(("other".parse().unwrap(), "s3".to_owned()), moving, now), Ok(()));
        }
        let mut independence = calm();
        for at in 0..200 {
            independence.is_calm(at % 20 > 0, Duration::from_secs(at));
            assert_eq!(independence.observe(key(), lane(9, 3), Duration::from_secs(at)), Ok(()));
        }
    }

    #[test]
    fn acknowledgements_come_soon_unless_something_else_is_in_trouble() {
        let mut independence = calm();
        let seconds = Duration::from_secs;
        assert_eq!(independence.acknowledged(seconds(5), seconds(15)), Ok(()));
        assert!(independence.acknowledged(seconds(5), seconds(16)).is_err());
        independence.is_calm(false, seconds(20));
        assert_eq!(independence.acknowledged(seconds(5), seconds(35)), Ok(()));
        independence.is_calm(true, seconds(21));
        assert_eq!(independence.acknowledged(seconds(20), seconds(35)), Ok(()));
        assert!(independence.acknowledged(seconds(21), seconds(35)).is_err());
    }
}
