//! From what the store answers to what an operator can act on.

use serde_json::Value;

use super::super::DestinationError;
use super::options::{GoogleCredentials, GoogleOptions};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The store answered so.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The store's word for it, such as `conditionNotMet`.
        reason: String,
        /// Its explanation.
        message: String,
    },
    /// The store could not be reached, or the connection broke.
    Transport(String),
    /// It did not answer in time.
    Late,
    /// There is nothing to prove who is asking, and that will stay so.
    NoCredentials(String),
    /// What proves who is asking could not be had for now.
    CredentialsLater(String),
    /// The store answered what makes no sense.
    Nonsense(String),
}

impl Failure {
    /// From an answer that is no success.
    pub(super) fn of(status: u16, body: &str) -> Self {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let error = &json["error"];
        let reason = text(&error["errors"][0]["reason"]).or_else(|| text(error)).unwrap_or_default();
        let message = text(&error["message"]).or_else(|| text(&json["error_description"]));
        let message = message.unwrap_or_else(|| body.lines().next().unwrap_or_default().chars().take(200).collect());
        Self::Answer { status, reason, message }
    }

    /// The HTTP status, if there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Answer { status, .. } = self { Some(*status) } else { None }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Answer { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Transport(_) => true,
            _ => false,
        }
    }

    /// What happened, and what to do about it.
    pub(super) fn describe(&self, options: &GoogleOptions, action: &str, name: &str) -> DestinationError {
        let destination = options.url.clone();
        if let Self::Answer { status: 404, message, .. } = self
            && !message.to_lowercase().contains("bucket")
            && action != "list"
        {
            return DestinationError::NotFound { destination, name: name.to_owned() };
        }
        let (action, cause) = (format!("{action} {name}"), self.cause(options));
        match self.advice(options) {
            Some(advice) => DestinationError::Refused { destination, action, cause: format!("{cause}: {advice}") },
            None => DestinationError::Unavailable { destination, action, cause },
        }
    }

    fn cause(&self, options: &GoogleOptions) -> String {
        let place = &options.endpoint;
        match self {
            Self::Answer { status, reason, message } => match (&**reason, &**message) {
                ("", "") => format!("{place} answered with status {status}"),
                ("", message) => format!("{place} answered with status {status} ({message})"),
                (reason, message) => format!("{place} answered {reason} ({message})"),
            },
            Self::Transport(cause) => format!("{place} cannot be reached ({cause})"),
            Self::Late => format!("{place} did not answer in time"),
            Self::NoCredentials(cause) | Self::CredentialsLater(cause) => {
                format!("there is no token to show to {place} ({cause})")
            }
            Self::Nonsense(what) => format!("{place} answered {what}"),
        }
    }

    /// What an operator has to change; `None` where waiting may help.
    fn advice(&self, options: &GoogleOptions) -> Option<String> {
        let bucket = &options.bucket;
        let who = match &options.credentials {
            GoogleCredentials::File(file) => format!("the account in {}", file.display()),
            _ => "this machine's account".to_owned(),
        };
        match self {
            Self::NoCredentials(_) => Some(
                "set credentials-file or GOOGLE_APPLICATION_CREDENTIALS to the JSON key of a service account, or give \
                 this machine one"
                    .to_owned(),
            ),
            Self::Answer { status: 404, .. } => {
                Some(format!("create the bucket `{bucket}`, or mend the destination's url"))
            }
            Self::Answer { status: 401, .. } => Some(format!(
                "mend credentials-file: the store does not take what {who} shows; is this machine's clock right?"
            )),
            Self::Answer { status: 403, reason, .. } if reason.to_lowercase().contains("limitexceeded") => None,
            Self::Answer { status: 403, .. } => {
                Some(format!("give {who} the role Storage Object User (roles/storage.objectUser) on `{bucket}`"))
            }
            Self::Answer { status: 400, .. } => {
                Some("mend the destination's url, storage-class or credentials-file".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart_whatever_their_form() {
        let json = r#"{"error":{"code":412,"message":"At least one…","errors":[{"reason":"conditionNotMet"}]}}"#;
        let found = Failure::of(412, json);
        assert!(
            matches!(&found, Failure::Answer { reason, message, .. }
            if reason == "conditionNotMet" && message.starts_with("At least")),
            "{found:?}"
        );
        let token = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
        assert!(matches!(&Failure::of(400, token), Failure::Answer { reason, message, .. }
            if reason == "invalid_grant" && message == "Invalid JWT Signature."));
        assert!(matches!(&Failure::of(404, "No such object: b/x"), Failure::Answer { reason, message, .. }
            if reason.is_empty() && message == "No such object: b/x"));
        assert!(Failure::of(503, "").is_passing() && !Failure::of(403, "").is_passing());
    }
}
