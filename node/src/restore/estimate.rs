//! How long a restore would take, from reading a little.

use std::time::Duration;

use futures::StreamExt;
use seawall_host::time::{self, Instant};

use super::options::PART_BYTES;
use super::outcome::Estimate;
use super::source::{RestoreSource, SourceError, SourceObject};

/// Reading the sample is given up after this long.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads the first part of the first of `objects` and concludes from it how long all of them would take, read one
/// after the other: a restore reads several parts at a time, and is faster where the source allows it.
pub(super) async fn estimate(source: &dyn RestoreSource, objects: &[&SourceObject]) -> Result<Estimate, SourceError> {
    let bytes: u64 = objects.iter().map(|object| object.size).sum();
    let Some(first) = objects.first() else {
        return Ok(Estimate { bytes, sampled: 0, bytes_per_second: 0, duration: Duration::ZERO });
    };
    let began = Instant::now();
    let late = |_| SourceError::Object {
        origin: first.origin.to_string(),
        object: first.name.to_string(),
        cause: format!("its first part did not come within {LIMIT:?}"),
    };
    let sampled = time::timeout(LIMIT, sample(source, first)).await.map_err(late)??;
    let elapsed = began.elapsed().max(Duration::from_micros(1));
    let bytes_per_second = (sampled as f64 / elapsed.as_secs_f64()) as u64;
    let duration = Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
    Ok(Estimate { bytes, sampled, bytes_per_second, duration })
}

async fn sample(source: &dyn RestoreSource, object: &SourceObject) -> Result<u64, SourceError> {
    let length = object.size.min(PART_BYTES);
    if let Some(part) = source.read_part(object, 0, length) {
        return Ok(part.await?.len() as u64);
    }
    let mut pieces = source.read(object);
    let mut read = 0;
    while read < length {
        match pieces.next().await {
            Some(piece) => read += piece?.len() as u64,
            None => break,
        }
    }
    Ok(read)
}
