//! From the SDK's errors to what an operator can act on.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::super::DestinationError;
use super::S3Options;

/// The HTTP status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Whether an object of that name was there before: 412, or 409 where another creation is under way.
pub(super) fn already_exists<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let conflict = error.code().is_none_or(|code| code != "NoSuchUpload");
    matches!(status(error), Some(412)) || (status(error) == Some(409) && conflict)
}

/// Whether the store says that it does not know conditional creation.
pub(super) fn condition_unknown<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    status(error) == Some(501) || error.code() == Some("NotImplemented")
}

/// What happened, and what to do about it.
pub(super) fn describe<E>(options: &S3Options, action: &str, name: &str, error: &SdkError<E>) -> DestinationError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let destination = options.url.clone();
    let action = format!("{action} {name}");
    let code = error.code().unwrap_or_default();
    let status = status(error);
    if code == "NoSuchKey" || (status == Some(404) && code != "NoSuchBucket") {
        return DestinationError::NotFound { destination, name: name.to_owned() };
    }
    let cause = cause(options, error);
    match advice(options, error, code, status) {
        Some(advice) => DestinationError::Refused { destination, action, cause: format!("{cause}: {advice}") },
        None => DestinationError::Unavailable { destination, action, cause },
    }
}

/// What the store answered, or why it did not.
fn cause<E>(options: &S3Options, error: &SdkError<E>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let place = options.endpoint.as_deref().unwrap_or("Amazon S3");
    match error {
        SdkError::TimeoutError(_) => format!("{place} did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => format!("{place} did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_io() => {
            format!("{place} cannot be reached ({})", innermost(error))
        }
        _ => match (error.code(), error.message(), status(error)) {
            (Some(code), Some(message), _) => format!("{place} answered {code} ({message})"),
            (Some(code), None, _) => format!("{place} answered {code}"),
            (None, _, Some(status)) if status >= 300 => format!("{place} answered with status {status}"),
            // An answer that could not be understood, or none.
            (None, _, _) => DisplayErrorContext(error).to_string(),
        },
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an operator has to change; `None` where waiting may help.
fn advice<E>(options: &S3Options, error: &SdkError<E>, code: &str, status: Option<u16>) -> Option<String>
where
    E: std::error::Error + 'static,
{
    let bucket = &options.bucket;
    match (code, status) {
        ("NoSuchBucket", _) => Some(format!("create the bucket `{bucket}`, or mend the destination's url")),
        ("InvalidAccessKeyId", _) => Some("mend access-key-id: the store does not know this key".to_owned()),
        ("SignatureDoesNotMatch", _) => Some("mend secret-access-key: it does not belong to this key".to_owned()),
        ("RequestTimeTooSkewed", _) => Some("set this machine's clock".to_owned()),
        ("ExpiredToken" | "InvalidToken", _) => Some("renew the credentials".to_owned()),
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, Some(301)) => Some(format!("mend region: the bucket `{bucket}` is in another one")),
        ("InvalidBucketName", _) => Some(format!("`{bucket}` cannot be a bucket: mend the destination's url")),
        // Also what keys that may not list are told of a bucket that does not exist.
        (_, Some(401 | 403)) => Some(format!(
            "let this key list, get, put and delete objects in the bucket `{bucket}`, or configure another key"
        )),
        (_, None) if DisplayErrorContext(error).to_string().to_lowercase().contains("credentials") => Some(
            "there is no key: set access-key-id and secret-access-key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             or give this machine a role"
                .to_owned(),
        ),
        _ => None,
    }
}
