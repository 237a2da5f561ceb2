//! A node with certificates and tokens, in this process, and clients of all kinds.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::task::OwnedTask;
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_node::config::NodeConfig;
use seawall_node::node::{Node, NodeParts};
use seawall_node::security::certificates::{Authority, Subject};
use seawall_node::security::{ClientSecurity, Role, TlsFiles, Token, TokenFrom, open_client};
use seawall_node::store::sled_kv::SledKv;
use seawall_proto::v1;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::v1::ingest_client::IngestClient;
use tonic::body::Body;
use tower::ServiceExt;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster's name.
pub const CLUSTER: &str = "prod";

/// An entry of `tokens`.
pub fn entry(name: &str, token: &Token, databases: &str, actions: &str) -> String {
    format!("{{ name: {name}, hash: \"{}\", databases: [ {databases} ], actions: [ {actions} ] }}", token.hash())
}

/// A cluster of one.
pub struct Secured {
    pub directory: tempfile::TempDir,
    pub authority: Authority,
    pub config: NodeConfig,
    pub node: Node,
    more: String,
}

/// A client of it.
pub struct Caller {
    pub channel: Channel,
    _rotation: OwnedTask,
}

impl Secured {
    /// Starts it with these entries of `tokens` and `more` lines of its node.yml.
    pub async fn start(tokens: &[String], more: &str) -> Self {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create(CLUSTER, UnixMillis::now(), 10).unwrap();
        let files = write(directory.path(), "node-1", &authority, Role::Node, UnixMillis::now(), 5);
        assert_eq!(files.ca, directory.path().join("node-1-ca.pem"));
        let path = directory.path().join("node.yml");
        fs::write(&path, yaml(tokens, more)).unwrap();
        let config = NodeConfig::load(&path, &|_| None).await.unwrap();
        let parts = NodeParts::new(&config, SledKv::opener()).unwrap();
        let node = Node::start(config.clone(), parts).await.unwrap();
        let secured = Self { directory, authority, config, node, more: more.to_owned() };
        secured.wait_until_it_leads().await;
        secured
    }

    /// Where its node.yml is.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("node.yml")
    }

    /// Writes node.yml anew with these entries of `tokens`.
    pub fn rewrite(&self, tokens: &[String]) {
        fs::write(self.config_file(), yaml(tokens, &self.more)).unwrap();
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.node.address()
    }

    /// A certificate of its authority, valid for a day.
    pub fn issue(&self, role: Role, name: &str) -> TlsFiles {
        write(self.directory.path(), name, &self.authority, role, UnixMillis::now(), 1)
    }

    /// A client with this certificate.
    pub async fn call_as(&self, tls: &TlsFiles, token: Option<&Token>) -> Caller {
        call(self.address(), tls, token).await
    }

    /// A client with a certificate of its authority.
    pub async fn call(&self, role: Role, token: Option<&Token>) -> Caller {
        let files = self.issue(role, &format!("{}-x", role.as_str()));
        self.call_as(&files, token).await
    }

    async fn wait_until_it_leads(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.node.replica().leadership().is_leader {
            assert!(Instant::now() < deadline, "it does not lead");
            time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn yaml(tokens: &[String], more: &str) -> String {
    let tokens: String = tokens.iter().map(|token| format!("  - {token}\n")).collect();
    let tokens = if tokens.is_empty() { tokens } else { format!("tokens:\n{tokens}") };
    // Nobody calls a cluster's only node but those that are told where it listens.
    format!(
        "node: {{ id: 1, data-dir: data, listen: \"127.0.0.1:0\" }}\n\
         cluster: {{ name: {CLUSTER}, nodes: [ {{ id: 1, address: \"127.0.0.1:0\" }} ] }}\n\
         tls: {{ cert: node-1.pem, key: node-1.key, ca: node-1-ca.pem }}\n{tokens}{more}\n"
    )
}

/// Has `authority` issue a certificate and writes everything that is needed to use it.
pub fn write(
    directory: &std::path::Path,
    stem: &str,
    authority: &Authority,
    role: Role,
    from: UnixMillis,
    days: u32,
) -> TlsFiles {
    let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let issued = authority.issue(&Subject { role, name: "1".to_owned(), hosts }, from, days).unwrap();
    let path = |end: &str| directory.join(format!("{stem}{end}"));
    let files = TlsFiles { cert: path(".pem"), key: path(".key"), ca: path("-ca.pem") };
    fs::write(&files.key, issued.key).unwrap();
    fs::write(&files.cert, issued.certificate).unwrap();
    fs::write(&files.ca, authority.certificate()).unwrap();
    files
}

/// A client of whoever is at `address`.
pub async fn call(address: &Address, tls: &TlsFiles, token: Option<&Token>) -> Caller {
    let security = ClientSecurity { tls: tls.clone(), token: token.cloned().map(TokenFrom::Value) };
    let (credentials, rotation) = open_client(&security).await.unwrap();
    let channel = Channel::new(address, ChannelOptions::with_credentials(Some(credentials)));
    Caller { channel, _rotation: rotation }
}

/// What came of a call that was put together by hand.
#[derive(Debug)]
pub struct Answer {
    /// The status of gRPC.
    pub code: tonic::Code,
    /// What it says.
    pub message: String,
    /// Bytes of the answer.
    pub body: Bytes,
}

impl Caller {
    /// Calls `path` with this body.
    pub async fn raw(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, String> {
        let body = Body::new(http_body_util::Full::new(body.into()));
        let request = http::Request::post(format!("http://node{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
        let response = self.channel.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let of = |name: &str| parts.headers.get(name).or(trailers.get(name)).map(|it| it.to_str().unwrap().to_owned());
        let code = of("grpc-status").ok_or_else(|| format!("no status of gRPC, but {}", parts.status))?;
        let message = of("grpc-message").unwrap_or_default();
        Ok(Answer { code: tonic::Code::from(code.parse::<i32>().unwrap()), message, body: collected.to_bytes() })
    }

    pub fn ingest(&self) -> IngestClient<Channel> {
        IngestClient::new(self.channel.clone())
    }

    /// `GetStatus`: the databases that are shown.
    pub async fn databases(&self) -> Result<Vec<String>, tonic::Status> {
        let mut client = ClusterClient::new(self.channel.clone());
        let status = client.get_status(v1::GetStatusRequest { local_only: false }).await?.into_inner();
        Ok(status.databases.into_iter().map(|database| database.name).collect())
    }

    pub async fn claim(&self, database: &str) -> Result<v1::ClaimResponse, tonic::Status> {
        let claim = v1::ClaimRequest {
            database: database.to_owned(),
            agent_id: 7,
            agent_label: "test".to_owned(),
            take_over: true,
        };
        self.ingest().claim(claim).await.map(tonic::Response::into_inner)
    }
}

/// A message of gRPC as it travels.
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed.into()
}
