//! `seawall health`.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::body::to_bytes;
use clap::Args;
use seawall_host::net::{Address, CallError, Channel, ChannelOptions};
use seawall_host::time;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, StatusCode};
use url::Url;

use super::error::CommandError;
use super::print;
use crate::config::{NodeConfig, process_environment};

/// An answer's text may have this many bytes; the rest is left out of the message.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Ask a node whether it serves: for the health checks of containers and service managers.
///
/// Exits with 0 if it answers that it does, with 1 if it answers otherwise or not in time.
#[derive(Args)]
pub(super) struct HealthArgs {
    /// What to ask: /readyz (it takes part in a cluster that has a leader) or /healthz (it runs) at a node's `http`
    /// address.
    #[arg(long, value_name = "http://HOST:PORT/PATH", required_unless_present = "config")]
    url: Option<HealthUrl>,
    /// Ask /readyz at the `node.http` address of this node.yml.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// How long to wait for the answer, such as 500ms, 3s.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s")]
    timeout: Duration,
}

impl HealthArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let url = match (self.url, self.config) {
            (Some(url), _) => url,
            (None, Some(file)) => configured(&file).await?,
            (None, None) => return Err(CommandError::usage("--url or --config says what to ask")),
        };
        let asked = format!("http://{}{}", url.address, url.path);
        let answer = match time::timeout(self.timeout, get(&url)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let cause = causes(error.as_ref());
                let message = format!("{asked}: {cause}; check that a node runs and that this is its `http` address");
                return Err(CommandError::failure(message));
            }
            Err(_) => {
                let message = format!("{asked}: no answer within {}", humantime::format_duration(self.timeout));
                return Err(CommandError::failure(message));
            }
        };
        let (status, text) = answer;
        if status.is_success() {
            print(&text)
        } else {
            Err(CommandError::failure(format!("{asked}: {status}: {text}")))
        }
    }
}

/// Where a node is asked for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HealthUrl {
    address: Address,
    /// Path and query.
    path: String,
}

/// A text that is no URL of a node's health.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be asked: write http://HOST:PORT/readyz")]
struct InvalidHealthUrl(String);

impl FromStr for HealthUrl {
    type Err = InvalidHealthUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHealthUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Err(invalid()) };
        if url.scheme() != "http" || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid());
        }
        let address = format!("{host}:{port}").parse().map_err(|_| invalid())?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { address, path: format!("{}{query}", url.path()) })
    }
}

/// What a node's configuration says of where it is asked.
async fn configured(file: &Path) -> Result<HealthUrl, CommandError> {
    let config = NodeConfig::load(file, &process_environment).await;
    let config = config.map_err(|error| CommandError::failure(error.to_string()))?;
    let Some(address) = config.http else {
        let message = format!("{}: node.http is not set, so the node cannot be asked", file.display());
        return Err(CommandError::failure(message));
    };
    Ok(HealthUrl { address: reachable(address), path: "/readyz".to_owned() })
}

/// Where a server on this machine that listens at `address` is reached: "any address" is none to connect to.
fn reachable(address: Address) -> Address {
    let Address::Tcp(text) = &address else { return address };
    let Some((host, port)) = text.rsplit_once(':') else { return address };
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Address::Tcp(format!("{}:{port}", Ipv4Addr::LOCALHOST)),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Address::Tcp(format!("[{}]:{port}", Ipv6Addr::LOCALHOST)),
        _ => address,
    }
}

/// Asks, and gives the answer's status and its text, on one line.
async fn get(url: &HealthUrl) -> Result<(StatusCode, String), CallError> {
    let mut channel = Channel::new(&url.address, ChannelOptions::default());
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let request = Request::get(&url.path).body(Body::empty())?;
    let (head, body) = channel.call(request).await?.into_parts();
    // A text that is too long or breaks off takes nothing from what the status says.
    let text = to_bytes(axum::body::Body::new(body), MAX_TEXT_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok((head.status, line))
}

/// An error and what caused it.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_what_to_ask() {
        for (text, address, path) in [
            ("http://127.0.0.1:7480/readyz", "127.0.0.1:7480", "/readyz"),
            ("http://node1:7480/healthz?verbose", "node1:7480", "/healthz?verbose"),
            ("http://[::1]:7480", "[::1]:7480", "/"),
            ("http://node1/readyz", "node1:80", "/readyz"),
        ] {
            let url: HealthUrl = text.parse().unwrap();
            assert_eq!((url.address.to_string().as_str(), url.path.as_str()), (address, path), "{text}");
        }
        for text in
            ["", "127.0.0.1:7480", "https://node1:7480/readyz", "http://", "http://user:pass@node1/", "file:///x"]
        {
            assert!(text.parse::<HealthUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn any_address_is_asked_at_the_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:7480", "127.0.0.1:7480"),
            ("[::]:7480", "[::1]:7480"),
            ("10.0.0.1:7480", "10.0.0.1:7480"),
            ("node1:7480", "node1:7480"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
