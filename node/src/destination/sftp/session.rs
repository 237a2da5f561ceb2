//! One connection to a host: verified, authenticated, and speaking SFTP.

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key};
use russh::{MethodKind, MethodSet, Preferred};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::rawsession::{Limits, SftpResult};
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::extensions;
use seawall_host::{disk, time};

use super::host_key::{self, AcceptedKeys};
use super::options::SftpOptions;

/// How long to wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The host is asked for a sign of life when it has been silent for so long.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The largest private key, in bytes.
const MAX_KEY_BYTES: usize = 1 << 20;
/// How much one request carries at most, in bytes.
const MAX_CHUNK_BYTES: u64 = 128 << 10;
/// How much every server takes in one request, in bytes.
const MIN_CHUNK_BYTES: u64 = 32 << 10;
/// Servers close the connection after some attempts.
const MOST_AGENT_KEYS: usize = 4;

/// Why there is no session.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// It will not work until an operator changes something.
    Refused(String),
    /// It may work later.
    Unavailable(String),
}

/// One connection. Requests of several tasks share it.
pub(super) struct Session {
    sftp: RawSftpSession,
    /// Ends the connection when it is dropped.
    connection: client::Handle<Verifier>,
    patience: Duration,
    /// Whether the host can give a file a second name, as far as it says.
    pub(super) hardlink: bool,
    fsync: bool,
    statvfs: bool,
    /// How much one request writes at most, in bytes.
    pub(super) write_bytes: usize,
    /// How much one request reads at most, in bytes.
    pub(super) read_bytes: u32,
}

impl Session {
    /// Connects to the host that `options` describe.
    pub(super) async fn connect(options: &SftpOptions) -> Result<Self, ConnectError> {
        let accepted = AcceptedKeys::find(&options.host_proof, &options.host, options.port).await;
        let accepted = accepted.map_err(ConnectError::Refused)?;
        let mut connection = open(options, accepted).await?;
        let place = format!("{}:{}", options.host, options.port);
        let late = |_| ConnectError::Unavailable(format!("{place} did not finish logging in in time"));
        time::timeout(options.patience, authenticate(&mut connection, options)).await.map_err(late)??;
        time::timeout(options.patience, Self::speak_sftp(connection, options)).await.map_err(late)?
    }

    async fn speak_sftp(connection: client::Handle<Verifier>, options: &SftpOptions) -> Result<Self, ConnectError> {
        let refused = |error: &dyn std::fmt::Display| {
            ConnectError::Refused(format!(
                "the host does not offer SFTP to {} ({error}): enable it there",
                options.user
            ))
        };
        let channel = connection.channel_open_session().await.map_err(|error| refused(&error))?;
        channel.request_subsystem(true, "sftp").await.map_err(|error| refused(&error))?;
        let config = Config { max_packet_len: 1 << 20, request_timeout_secs: 3600, ..Config::default() };
        let mut sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = sftp.init().await.map_err(|error| refused(&error))?;
        let offers = |name: &str, number: &str| version.extensions.get(name).is_some_and(|found| found == number);
        let mut limits = Limits::default();
        if offers(extensions::LIMITS, "1")
            && let Ok(found) = sftp.limits().await
        {
            limits = Limits::from(found);
            sftp.set_limits(limits);
        }
        let chunk = |limit: Option<u64>| limit.unwrap_or(MIN_CHUNK_BYTES).clamp(1, MAX_CHUNK_BYTES);
        Ok(Self {
            hardlink: offers(extensions::HARDLINK, "1"),
            fsync: offers(extensions::FSYNC, "1"),
            statvfs: offers(extensions::STATVFS, "2"),
            write_bytes: usize::try_from(chunk(limits.write_len)).unwrap_or(usize::MAX),
            read_bytes: u32::try_from(chunk(limits.read_len)).unwrap_or(u32::MAX),
            patience: options.patience,
            sftp,
            connection,
        })
    }

