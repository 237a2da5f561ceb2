//! What can go wrong with an image.

use std::io;

use seawall_proto::position::Txid;

/// Why an image could not do what was asked. `image` is `database@lineage`.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk.
    #[error("image of {image}: {source}")]
    Io {
        /// Which image.
        image: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Its pages or its vector were found to be wrong; it is not read any more until it is rebuilt.
    #[error("the image of {image} is quarantined: {reason}; it is rebuilt from the log or from another node")]
    Quarantined {
        /// Which image.
        image: String,
        /// What was found.
        reason: String,
    },
    /// It was interrupted by a crash and has not been folded again to where it then was.
    #[error("the image of {image} is not yet consistent after a crash: folding from txid {folded} to {until}")]
    Recovering {
        /// Which image.
        image: String,
        /// Folded so far.
        folded: Txid,
        /// Consistent from here on.
        until: Txid,
    },
    /// The image did not get to a txid in time.
    #[error("the image of {image} is at txid {folded}, not yet at {wanted}; try again, or ask another node")]
    Behind {
        /// Which image.
        image: String,
        /// Folded so far.
        folded: Txid,
        /// What was asked for.
        wanted: Txid,
    },
    /// Folding went on, because the hold was older than its limit.
    #[error("the hold on the image of {image} passed its limit; start again")]
    HoldExpired {
        /// Which image.
        image: String,
    },
    /// What was given does not continue the image, or is damaged.
    #[error("image of {image}: the segment is unusable: {cause}")]
    Segment {
        /// Which image.
        image: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The log no longer holds what comes after the image.
    #[error(
        "the image of {image} ends at txid {folded} and the log no longer holds what follows up to {until}: take in \
         another node's"
    )]
    LogGone {
        /// Which image.
        image: String,
        /// Folded so far.
        folded: Txid,
        /// The log may go on after this one.
        until: Txid,
    },
    /// It cannot be used, and at present no other node gives one in its place.
    #[error("{reason}, and no other node gives one now: {cause}")]
    Lost {
        /// What is wrong with it.
        reason: String,
        /// What the other nodes say.
        cause: String,
    },
    /// The image holds nothing yet.
    #[error("the image of {image} is empty: nothing was captured yet")]
    Empty {
        /// Which image.
        image: String,
    },
}
