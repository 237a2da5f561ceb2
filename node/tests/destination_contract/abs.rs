//! Azure Blob Storage, by Azurite.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use seawall_host::real::free_port;
use seawall_node::destination::{Destination, DestinationError, DestinationOptions, Secret, open_url};
use sha2::Sha256;

use super::program::{Program, find, on_a_small_disk};
use super::suite::{endures_a_full_disk, endures_its_network, keeps_the_contract, lists_more_than_one_page, parts};

const ACCOUNT: &str = "devstoreaccount1";
/// Azurite's own, known to everybody.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const CONTAINER: &str = "seawall-test";

struct Azurite {
    port: u16,
    _program: Program,
    _directory: tempfile::TempDir,
}

impl Azurite {
    /// Starts one and waits until it answers. On a small disk, if so many mebibytes are given, else in memory.
    async fn start(small_disk: Option<u32>) -> Option<Self> {
        let azurite = find("azurite-blob", "SEAWALL_AZURITE", "Azurite is needed: `npm install azurite`")?;
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let disk = directory.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let mut command = match small_disk {
            Some(mebibytes) => on_a_small_disk(&disk, mebibytes, &azurite),
            None => Command::new(&azurite),
        };
        match small_disk {
            Some(_) => command.arg("--location").arg(disk.join("data")),
            None => command.arg("--inMemoryPersistence"),
        };
        command.args(["--silent", "--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry"]).current_dir(directory.path());
        let mut program = Program::start(command, directory.path());
        assert!(program.wait_until(|| creates_container(port)).await, "Azurite does not come up");
        Some(Self { port, _program: program, _directory: directory })
    }

    fn options(&self) -> DestinationOptions {
        DestinationOptions {
            endpoint: Some(endpoint(self.port)),
            account_key: Some(Secret::new(KEY)),
            ..DestinationOptions::default()
        }
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}/{ACCOUNT}")
}

/// Asks for the container to be created; true once that is done.
async fn creates_container(port: u16) -> bool {
    let url = format!("{}/{CONTAINER}?restype=container", endpoint(port));
    let mut request = http::Request::put(&url).body(HttpRequestBody::empty()).unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
    let headers = request.headers().clone();
    let sent = reqwest::Client::new().put(url).headers(headers).header("content-length", 0).send().await;
    sent.is_ok_and(|answer| answer.status() == 201)
}

/// A shared access signature for everything below the account, or for less.
fn sas(permissions: &str, expiry: &str) -> Secret {
    let fields = [ACCOUNT, permissions, "b", "sco", "", expiry, "", "", "2020-08-04", ""];
    let mut signing = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(KEY).unwrap()).unwrap();
    signing.update(fields.join("\n").as_bytes());
    let signature = BASE64_STANDARD.encode(signing.finalize().into_bytes());
    let encoded: String = url::form_urlencoded::byte_serialize(signature.as_bytes()).collect();
    Secret::new(format!("sv=2020-08-04&ss=b&srt=sco&sp={permissions}&se={expiry}&sig={encoded}"))
}

fn at(container: &str, path: &str, options: &DestinationOptions) -> Arc<dyn Destination> {
    open_url(&format!("abs://{ACCOUNT}@{container}/{path}"), options, &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_keeps_the_contract() {
    seawall_host::real::install();
    let Some(server) = Azurite::start(None).await else { return };
    let options = server.options();
    keeps_the_contract(at(CONTAINER, "some/prefix", &options)).await;
    let through = |address: SocketAddr, timeout: Duration| {
        let endpoint = Some(format!("http://{address}/{ACCOUNT}"));
        let options = DestinationOptions { endpoint, timeout: Some(timeout), ..options.clone() };
        at(CONTAINER, "network", &options)
    };
    endures_its_network(SocketAddr::from(([127, 0, 0, 1], server.port)), through).await;
    // Its pages have 5000 names.
    lists_more_than_one_page(&*at(CONTAINER, "many", &options), 5_100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_lets_in_who_has_a_signature_or_a_key() {
    seawall_host::real::install();
    let Some(server) = Azurite::start(None).await else { return };
    let right = server.options();
    let by = |token: Secret| DestinationOptions { account_key: None, sas_token: Some(token), ..right.clone() };
    keeps_the_contract(at(CONTAINER, "signed", &by(sas("rwdlac", "2099-01-01T00:00:00Z")))).await;
    // As the environment has it.
    let string = format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={}", endpoint(server.port));
    let environment = |name: &str| (name == "AZURE_STORAGE_CONNECTION_STRING").then(|| string.clone());
    let url = format!("abs://{CONTAINER}/environment");
    open_url(&url, &DestinationOptions::default(), &environment).unwrap().probe().await.unwrap();

    let wrong = BASE64_STANDARD.encode("hunter2");
    let wrong_key = DestinationOptions { account_key: Some(Secret::new(&wrong)), ..right.clone() };
    let expired = sas("rwdlac", "2020-01-01T00:00:00Z");
    let signature = expired.reveal().rsplit_once("sig=").unwrap().1.to_owned();
    for (container, options, advice) in [
        ("no-such-container", right.clone(), "create the container `no-such-container`"),
        (CONTAINER, wrong_key, "mend account-key"),
        (CONTAINER, by(expired), "sas-token"),
        (CONTAINER, by(sas("r", "2099-01-01T00:00:00Z")), "let sas-token list, read, create, write and delete"),
    ] {
        let destination = at(container, "x", &options);
        let errors = [
            destination.list("").await.unwrap_err(),
            destination.probe().await.unwrap_err(),
            destination.create("a", parts(&["x"])).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(advice) && text.contains(container), "{advice}: {text}");
            assert!(!text.contains(&wrong) && !text.contains(&signature) && !text.contains(KEY), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_azurite_is_said_and_survived() {
    seawall_host::real::install();
    let Some(server) = Azurite::start(Some(16)).await else { return };
    endures_a_full_disk(&*at(CONTAINER, "full", &server.options()), "answered").await;
}
