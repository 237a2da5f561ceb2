//! Who may reach a node, in `node.yml`, and what agents and commands show to nodes.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use seawall_host::net::{Address, Limits};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::document::{ConfigError, Document, Environment, Raw, line};
use super::node::read;
use super::size;
use crate::security::{
    Action, ClientSecurity, NodeSecurity, Pattern, TlsFiles, Token, TokenConfig, TokenFrom, TokenIs,
};

/// The longest name of a token, in bytes.
const MAX_NAME: usize = 100;
/// From a second on there is time for a handshake over slow links; nobody has to be waited for over an hour.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
const COUNTS: RangeInclusive<usize> = 1..=1_000_000;
const HEADER_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 20;
const STREAMS: RangeInclusive<usize> = 16..=100_000;

/// The keys of `node.yml` that are about security, as they stand in the file.
pub(super) struct RawNodeSecurity<'a> {
    pub(super) listen: (&'a Raw, &'a Address),
    pub(super) http: Option<(&'a Raw, &'a Address)>,
    pub(super) http_insecure: Option<&'a Raw>,
    pub(super) members: Vec<(&'a Raw, &'a Address)>,
    pub(super) tls: Option<&'a RawTls>,
    pub(super) tokens: Option<&'a Spanned<Vec<RawToken>>>,
    pub(super) insecure: Option<&'a Raw>,
    pub(super) limits: &'a RawLimits,
}

impl RawNodeSecurity<'_> {
    pub(super) fn parse(&self, document: &Document<'_>) -> Result<NodeSecurity, ConfigError> {
        let tls = self.tls.map(|raw| tls_files(document, raw)).transpose()?;
        let insecure = flag(document, "insecure", self.insecure)?;
        let http_insecure = flag(document, "node.http-insecure", self.http_insecure)?;
        if let (Some(raw), true, true) = (self.insecure, insecure, tls.is_some()) {
            return Err(document.at(line(raw), "insecure: with `tls` nothing is insecure: remove one of them"));
        }
        if tls.is_none() && !insecure {
            let all = [("node.listen", self.listen)].into_iter();
            let all = all.chain(self.members.iter().map(|member| ("cluster.nodes", *member)));
            for (key, (raw, address)) in all {
                refuse_plain(document, key, raw, address, "open to everybody")?;
            }
        }
        let http_tls = match self.http {
            Some((raw, address)) if !address.is_local() && !insecure && !http_insecure => {
                if tls.is_none() {
                    let problem = format!(
                        "node.http: {address} can be reached from other machines, in plain text: write a loopback \
                         address such as 127.0.0.1:7480, add `tls` (whoever reads it needs a certificate then), or \
                         write `http-insecure: true` beside it if everybody may read what it shows"
                    );
                    return Err(document.at(line(raw), problem));
                }
                true
            }
            _ => false,
        };
        let tokens = match self.tokens {
            None => Vec::new(),
            Some(raw) => {
                if raw.value.is_empty() {
                    let problem = "tokens: it names none: write at least one, or leave the key out";
                    return Err(document.at(line(raw), problem));
                }
                if tls.is_none() {
                    let problem = "tokens: without `tls` they would travel in plain text, and whoever says to be a node \
                                   needs none: add tls: { cert, key, ca } (`seawall cert` makes them)";
                    return Err(document.at(line(raw), problem));
                }
                parse_tokens(document, &raw.value)?
            }
        };
        Ok(NodeSecurity { tls, tokens, http_tls, limits: self.limits.parse(document)? })
    }
}

fn refuse_plain(
    document: &Document<'_>,
    key: &str,
    raw: &Raw,
    address: &Address,
    what: &str,
) -> Result<(), ConfigError> {
    if address.is_local() {
        return Ok(());
    }
    let problem = format!(
        "{key}: {address} is not on this machine alone, and without `tls` all that goes there is in plain text and \
         {what}: add tls: {{ cert, key, ca }} (`seawall cert` makes them), or write `insecure: true` if you trust the \
         network and all that are on it"
    );
    Err(document.at(line(raw), problem))
}

fn flag(document: &Document<'_>, key: &str, raw: Option<&Raw>) -> Result<bool, ConfigError> {
    raw.map_or(Ok(false), |raw| document.value(key, raw))
}

fn tls_files(document: &Document<'_>, raw: &RawTls) -> Result<TlsFiles, ConfigError> {
    Ok(TlsFiles {
        cert: document.path("tls.cert", &raw.cert)?,
        key: document.path("tls.key", &raw.key)?,
        ca: document.path("tls.ca", &raw.ca)?,
    })
}

