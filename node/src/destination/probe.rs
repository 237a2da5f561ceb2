//! Whether a place creates objects only if none of that name exists: tried, not believed.

use std::future::Future;

use seawall_host::random;

use super::{Creation, Destination, DestinationError};

/// A name that no object has.
pub(super) fn name() -> String {
    format!("@seawall-probe/{:016x}", random::u64())
}

/// Creates the object `name` by `first` and then by `again`, which must find it. Answers whether it did; the object is
/// removed again.
pub(super) async fn creates_once<D, F>(
    destination: &D,
    name: &str,
    first: F,
    again: F,
) -> Result<bool, DestinationError>
where
    D: Destination,
    F: Future<Output = Result<Creation, DestinationError>>,
{
    first.await?;
    let again = again.await;
    // Keys that may not delete leave an empty object behind: no reason not to upload.
    if let Err(error) = destination.delete(name).await {
        tracing::warn!(destination = destination.url(), %error, "cannot delete what was created to try the store");
    }
    Ok(again? == Creation::AlreadyExists)
}
