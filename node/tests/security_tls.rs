//! Certificates: who is let in, how they are renewed, and a whole cluster that was set up by the commands.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod secured;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seawall_host::net::{self, Address, Channel, ChannelOptions, ServeOptions};
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_node::reconfigure::keep_tokens;
use seawall_node::security::certificates::{Authority, Subject};
use seawall_node::security::{Role, TlsFiles, Token};
use seawall_proto::v1;
use seawall_proto::v1::cluster_client::ClusterClient;
use secured::{CLUSTER, PATIENCE, Secured, call, entry, framed, write};
use support::application::{self, Contents};
use support::{Cluster, Process, Security, seawall, stdout, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(90);
const SEED: u64 = 29;

/// What becomes of a call with these certificates.
async fn attempt(it: &Secured, files: &TlsFiles, token: &Token) -> Result<Vec<String>, String> {
    let caller = it.call_as(files, Some(token)).await;
    time::timeout(PATIENCE, caller.databases()).await.unwrap().map_err(|status| status.message().to_owned())
}

#[tokio::test]
async fn strangers_are_not_let_in_and_hold_up_nobody() {
    seawall_host::real::install();
    let token = Token::generate();
    let it = Secured::start(&[entry("a", &token, "a", "write")], "").await;
    let directory = it.directory.path();
    let good = it.issue(Role::Agent, "good");
    assert!(attempt(&it, &good, &token).await.is_ok());

    let now = UnixMillis::now();
    let days_ago = |days: i64| UnixMillis(now.0 - days * 86_400_000);
    let expired = write(directory, "expired", &it.authority, Role::Agent, days_ago(3), 1);
    let refused = attempt(&it, &expired, &token).await.unwrap_err();
    assert!(refused.contains("xpired"), "{refused}");

    // By an authority of the same name, which is all that its certificate shows.
    let other = Authority::create(CLUSTER, now, 10).unwrap();
    let mut foreign = write(directory, "foreign", &other, Role::Node, now, 1);
    let refused = attempt(&it, &foreign, &token).await.unwrap_err();
    assert!(refused.contains("ertificate"), "the agent does not believe the node: {refused}");
    // It believes the node, and the node does not believe it.
    let believing = directory.join("believing.pem");
    fs::write(&believing, format!("{}{}", other.certificate(), it.authority.certificate())).unwrap();
    foreign.ca = believing;
    let refused = attempt(&it, &foreign, &token).await.unwrap_err();
    assert!(!refused.contains("token"), "{refused}");

    // Plain text to a port of TLS.
    let plain = Channel::new(it.address(), ChannelOptions::default());
    let mut plain = ClusterClient::new(plain);
    let answer = plain.get_status(v1::GetStatusRequest { local_only: true });
    assert!(time::timeout(PATIENCE, answer).await.unwrap().is_err());
    let Address::Tcp(address) = it.address() else { panic!() };
    let mut raw = TcpStream::connect(address).await.unwrap();
    raw.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = time::timeout(PATIENCE, raw.read_to_end(&mut said)).await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");

    assert!(attempt(&it, &good, &token).await.is_ok());
}

#[tokio::test]
async fn tls_to_a_port_of_plain_text_fails_at_once() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(CLUSTER, UnixMillis::now(), 10).unwrap();
    let files = write(directory.path(), "agent", &authority, Role::Agent, UnixMillis::now(), 1);
    let address = "127.0.0.1:0".parse().unwrap();
    let server = net::serve(address, tonic::service::Routes::default(), ServeOptions::default()).await.unwrap();
    let caller = call(server.address(), &files, None).await;
    let refused = time::timeout(Duration::from_secs(10), caller.databases()).await.unwrap().unwrap_err();
    assert!(refused.message().contains("TLS with 127.0.0.1"), "{}", refused.message());
}

