//! The SDK's client, set up for a caller that retries by itself.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};

use super::S3Options;

/// Where neither configuration nor machine names a region; most stores that are not Amazon's take any.
const DEFAULT_REGION: &str = "us-east-1";

/// A client for `options`. Reads the machine's profile and role where no static key is given; connects to nothing else.
pub(super) async fn connect(options: &S3Options) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        // From the request's last byte to the answer's first.
        .read_timeout(Duration::from_secs(60))
        // A part of 64 MiB at 128 KiB/s; what stands still altogether is noticed sooner.
        .operation_attempt_timeout(Duration::from_secs(512))
        .build();
    let stalls = StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(20)).build();
    let builder = match &options.key {
        Some((id, secret)) => Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new(id, secret.reveal(), None, None, "configuration"))
            .region(Region::new(options.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned()))),
        None => {
            let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
            let region = options.region.clone().map(Region::new).or_else(|| shared.region().cloned());
            Builder::from(&shared).region(region.unwrap_or_else(|| Region::from_static(DEFAULT_REGION)))
        }
    };
    let mut builder = builder
        .force_path_style(options.path_style)
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        // Each upload carries a checksum of ours; the SDK's own would be trailers, which many stores do not know.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Client::from_conf(builder.build())
}
