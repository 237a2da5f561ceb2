//! Restoring from one destination.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::ObjectName;

use super::source::{Breadth, ByteStream, Listing, PartRead, RestoreSource, SourceError, SourceObject};
use crate::destination::{Destination, DestinationError};

/// The length of one ranged read where an object is streamed, in bytes.
const RANGE_BYTES: u64 = 4 << 20;

/// Ranged reads under way at a time there.
const RANGES_AT_ONCE: usize = 4;

/// A database at a destination.
pub struct DestinationSource {
    destination: Arc<dyn Destination>,
    database: DatabaseName,
    origin: Arc<str>,
}

impl DestinationSource {
    /// The objects of `database` below the root of `destination`.
    pub fn new(destination: Arc<dyn Destination>, database: DatabaseName) -> Self {
        let origin = Arc::from(format!("{}/{database}", destination.url().trim_end_matches('/')));
        Self { destination, database, origin }
    }
}

/// The segments among what `destination` lists of `database`, with the names it gives them.
///
/// # Errors
/// As [`Destination::list`].
pub(crate) async fn list_segments(
    destination: &dyn Destination,
    database: &DatabaseName,
) -> Result<Vec<(ObjectName, u64)>, DestinationError> {
    let prefix = format!("{database}/");
    // With the `@`, so that databases named below this one are not listed.
    let listed = destination.list(&format!("{prefix}@")).await?;
    let segments = listed.into_iter().filter_map(|object| {
        let name = object.name.strip_prefix(&prefix)?.parse().ok()?;
        Some((name, object.size))
    });
    Ok(segments.collect())
}

impl RestoreSource for DestinationSource {
    fn describe(&self) -> &str {
        &self.origin
    }

    fn list(&self, _breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        async move {
            let segments = list_segments(self.destination.as_ref(), &self.database).await;
            let segments = segments
                .map_err(|error| SourceError::Unusable { origin: self.origin.to_string(), cause: error.to_string() })?;
            let objects = segments.into_iter().map(|(name, size)| SourceObject::listed(&self.origin, name, size));
            Ok(Listing { objects: objects.collect(), ..Listing::default() })
        }
        .boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        let size = object.size;
        let starts = (0..size.div_ceil(RANGE_BYTES)).map(|range| range * RANGE_BYTES);
        let ranges: Vec<PartRead> =
            starts.map(|start| self.range(object, start, RANGE_BYTES.min(size - start))).collect();
        stream::iter(ranges).buffered(RANGES_AT_ONCE).boxed()
    }

    fn read_part(&self, object: &SourceObject, offset: u64, length: u64) -> Option<PartRead> {
        Some(self.range(object, offset, length))
    }
}

impl DestinationSource {
    fn range(&self, object: &SourceObject, offset: u64, length: u64) -> PartRead {
        let destination = Arc::clone(&self.destination);
        let name = format!("{}/{}", self.database, object.name);
        let (origin, shown, size) = (Arc::clone(&self.origin), object.name, object.size);
        async move {
            let error =
                |cause: String| SourceError::Object { origin: origin.to_string(), object: shown.to_string(), cause };
            let bytes = destination.read(&name, offset, length).await.map_err(|cause| error(cause.to_string()))?;
            if bytes.len() as u64 == length {
                Ok(bytes)
            } else {
                Err(error(format!("it ends after {} of {size} bytes", offset + bytes.len() as u64)))
            }
        }
        .boxed()
    }
}