fn parse_tokens(document: &Document<'_>, raw: &[RawToken]) -> Result<Vec<TokenConfig>, ConfigError> {
    let mut tokens: Vec<TokenConfig> = Vec::new();
    for raw in raw {
        let token = parse_token(document, raw)?;
        if tokens.iter().any(|other| other.name == token.name) {
            return Err(document.at(line(&raw.name), format!("tokens: the name `{}` occurs twice", token.name)));
        }
        if let Some(other) = tokens.iter().find(|other| other.token == token.token) {
            let problem = format!("tokens: `{}` and `{}` are the same token", other.name, token.name);
            return Err(document.at(line(&raw.name), problem));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn parse_token(document: &Document<'_>, raw: &RawToken) -> Result<TokenConfig, ConfigError> {
    let name = document.text(&raw.name)?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(document.at(line(&raw.name), format!("tokens.name: write 1 to {MAX_NAME} printable bytes")));
    }
    let token = match (&raw.hash, &raw.token_file) {
        (Some(hash), None) => {
            // What stands there may be the token itself, so it is not shown.
            let parsed = document.text(hash)?.parse();
            TokenIs::Hash(parsed.map_err(|error| document.at(line(hash), format!("tokens.hash: {error}")))?)
        }
        (None, Some(file)) => TokenIs::File(document.path("tokens.token-file", file)?),
        (Some(_), Some(file)) => {
            let problem = format!("tokens: `{name}` has a hash and a token-file: write one of them");
            return Err(document.at(line(file), problem));
        }
        (None, None) => {
            let problem = format!("tokens: `{name}` needs a hash, as `seawall token` prints it, or a token-file");
            return Err(document.at(line(&raw.name), problem));
        }
    };
    let databases: Result<Vec<Pattern>, _> =
        raw.databases.value.iter().map(|raw| document.value("tokens.databases", raw)).collect();
    let databases = databases?;
    if databases.is_empty() {
        let problem = format!("tokens.databases: `{name}` is for none: name some, or write [ \"**\" ] for all");
        return Err(document.at(line(&raw.databases), problem));
    }
    let actions: Result<BTreeSet<Action>, _> =
        raw.actions.value.iter().map(|raw| document.value("tokens.actions", raw)).collect();
    let actions = actions?;
    if actions.is_empty() {
        let problem = format!("tokens.actions: `{name}` allows nothing: write some of write, restore, admin");
        return Err(document.at(line(&raw.actions), problem));
    }
    Ok(TokenConfig { name, token, databases, actions })
}

/// What a program shows to nodes, as it stands in its file.
pub(super) struct RawClientSecurity<'a> {
    /// The nodes that it is told of, if any.
    pub(super) cluster: Vec<(&'a Raw, &'a Address)>,
    pub(super) tls: Option<&'a RawTls>,
    pub(super) token: Option<&'a Raw>,
    pub(super) token_file: Option<&'a Raw>,
    pub(super) insecure: Option<&'a Raw>,
}

impl RawClientSecurity<'_> {
    /// What it shows, and whether it may call anybody in plain text.
    pub(super) fn parse(&self, document: &Document<'_>) -> Result<(Option<ClientSecurity>, bool), ConfigError> {
        let tls = self.tls.map(|raw| tls_files(document, raw)).transpose()?;
        let insecure = flag(document, "insecure", self.insecure)?;
        let token = match (self.token, self.token_file) {
            (None, None) => None,
            (Some(raw), None) => {
                let token: Result<Token, _> = document.text(raw)?.parse();
                let token = token.map_err(|error| document.at(line(raw), format!("token: {error}")))?;
                Some(TokenFrom::Value(token))
            }
            (None, Some(raw)) => Some(TokenFrom::File(document.path("token-file", raw)?)),
            (Some(_), Some(raw)) => {
                return Err(document.at(line(raw), "token-file: there is a `token` already: write one of them"));
            }
        };
        match (tls, token) {
            (Some(tls), token) => {
                if let Some(raw) = self.insecure.filter(|_| insecure) {
                    return Err(document.at(line(raw), "insecure: with `tls` nothing is insecure: remove one of them"));
                }
                Ok((Some(ClientSecurity { tls, token }), false))
            }
            (None, Some(_)) => {
                let raw = self.token.or(self.token_file).map_or(1, line);
                let problem = "token: without `tls` it would travel in plain text, and no node would look at it: add \
                               tls: { cert, key, ca }, or remove it";
                Err(document.at(raw, problem))
            }
            (None, None) => {
                for (raw, address) in self.cluster.iter().filter(|_| !insecure) {
                    refuse_plain(document, "cluster", raw, address, "believed, whoever answers")?;
                }
                Ok((None, insecure))
            }
        }
    }
}

