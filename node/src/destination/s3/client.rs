//! The SDK's client, set up for a caller that retries by itself.

use std::path::Path;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::super::options::read_ca_file;
use super::S3Options;

/// Where neither configuration nor machine names a region; most stores that are not Amazon's take any.
const DEFAULT_REGION: &str = "us-east-1";

/// How slow an upload may become, in bytes a second, before it is given up.
const SLOWEST: u64 = 128 << 10;

/// The time-outs of a request that sends so many bytes: to the SDK an upload stands still until the answer comes.
pub(super) fn timeouts(options: &S3Options, bytes: u64) -> TimeoutConfig {
    let uploading = Duration::from_secs(bytes / SLOWEST);
    TimeoutConfig::builder()
        .connect_timeout(options.patience.min(Duration::from_secs(5)))
        .read_timeout(options.patience + uploading)
        // A part of 64 MiB at 128 KiB/s; what stands still altogether is noticed sooner.
        .operation_attempt_timeout(options.patience + Duration::from_secs(512))
        .build()
}

/// A client for `options`. Reads the machine's profile and role where no static key is given; connects to nothing else.
///
/// # Errors
/// The file of certificates cannot be used.
pub(super) async fn connect(options: &S3Options) -> Result<Client, String> {
    let stalls =
        StalledStreamProtectionConfig::enabled().grace_period(options.patience.min(Duration::from_secs(20))).build();
    let builder = match &options.key {
        Some((id, secret)) => Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new(id, secret.reveal(), None, None, "configuration"))
            .region(Region::new(options.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned()))),
        None => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest());
            if let Some(region) = &options.region {
                // Else the machine is asked for it, which takes seconds where nobody answers.
                loader = loader.region(Region::new(region.clone()));
            }
            let shared = loader.load().await;
            let region = shared.region().cloned();
            Builder::from(&shared).region(region.unwrap_or_else(|| Region::from_static(DEFAULT_REGION)))
        }
    };
    let mut builder = builder
        .force_path_style(options.path_style)
        .timeout_config(timeouts(options, 0))
        .stalled_stream_protection(stalls)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        // Each upload carries a checksum of ours; the SDK's own would be trailers, which many stores do not know.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if let Some(file) = &options.ca_file {
        builder = builder.http_client(trusting(file).await?);
    }
    Ok(Client::from_conf(builder.build()))
}

/// An HTTP client that trusts the certificates in `file` beside those of the machine.
async fn trusting(file: &Path) -> Result<SharedHttpClient, String> {
    let pem = read_ca_file(file).await?;
    // The SDK panics on what is no certificate.
    if CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().is_ok_and(|found| !found.is_empty()) {
        let trusted = tls::TrustStore::default().with_pem_certificate(pem.to_vec());
        let context = tls::TlsContext::builder().with_trust_store(trusted).build();
        let context = context.map_err(|error| format!("ca-file: {error}"))?;
        let provider = tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc);
        return Ok(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https());
    }
    Err(format!("ca-file: {}: there are no certificates in it: PEM is needed", file.display()))
}