#[tokio::test]
async fn a_node_is_known_by_the_address_that_it_is_called_by() {
    seawall_host::real::install();
    let token = Token::generate();
    let it = Secured::start(&[entry("a", &token, "a", "write")], "").await;
    let files = it.issue(Role::Agent, "a");
    let Address::Tcp(address) = it.address() else { panic!() };
    let by_name: Address = format!("localhost:{}", address.rsplit_once(':').unwrap().1).parse().unwrap();
    assert!(call(&by_name, &files, Some(&token)).await.databases().await.is_ok());

    let elsewhere = Subject { role: Role::Node, name: "1".to_owned(), hosts: vec!["node1.example.org".to_owned()] };
    let issued = it.authority.issue(&elsewhere, UnixMillis::now(), 5).unwrap();
    fs::write(it.directory.path().join("node-1.key"), issued.key).unwrap();
    fs::write(it.directory.path().join("node-1.pem"), issued.certificate).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        assert!(Instant::now() < deadline, "the new certificate is not taken");
        if let Err(refused) = attempt(&it, &files, &token).await {
            break refused;
        }
    };
    assert!(refused.contains("not valid for name") || refused.contains("NotValidForName"), "{refused}");
}

#[tokio::test]
async fn an_authority_that_is_taken_away_takes_its_connections_along() {
    seawall_host::real::install();
    let token = Token::generate();
    let it = Secured::start(&[entry("a", &token, "a", "write")], "").await;
    let _watch =
        seawall_host::task::spawn_owned(keep_tokens(it.config_file(), it.config.clone(), it.node.access().clone()));
    let directory = it.directory.path();
    let new = Authority::create(CLUSTER, UnixMillis::now(), 10).unwrap();
    let both = format!("{}{}", it.authority.certificate(), new.certificate());
    let (node_ca, by_old) = (directory.join("node-1-ca.pem"), it.issue(Role::Agent, "old"));
    fs::write(&by_old.ca, &both).unwrap();
    let by_new = write(directory, "new", &new, Role::Agent, UnixMillis::now(), 1);
    fs::write(&by_new.ca, &both).unwrap();
    assert!(attempt(&it, &by_new, &token).await.is_err());

    // First both are taken, so that nobody is cut off.
    fs::write(&node_ca, &both).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while attempt(&it, &by_new, &token).await.is_err() {
        assert!(Instant::now() < deadline, "the new authority is not taken");
    }
    let old = it.call_as(&by_old, Some(&token)).await;
    let Some(v1::claim_response::Outcome::Granted(granted)) = old.claim("a").await.unwrap().outcome else { panic!() };
    let open = v1::AppendOpen { database: "a".to_owned(), lineage: 1, epoch: granted.epoch, agent_id: 7 };
    let open = v1::AppendRequest { message: Some(v1::append_request::Message::Open(open)) };
    let messages = futures::StreamExt::chain(futures::stream::iter([open]), futures::stream::pending());
    let mut stream = old.ingest().append(messages).await.unwrap().into_inner();

    // Then the node has a certificate of the new one, and the old one is not taken any more.
    let renewed = write(directory, "renewed", &new, Role::Node, UnixMillis::now(), 1);
    fs::copy(&renewed.key, directory.join("node-1.key")).unwrap();
    fs::copy(&renewed.cert, directory.join("node-1.pem")).unwrap();
    fs::write(&node_ca, new.certificate()).unwrap();
    let ended = time::timeout(PATIENCE, stream.message()).await.expect("the stream is cut off");
    assert!(ended.is_err(), "{ended:?}");
    let deadline = Instant::now() + PATIENCE;
    while attempt(&it, &by_old, &token).await.is_ok() {
        assert!(Instant::now() < deadline, "the old authority is still taken");
    }
    assert!(attempt(&it, &by_new, &token).await.is_ok());
}

#[tokio::test]
async fn identity_of_nodes_is_asked_only_by_nodes() {
    seawall_host::real::install();
    let it = Secured::start(&[], "").await;
    let identify = framed(&prost::Message::encode_to_vec(&v1::IdentifyRequest { cluster: CLUSTER.to_owned() }));
    let node = it.call(Role::Node, None).await.raw("/seawall.v1.Peer/Identify", identify.clone()).await.unwrap();
    assert_eq!(node.code, tonic::Code::Ok, "{}", node.message);
    for role in [Role::Agent, Role::Client] {
        let refused = it.call(role, None).await.raw("/seawall.v1.Peer/Identify", identify.clone()).await.unwrap();
        assert_eq!(refused.code, tonic::Code::Unauthenticated, "{}", refused.message);
    }
}