/// What commands show to nodes: `client.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// A certificate and a token; without, in plain text and as anybody.
    pub security: Option<ClientSecurity>,
    /// Whether nodes on other machines may be called in plain text.
    pub insecure: bool,
}

impl ClientConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and advice.
    pub async fn load(file: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        Self::parse(file, &read(file).await?, environment)
    }

    /// Parses the text of the configuration file at `file`, whose directory relative paths start from.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and advice.
    pub fn parse(file: &Path, text: &str, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let document = Document::new(file, environment);
        let raw: RawClientFile = document.parse(text)?;
        let raw = RawClientSecurity {
            cluster: Vec::new(),
            tls: raw.tls.as_ref(),
            token: raw.token.as_ref(),
            token_file: raw.token_file.as_ref(),
            insecure: raw.insecure.as_ref(),
        };
        let (security, insecure) = raw.parse(&document)?;
        if security.is_none() && !insecure {
            return Err(document.at(1, "name tls: { cert, key, ca }, or write insecure: true"));
        }
        Ok(Self { security, insecure })
    }
}

// ---- the files as they stand

/// A key that is there has a value: `null` is none, and does not stand for its absence.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawTls {
    cert: Spanned<String>,
    key: Spanned<String>,
    ca: Spanned<String>,
}

impl RawTls {
    /// Where it stands.
    pub(super) fn line(&self) -> u64 {
        line(&self.cert)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawToken {
    name: Spanned<String>,
    hash: Option<Spanned<String>>,
    token_file: Option<Spanned<String>>,
    databases: Spanned<Vec<Spanned<String>>>,
    actions: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawClientFile {
    #[serde(default, deserialize_with = "present")]
    tls: Option<RawTls>,
    #[serde(default, deserialize_with = "present")]
    token: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "present")]
    token_file: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "present")]
    insecure: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawLimits {
    connections: Option<Spanned<String>>,
    connections_per_address: Option<Spanned<String>>,
    connections_waiting: Option<Spanned<String>>,
    handshake_timeout: Option<Spanned<String>>,
    idle_timeout: Option<Spanned<String>>,
    header_size: Option<Spanned<String>>,
    streams_per_connection: Option<Spanned<String>>,
    failures_per_minute: Option<Spanned<String>>,
}

impl RawLimits {
    fn parse(&self, document: &Document<'_>) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let count = |key: &str, raw: &Option<Raw>, range: RangeInclusive<usize>, default: usize| {
            let Some(raw) = raw else { return Ok(default) };
            let number: usize = document.value(&format!("limits.{key}"), raw)?;
            if range.contains(&number) {
                return Ok(number);
            }
            let problem = format!("limits.{key}: {number} is not within {} and {}", range.start(), range.end());
            Err(document.at(line(raw), problem))
        };
        let time = |key: &str, raw: &Option<Raw>, default: Duration| {
            let Some(raw) = raw else { return Ok(default) };
            let time = document.duration(&format!("limits.{key}"), raw)?;
            if TIMES.contains(&time) {
                return Ok(time);
            }
            Err(document.at(line(raw), format!("limits.{key}: `{}` is not within 1s and a day", raw.value)))
        };
        let header_bytes = match &self.header_size {
            None => default.header_bytes,
            Some(raw) => {
                let text = document.text(raw)?;
                let bytes = size::parse(&text).filter(|bytes| HEADER_BYTES.contains(bytes));
                let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
                let problem = || format!("limits.header-size: `{text}` is not within 4KiB and 1MiB");
                bytes.ok_or_else(|| document.at(line(raw), problem()))?
            }
        };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let limits = Limits {
            connections: count("connections", &self.connections, COUNTS, default.connections)?,
            connections_per_address: count(
                "connections-per-address",
                &self.connections_per_address,
                COUNTS,
                default.connections_per_address,
            )?,
            connections_waiting: count(
                "connections-waiting",
                &self.connections_waiting,
                COUNTS,
                default.connections_waiting,
            )?,
            handshake_timeout: time("handshake-timeout", &self.handshake_timeout, default.handshake_timeout)?,
            idle_timeout: time("idle-timeout", &self.idle_timeout, default.idle_timeout)?,
            header_bytes,
            streams: small(count(
                "streams-per-connection",
                &self.streams_per_connection,
                STREAMS,
                default.streams as usize,
            )?),
            failures_per_minute: small(count(
                "failures-per-minute",
                &self.failures_per_minute,
                COUNTS,
                default.failures_per_minute as usize,
            )?),
        };
        if let Some(raw) = &self.connections_waiting
            && limits.connections_waiting > limits.connections
        {
            let problem = format!("limits.connections-waiting: more than connections, {}", limits.connections);
            return Err(document.at(line(raw), problem));
        }
        Ok(limits)
    }
}
