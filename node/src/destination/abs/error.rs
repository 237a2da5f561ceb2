//! From the store's answers to what an operator can act on.

use super::super::DestinationError;
use super::options::{AzureCredentials, AzureOptions};

/// What can be told of a failed request. The library's own words may contain a signature and are never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status, if there was an answer.
    status: Option<u16>,
    /// The store's code, such as `ContainerNotFound`.
    code: Option<String>,
    /// The first line of its explanation.
    message: Option<String>,
    /// Whatever else it says.
    details: String,
    /// Why there was no answer.
    transport: Option<String>,
    /// A range was asked for that begins where the object ends, or beyond.
    pub(super) range_is_beyond: bool,
}

impl Answer {
    /// From an answer of the store.
    pub(super) fn of(status: u16, body: &str) -> Self {
        let inside = |tag: &str| {
            let (_, rest) = body.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once("</")?.0.trim().to_owned())
        };
        let message = inside("Message").map(|text| text.lines().next().unwrap_or_default().to_owned());
        let details = inside("AuthenticationErrorDetail").unwrap_or_default();
        Self { status: Some(status), code: inside("Code"), message, details, ..Self::default() }
    }

    /// From an error that is not an answer of the store.
    pub(super) fn none(error: &dyn std::error::Error) -> Self {
        Self { transport: Some(innermost(error)), ..Self::default() }
    }

    /// From an error of the library, whose text has the answer in it.
    pub(super) fn from_library(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let answer = status.map_or_else(|| Self::none(error), |status| Self::of(status, &text));
        // Azure answers 416; where a store answers nothing instead, the library notices.
        let range_is_beyond = status == Some(416) || text.contains("Wanted range starting at");
        Self { range_is_beyond, ..answer }
    }

    /// Whether an object of that name was there before.
    pub(super) fn already_exists(&self) -> bool {
        matches!(self.status, Some(409 | 412)) && self.code.as_deref() != Some("LeaseIdMissing")
    }

    /// Whether the blocks of an upload are gone, because another upload of that name ended before.
    pub(super) fn blocks_are_gone(&self) -> bool {
        self.status == Some(400) && self.code.as_deref() == Some("InvalidBlockList")
    }

    /// What happened, and what to do about it.
    pub(super) fn describe(&self, options: &AzureOptions, action: &str, name: &str) -> DestinationError {
        let destination = options.url.clone();
        let code = self.code.as_deref().unwrap_or_default();
        if self.status == Some(404) && code != "ContainerNotFound" {
            return DestinationError::NotFound { destination, name: name.to_owned() };
        }
        let (action, cause) = (format!("{action} {name}"), self.cause(options));
        match self.advice(options, code) {
            Some(advice) => DestinationError::Refused { destination, action, cause: format!("{cause}: {advice}") },
            None => DestinationError::Unavailable { destination, action, cause },
        }
    }

    fn cause(&self, options: &AzureOptions) -> String {
        let place = &options.endpoint;
        match (&self.transport, &self.code, &self.message, self.status) {
            (Some(cause), ..) if cause.contains("timed out") || cause.contains("deadline") => {
                format!("{place} did not answer in time")
            }
            (Some(cause), ..) => format!("{place} cannot be reached ({cause})"),
            (None, Some(code), Some(message), _) => format!("{place} answered {code} ({message})"),
            (None, Some(code), None, _) => format!("{place} answered {code}"),
            (None, None, _, Some(status)) => format!("{place} answered with status {status}"),
            (None, None, _, None) => format!("{place} did not answer properly"),
        }
    }

    /// What an operator has to change; `None` where waiting may help.
    fn advice(&self, options: &AzureOptions, code: &str) -> Option<String> {
        let container = &options.container;
        let what = match options.credentials {
            AzureCredentials::Key(_) => "account-key",
            AzureCredentials::Sas(_) => "sas-token",
            _ => "the identity",
        };
        let details = self.details.to_lowercase();
        let unknown = self.message.as_ref().is_some_and(|message| message.contains("failed to authenticate"));
        let code = if unknown { "AuthenticationFailed" } else { code };
        match (code, self.status) {
            ("ContainerNotFound", _) => {
                Some(format!("create the container `{container}`, or mend the destination's url"))
            }
            ("ContainerBeingDeleted" | "ServerBusy" | "OperationTimedOut", _) => None,
            ("InvalidResourceName", _) => {
                Some(format!("`{container}` cannot be a container: mend the destination's url"))
            }
            ("AuthenticationFailed", _) if details.contains("time frame") || details.contains("expir") => {
                Some("the sas-token is not valid at this time: renew it, or set this machine's clock".to_owned())
            }
            ("AuthenticationFailed", _) if details.contains("date header") => {
                Some("set this machine's clock".to_owned())
            }
            ("AuthenticationFailed" | "InvalidAuthenticationInfo", _) => {
                Some(format!("mend {what}: it does not belong to the account `{}`", options.account))
            }
            // Also what an identity that may not list is told of a container that does not exist.
            (_, Some(401 | 403)) => {
                Some(format!("let {what} list, read, create, write and delete blobs in the container `{container}`"))
            }
            (_, None) if self.transport.as_ref().is_some_and(|cause| cause.contains("169.254.169.254")) => Some(
                "there is no key: set account-key or sas-token, AZURE_STORAGE_KEY, or give this machine an identity"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