// ---- with real processes

#[test]
#[ignore = "a process of the other tests"]
fn application_process() {
    application::run_if_asked();
}

/// What `seawall token` makes: the entry of `tokens`, and the token.
fn make_token(directory: &Path, name: &str, databases: &str, actions: &str) -> (String, String) {
    let file = directory.join(format!("{name}.token"));
    let file = file.to_str().unwrap();
    let made = seawall(["token", name, "--databases", databases, "--actions", actions, "-o", file, "--json"]);
    let made: serde_json::Value = serde_json::from_str(&stdout(&made)).unwrap();
    assert!(made["token"].is_null(), "it is in the file");
    (made["config"].as_str().unwrap().to_owned(), fs::read_to_string(file).unwrap().trim().to_owned())
}

/// Certificates and tokens for a cluster of three that was not started yet; answers the tokens.
fn secure(cluster: &mut Cluster) -> Vec<String> {
    let pki = cluster.path("pki");
    let output = pki.to_str().unwrap();
    let mut arguments = vec!["cert", "--cluster", "test", "-o", output, "--agent", "app,other", "--client", "ops"];
    arguments.extend(["--node", "1=127.0.0.1", "--node", "2=127.0.0.1", "--node", "3=127.0.0.1"]);
    let made = stdout(&seawall(&arguments));
    assert_eq!(made.lines().count(), 14, "{made}");
    assert!(!seawall(&arguments).status.success(), "nothing is overwritten");
    let (app, app_token) = make_token(&pki, "app", "app", "write");
    let (other, other_token) = make_token(&pki, "other", "other", "write");
    let (ops, ops_token) = make_token(&pki, "ops", "**", "restore,admin");
    let shown = pki.display();
    cluster.secure(Security {
        node: format!(
            "tls: {{ cert: {shown}/node-ID.pem, key: {shown}/node-ID.key, ca: {shown}/ca.pem }}\n\
             tokens:\n{app}\n{other}\n{ops}\n"
        ),
        agent: agent_security(&pki, "app"),
        client: [
            ("--tls-ca", "ca.pem"),
            ("--tls-cert", "client-ops.pem"),
            ("--tls-key", "client-ops.key"),
            ("--token-file", "ops.token"),
        ]
        .into_iter()
        .flat_map(|(argument, file)| [argument.to_owned(), pki.join(file).display().to_string()])
        .collect(),
    });
    vec![app_token, other_token, ops_token]
}

fn agent_security(pki: &Path, name: &str) -> String {
    let pki = pki.display();
    format!(
        "tls: {{ cert: {pki}/agent-{name}.pem, key: {pki}/agent-{name}.key, ca: {pki}/ca.pem }}\n\
         token-file: {pki}/{name}.token\n"
    )
}

