//! What can happen to what travels.

use std::ops::Range;
use std::time::Duration;

use crate::random::Random;

/// How the network behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFaults {
    /// How long a message takes.
    pub latency: Range<Duration>,
    /// The share of messages that take as long as `spike` instead.
    pub spikes: f64,
    /// A long way.
    pub spike: Range<Duration>,
    /// The share of messages that are lost and sent again (TCP), later by a fifth of a second to a second.
    pub loss: f64,
    /// The share of messages at which the connection is reset.
    pub resets: f64,
    /// The share of single-message calls that reach the server a second time, up to a second later.
    pub duplicates: f64,
    /// The share of calls that are held back for up to a tenth of a second, so that later ones overtake them.
    pub reordering: f64,
}

impl Default for NetworkFaults {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(100)..Duration::from_micros(800),
            spikes: 0.0,
            spike: Duration::from_millis(20)..Duration::from_millis(400),
            loss: 0.0,
            resets: 0.0,
            duplicates: 0.0,
            reordering: 0.0,
        }
    }
}

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives after this long.
    Arrives(Duration),
    /// The connection is reset.
    Reset,
}

impl NetworkFaults {
    /// The fate of the next message; `head` if it begins a call.
    pub(super) fn fate(&self, random: &mut Random, head: bool) -> Fate {
        let mut delay = random.duration(self.latency.clone());
        if self.spikes > 0.0 && random.chance(self.spikes) {
            delay = random.duration(self.spike.clone());
        }
        if self.loss > 0.0 && random.chance(self.loss) {
            delay += random.duration(Duration::from_millis(200)..Duration::from_secs(1));
        }
        if head && self.reordering > 0.0 && random.chance(self.reordering) {
            delay += random.duration(Duration::ZERO..Duration::from_millis(100));
        }
        if self.resets > 0.0 && random.chance(self.resets) {
            return Fate::Reset;
        }
        Fate::Arrives(delay)
    }

    /// When the second arrival of a call comes, if there is one.
    pub(super) fn duplicate(&self, random: &mut Random) -> Option<Duration> {
        (self.duplicates > 0.0 && random.chance(self.duplicates))
            .then(|| random.duration(Duration::ZERO..Duration::from_secs(1)))
    }
}