    /// Whether requests can still be answered, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.connection.is_closed()
    }

    /// One request, bounded in time.
    pub(super) async fn ask<'a, T, F>(&'a self, request: impl FnOnce(&'a RawSftpSession) -> F) -> SftpResult<T>
    where
        F: Future<Output = SftpResult<T>>,
    {
        time::timeout(self.patience, request(&self.sftp)).await.unwrap_or(Err(SftpError::Timeout))
    }

    /// Makes what was written to a file durable, where the host can.
    pub(super) async fn sync(&self, handle: &str) -> SftpResult<()> {
        if self.fsync {
            self.ask(|sftp| sftp.fsync(handle)).await?;
        }
        Ok(())
    }

    /// Whether the disk that `directory` is on is full, as far as the host says.
    pub(super) async fn is_full(&self, directory: &str) -> bool {
        if !self.statvfs {
            return false;
        }
        // A file system keeps some blocks for itself.
        let space = self.ask(|sftp| sftp.statvfs(directory)).await;
        space.is_ok_and(|space| space.blocks_avail.saturating_mul(space.fragment_size) < MAX_CHUNK_BYTES * 8)
    }
}

/// Connects, and verifies the host.
async fn open(options: &SftpOptions, accepted: AcceptedKeys) -> Result<client::Handle<Verifier>, ConnectError> {
    let place = format!("{}:{}", options.host, options.port);
    let unavailable = |cause: String| ConnectError::Unavailable(format!("{place} {cause}"));
    let mut preferred = Preferred::default();
    let algorithms = accepted.algorithms();
    if !algorithms.is_empty() {
        preferred.key = Cow::Owned(algorithms);
    }
    let config = client::Config {
        preferred,
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE.min(options.patience)),
        ..client::Config::default()
    };
    let address = (options.host.as_str(), options.port);
    #[allow(clippy::disallowed_methods, reason = "the host's network knows calls between nodes, and no plain streams")]
    let connecting = tokio::net::TcpStream::connect(address);
    let connecting = time::timeout(options.patience.min(CONNECT_TIMEOUT), connecting);
    let stream = match connecting.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unavailable(format!("cannot be reached ({error})"))),
        Err(_) => return Err(unavailable("cannot be reached (it does not answer)".to_owned())),
    };
    // Each write is a request: none of them waits for the next.
    let _ = stream.set_nodelay(true);
    let shown = Arc::default();
    let verifier = Verifier { accepted, shown: Arc::clone(&shown) };
    let greeting = client::connect_stream(Arc::new(config), stream, verifier);
    match time::timeout(options.patience, greeting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(match (shown, error) {
                (Some(key), russh::Error::UnknownKey) => {
                    ConnectError::Refused(host_key::wrong_key(&options.host, &key))
                }
                (_, russh::Error::NoCommonAlgo { kind, theirs, .. }) => ConnectError::Refused(format!(
                    "{place} offers no {kind:?} algorithm that can be used, but {}: is its key in known-hosts or host-key \
                     of another kind?",
                    theirs.join(", ")
                )),
                (_, error) => unavailable(format!("broke off before it was known who it is ({error})")),
            })
        }
        Err(_) => Err(unavailable("did not answer in time".to_owned())),
    }
}

