//! S3, by SeaweedFS.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use seawall_node::destination::{Creation, Destination, DestinationError, DestinationOptions, Secret, open_url};

use super::program::{find, run};
use super::s3_server::{BUCKET, S3Server};
use super::suite::{endures_its_network, keeps_the_contract, large, lists_more_than_one_page, parts, stream_of};

fn at(url: &str, options: &DestinationOptions) -> Arc<dyn Destination> {
    open_url(url, options, &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_contract() {
    seawall_host::real::install();
    let Some(server) = S3Server::start().await else { return };
    let options = server.options();
    keeps_the_contract(at(&format!("s3://{BUCKET}/some/prefix"), &options)).await;
    lists_more_than_one_page(&*at(&format!("s3://{BUCKET}/pages"), &options), 1100).await;
    says_what_to_do(&options).await;
    stores_as_it_is_told(&options).await;
    let address = server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let through = |address: SocketAddr, timeout: Duration| {
        let endpoint = Some(format!("http://{address}"));
        let options = DestinationOptions { endpoint, timeout: Some(timeout), ..options.clone() };
        at(&format!("s3://{BUCKET}/network"), &options)
    };
    endures_its_network(address, through).await;
}

/// What a wrong configuration gives: an error that will not go away by itself, with advice.
async fn says_what_to_do(right: &DestinationOptions) {
    let wrong_id = DestinationOptions { access_key_id: Some("nobody".to_owned()), ..right.clone() };
    let wrong_secret = DestinationOptions { secret_access_key: Some(Secret::new("hunter2")), ..right.clone() };
    // SeaweedFS creates a missing bucket when something is put into it, so that only reading finds it missing.
    for (bucket, options, advice, writes) in [
        ("no-such-bucket", right, "create the bucket `no-such-bucket`", false),
        (BUCKET, &wrong_id, "access-key-id", true),
        (BUCKET, &wrong_secret, "secret-access-key", true),
    ] {
        let destination = at(&format!("s3://{bucket}/x"), options);
        let mut errors = vec![destination.list("").await.unwrap_err()];
        if writes {
            errors.push(destination.probe().await.unwrap_err());
            errors.push(destination.create("a", parts(&["x"])).await.unwrap_err());
        }
        for error in errors {
            assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(advice) && text.contains(bucket) && !text.contains("hunter2"), "{text}");
        }
    }
}

/// Storage class and encryption are taken, for objects of one part and of several. (What SeaweedFS answers to a read with
/// a key of the customer's has a header twice, which the SDK does not take.)
async fn stores_as_it_is_told(right: &DestinationOptions) {
    let options = DestinationOptions {
        storage_class: Some("STANDARD_IA".to_owned()),
        sse: Some("AES256".to_owned()),
        ..right.clone()
    };
    let destination = at(&format!("s3://{BUCKET}/encrypted"), &options);
    destination.probe().await.unwrap();
    for (name, length) in [("small", 5_000), ("large", 40_000_123)] {
        let content = large(length);
        let created = destination.create_streaming(name, None, stream_of(content.clone())).await;
        assert_eq!(created.unwrap(), Creation::Created, "{name}");
        assert!(destination.read(name, 0, u64::MAX).await.unwrap() == content.concat(), "{name}");
        let again = destination.create_streaming(name, None, stream_of(large(length))).await;
        assert_eq!(again.unwrap(), Creation::AlreadyExists, "{name}");
    }
}

/// A store whose certificate only its operator knows.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_ones_own_are_trusted_when_told() {
    seawall_host::real::install();
    let advice = "OpenSSL is needed: `apt-get install openssl`";
    let Some(openssl) = find("openssl", "SEAWALL_OPENSSL", advice) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let make = |name: &str, extension: &str| {
        let mut make = Command::new(&openssl);
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        make.args(["-days", "2", "-subj", &format!("/CN={name}"), "-addext", extension]);
        make.arg("-keyout").arg(file(&format!("{name}.key"))).arg("-out").arg(file(&format!("{name}.pem")));
        make
    };
    run(&mut make("authority", "keyUsage=critical,keyCertSign"));
    let mut leaf = make("store", "subjectAltName=IP:127.0.0.1");
    leaf.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run(leaf.arg("-CA").arg(file("authority.pem")).arg("-CAkey").arg(file("authority.key")));
    let (authority, certificate, key) = (file("authority.pem"), file("store.pem"), file("store.key"));
    let Some(server) = S3Server::start_with(Some((certificate, key.clone()))).await else { return };
    let strangers = DestinationOptions { endpoint: server.tls_endpoint(), ..server.options() };
    let url = format!("s3://{BUCKET}/tls");
    let error = at(&url, &strangers).probe().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    for (file, says) in [(&key, "no certificates in it"), (&directory.path().join("none"), "ca-file: ")] {
        let options = DestinationOptions { ca_file: Some(file.clone()), ..strangers.clone() };
        let error = at(&url, &options).probe().await.unwrap_err();
        assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let known = DestinationOptions { ca_file: Some(authority), ..strangers };
    at(&url, &known).probe().await.unwrap();
}
