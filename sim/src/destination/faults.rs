//! What may be wrong with a place.

use std::ops::Range;
use std::time::Duration;

/// How long a caller waits for an answer that never comes, unless a run says otherwise.
const TIME_OUT: Duration = Duration::from_secs(5);

/// The faults of one place. By default it has none and answers at once.
///
/// Shares are probabilities from 0 to 1, drawn for each request anew. A change takes hold of requests that are sent
/// later; [`PlaceFaults::gone`], [`PlaceFaults::refuses`], [`PlaceFaults::unconditional`] and
/// [`PlaceFaults::capacity`] also of those under way.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceFaults {
    /// How long a request takes to arrive, and its answer to come back: each way is drawn from this range.
    pub latency: Range<Duration>,
    /// How much longer each way takes while the place is slow: drawn likewise, and a fault, unlike the distance above.
    pub delay: Range<Duration>,
    /// How long a caller waits before it hears that no answer came.
    pub time_out: Duration,
    /// Share of requests that are carried out, and whose caller hears that they timed out.
    pub time_out_after: f64,
    /// Share of requests that never arrive, and whose caller hears that they timed out.
    pub time_out_before: f64,
    /// Share of creations that are carried out only after their caller has heard that they timed out.
    pub late_creations: f64,
    /// How long after that at most.
    pub latest_creation: Duration,
    /// Share of creations whose transfer breaks off midway; nothing is left of them.
    pub broken_uploads: f64,
    /// Share of requests that start a burst of 429s and 503s.
    pub throttling: f64,
    /// How long such a burst lasts.
    pub burst: Range<Duration>,
    /// Nothing is allowed: the credentials are wrong.
    pub refuses: bool,
    /// Bytes a second of each transfer.
    pub bytes_per_second: Option<u64>,
    /// Bytes that it holds at most.
    pub capacity: Option<u64>,
    /// Share of listings that are stale.
    pub stale_listings: f64,
    /// A stale listing shows what was there this long ago at most: misses what was created since, and still names what
    /// was deleted. Reading an object by its name always sees the present.
    pub staleness: Duration,
    /// Share of objects that it acknowledges and forgets: half of them at once, the others within
    /// [`PlaceFaults::forgets_within`]. Never for every place of a run at once.
    pub lying: f64,
    /// How long it keeps at most what it forgets later.
    pub forgets_within: Duration,
    /// It cannot be reached, until this is false again.
    pub gone: bool,
    /// It ignores "only if none exists": of two creators of one name the last one wins.
    pub unconditional: bool,
    /// Share of conditional creations that are told "exists already" while another creation of the same name is under
    /// way, which may yet fail.
    pub conflicts: f64,
}

impl Default for PlaceFaults {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO..Duration::ZERO,
            delay: Duration::ZERO..Duration::ZERO,
            time_out: TIME_OUT,
            time_out_after: 0.0,
            time_out_before: 0.0,
            late_creations: 0.0,
            latest_creation: TIME_OUT,
            broken_uploads: 0.0,
            throttling: 0.0,
            burst: Duration::from_millis(200)..Duration::from_secs(5),
            refuses: false,
            bytes_per_second: None,
            capacity: None,
            stale_listings: 0.0,
            staleness: Duration::from_secs(10),
            lying: 0.0,
            forgets_within: Duration::from_secs(20),
            gone: false,
            unconditional: false,
            conflicts: 0.0,
        }
    }
}

impl PlaceFaults {
    /// These with every fault gone. The distance stays, and so does what such a store can do at all: its latency and
    /// whether it creates conditionally.
    pub fn healed(&self) -> Self {
        Self { latency: self.latency.clone(), unconditional: self.unconditional, ..Self::default() }
    }
}