async fn authenticate(connection: &mut client::Handle<Verifier>, options: &SftpOptions) -> Result<(), ConnectError> {
    let mut tried = Vec::new();
    if let Some((file, passphrase)) = &options.key {
        tried.push(format!("the key in {}", file.display()));
        let text = disk::read_file(file, MAX_KEY_BYTES).await;
        let text = text.map_err(|error| ConnectError::Refused(format!("key-file: {}: {error}", file.display())))?;
        let text = String::from_utf8_lossy(&text);
        let key = decode_secret_key(&text, passphrase.as_ref().map(|secret| secret.reveal())).map_err(|error| {
            let advice =
                if passphrase.is_some() { "is key-passphrase right?" } else { "does it need a key-passphrase?" };
            ConnectError::Refused(format!("key-file: {}: {error}: {advice}", file.display()))
        })?;
        let hash = rsa_hash(connection, key.algorithm().is_rsa()).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        if connection.authenticate_publickey(&options.user, key).await.map_err(broken)?.success() {
            return Ok(());
        }
    }
    if let Some(password) = &options.password {
        tried.push("the password".to_owned());
        match connection.authenticate_password(&options.user, password.reveal()).await.map_err(broken)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => {
                if asks_interactively(&remaining_methods) && answer(connection, options, password.reveal()).await? {
                    return Ok(());
                }
            }
        }
    }
    if options.key.is_none() && options.password.is_none() {
        let Some(socket) = &options.agent else {
            return Err(ConnectError::Refused(format!(
                "there is nothing to log in as {} with: set key-file or password, or start an agent (SSH_AUTH_SOCK)",
                options.user
            )));
        };
        tried.push(format!("the keys of the agent at {}", socket.display()));
        if by_agent(connection, options, socket).await? {
            return Ok(());
        }
    }
    Err(ConnectError::Refused(format!(
        "the host does not let {} in by {}: mend the user in the url, key-file or password, or add the public key to \
         authorized_keys there",
        options.user,
        tried.join(" or ")
    )))
}

fn broken(error: russh::Error) -> ConnectError {
    ConnectError::Unavailable(format!("the host broke off while logging in ({error})"))
}

fn asks_interactively(methods: &MethodSet) -> bool {
    methods.contains(&MethodKind::KeyboardInteractive)
}

/// Gives the password to every question: how many hosts ask for it.
async fn answer(
    connection: &mut client::Handle<Verifier>,
    options: &SftpOptions,
    password: &str,
) -> Result<bool, ConnectError> {
    let started = connection.authenticate_keyboard_interactive_start(&options.user, None).await;
    let mut response = started.map_err(broken)?;
    // A host that asks again and again does not take the answer.
    for _ in 0..4 {
        match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let answers = prompts.iter().map(|_| password.to_owned()).collect();
                let responded = connection.authenticate_keyboard_interactive_respond(answers).await;
                response = responded.map_err(broken)?;
            }
        }
    }
    Ok(false)
}

/// Whether the host takes one of the agent's keys.
async fn by_agent(
    connection: &mut client::Handle<Verifier>,
    options: &SftpOptions,
    socket: &std::path::Path,
) -> Result<bool, ConnectError> {
    let useless = |error: &dyn std::fmt::Display| {
        ConnectError::Refused(format!("the agent at {} (SSH_AUTH_SOCK) does not answer: {error}", socket.display()))
    };
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| useless(&error))?;
    let identities = agent.request_identities().await.map_err(|error| useless(&error))?;
    if identities.is_empty() {
        return Err(ConnectError::Refused("the agent has no keys: run ssh-add".to_owned()));
    }
    for identity in identities.into_iter().take(MOST_AGENT_KEYS) {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = rsa_hash(connection, key.algorithm().is_rsa()).await?;
        let tried = connection.authenticate_publickey_with(&options.user, key, hash, &mut agent).await;
        if tried.map_err(|error| useless(&error))?.success() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn rsa_hash(connection: &client::Handle<Verifier>, rsa: bool) -> Result<Option<HashAlg>, ConnectError> {
    if !rsa {
        return Ok(None);
    }
    Ok(connection.best_supported_rsa_hash().await.map_err(broken)?.flatten())
}

/// Compares the key that the host shows with what is known of it.
struct Verifier {
    accepted: AcceptedKeys,
    /// The key that was not accepted.
    shown: Arc<Mutex<Option<PublicKey>>>,
}

impl client::Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates are not asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let accepted = self.accepted.contains(key);
        if !accepted {
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        }
        Ok(accepted)
    }
}