/// The value of a metric of a node.
fn metric(cluster: &Cluster, index: usize, name: &str) -> Option<f64> {
    let metrics = cluster.http_get(index, "/metrics");
    let line = metrics.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn a_cluster_set_up_by_the_commands_ships_restores_and_is_renewed_while_it_writes() {
    let mut cluster = Cluster::new(3, "");
    let tokens = secure(&mut cluster);
    let pki = cluster.path("pki");
    let database = cluster.path("app.db");
    application::create(&database);
    cluster.add_database(database.clone(), "app");
    cluster.start_nodes();
    cluster.wait_for_leader();
    cluster.start_agent();
    application::write(&database, SEED, Some(50));
    cluster.sync_until_done("app", "all", LONG);

    keys_are_their_owners(&pki);
    commands_without_what_they_need_are_refused(&cluster);
    let other = another_agents_token_is_refused(&cluster, &database);

    let ends = metric(&cluster, 0, "seawall_certificate_expiry_timestamp_seconds").unwrap();
    let writer = Process::new(application::spawn(&database, SEED), "application");
    // Clocks that tell seconds give two certificates of one second the same end.
    std::thread::sleep(Duration::from_millis(1_100));
    let output = pki.to_str().unwrap();
    let mut renewal = vec!["cert", "--renew", "--cluster", "test", "-o", output, "--agent", "app"];
    renewal.extend(["--node", "1=127.0.0.1", "--node", "2=127.0.0.1", "--node", "3=127.0.0.1"]);
    stdout(&seawall(&renewal));
    for index in 0..3 {
        wait_for(&format!("node {} takes the new certificate", index + 1), LONG, || {
            let now = metric(&cluster, index, "seawall_certificate_expiry_timestamp_seconds");
            now.is_some_and(|now| now > ends)
        });
    }
    wait_for("the agent takes the new certificate", LONG, || {
        fs::read_to_string(cluster.path("agent.log")).unwrap().contains("certificates were taken anew")
    });
    // Whoever is connected stays so; who connects now shows the new one.
    let leader = cluster.wait_for_leader();
    cluster.kill_node(leader);
    cluster.wait_for_leader();
    cluster.sync_until_done("app", "quorum", LONG);
    cluster.start_node(leader);
    cluster.wait_until_it_answers(leader);
    writer.kill();
    cluster.sync_until_done("app", "all", LONG);
    let source = Contents::read(&database).unwrap();
    for index in 0..3 {
        let restored = cluster.restore(&format!("seawall://{}/app", cluster.address(index)), &[]);
        assert_eq!(Contents::read(&restored.unwrap()).unwrap(), source);
    }
    other.kill();
    for entry in fs::read_dir(cluster.directory.path()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let log = fs::read_to_string(entry.path()).unwrap();
            assert!(tokens.iter().all(|token| !log.contains(token)), "a token is shown in {:?}", entry.path());
        }
    }
}

fn keys_are_their_owners(pki: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(pki).unwrap().flatten() {
        let path: PathBuf = entry.path();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let is_public = path.extension().is_some_and(|extension| extension == "pem");
        assert_eq!(mode, if is_public { 0o644 } else { 0o600 }, "{}", path.display());
    }
}

fn commands_without_what_they_need_are_refused(cluster: &Cluster) {
    let addresses = cluster.addresses();
    let plain = seawall(["status", "--cluster", &addresses]);
    assert!(!plain.status.success());
    let all = cluster.client_arguments();
    let without_token =
        seawall(["status", "--cluster", &addresses].into_iter().chain(all[..6].iter().map(String::as_str)));
    assert!(!without_token.status.success());
    let said = String::from_utf8_lossy(&without_token.stderr).into_owned();
    assert!(said.contains("a token is needed"), "{said}");
    let elsewhere = seawall(["status", "--cluster", "192.0.2.1:7400"]);
    assert_eq!(elsewhere.status.code(), Some(2));
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("--insecure"), "{said}");
}

/// An agent that ships `app` with the token of another one.
fn another_agents_token_is_refused(cluster: &Cluster, database: &Path) -> Process {
    let config = cluster.path("other.yml");
    let own = fs::read_to_string(cluster.path("agent.yml")).unwrap();
    let security = agent_security(&cluster.path("pki"), "other");
    let rest: Vec<&str> = own.lines().filter(|line| !line.starts_with("tls:") && !line.starts_with("token")).collect();
    let rest = rest.join("\n").replace("agent.sock", "other.sock");
    assert!(rest.contains(database.to_str().unwrap()));
    fs::write(&config, format!("{security}{rest}\n")).unwrap();
    let log = fs::File::create(cluster.path("other.log")).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["agent", "--take-over", "--config", config.to_str().unwrap()])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let other = Process::new(child, "another agent");
    wait_for("the other agent is told that its token is not for this", LONG, || {
        let log = fs::read_to_string(cluster.path("other.log")).unwrap();
        log.contains("the token `other` is not for the database `app`")
    });
    other
}
