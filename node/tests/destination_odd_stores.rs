//! Stores that speak S3, more or less.

#![cfg(feature = "s3")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use seawall_node::destination::{Creation, Destination, DestinationError, DestinationOptions, Secret, open_url};

/// How a store differs from the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// Writes over what is there, whatever the condition.
    IgnoresConditions,
    /// Does not know the condition.
    RefusesConditions,
    /// Sends whole objects where ranges are asked for.
    IgnoresRanges,
    /// Answers everything with this status and code.
    Answers(StatusCode, &'static str),
}

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

async fn answer(State((oddity, objects)): State<(Oddity, Objects)>, request: Request) -> Response {
    if let Oddity::Answers(status, code) = oddity {
        let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
        return (status, text).into_response();
    }
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let conditional = request.headers().contains_key("if-none-match");
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let mut objects = objects.lock().unwrap();
    match method {
        Method::PUT if conditional && oddity == Oddity::RefusesConditions => {
            let text = "<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>";
            (StatusCode::NOT_IMPLEMENTED, text).into_response()
        }
        Method::PUT => {
            objects.insert(path, body);
            StatusCode::OK.into_response()
        }
        Method::DELETE => {
            objects.remove(&path);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => match objects.get(&path) {
            Some(object) => Body::from(object.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

async fn store(oddity: Oddity) -> (Arc<dyn Destination>, Objects) {
    seawall_host::real::install();
    let objects = Objects::default();
    let router = Router::new().fallback(answer).with_state((oddity, Arc::clone(&objects)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let options = DestinationOptions {
        endpoint: Some(endpoint),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some(Secret::new("hunter2")),
        ..DestinationOptions::default()
    };
    (open_url("s3://bucket/x", &options, &|_| None).unwrap(), objects)
}

fn content(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

#[tokio::test]
async fn a_store_without_conditional_creation_is_noticed_and_used_with_care() {
    for oddity in [Oddity::IgnoresConditions, Oddity::RefusesConditions] {
        let (destination, objects) = store(oddity).await;
        destination.probe().await.unwrap();
        assert!(!destination.creates_conditionally(), "{oddity:?}");
        assert_eq!(objects.lock().unwrap().len(), 0, "probing leaves something behind");
        assert_eq!(destination.create("a", content("first")).await.unwrap(), Creation::Created);
        assert_eq!(destination.create("a", content("second")).await.unwrap(), Creation::AlreadyExists);
        assert_eq!(destination.read("a", 0, 10).await.unwrap(), "first");
    }
}

#[tokio::test]
async fn a_whole_object_is_not_taken_for_a_range_of_it() {
    let (destination, _) = store(Oddity::IgnoresRanges).await;
    destination.create("a", content("abcdef")).await.unwrap();
    assert_eq!(destination.read("a", 0, 10).await.unwrap(), "abcdef");
    for (offset, length) in [(2, 2), (0, 2)] {
        let error = destination.read("a", offset, length).await.unwrap_err();
        assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn answers_tell_what_will_pass_from_what_must_be_mended() {
    let refused = [
        (404, "NoSuchBucket", "create the bucket `bucket`"),
        (403, "AccessDenied", "let this key list, get, put and delete"),
        (403, "InvalidAccessKeyId", "access-key-id"),
        (403, "SignatureDoesNotMatch", "secret-access-key"),
        (301, "PermanentRedirect", "region"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (403, "RequestTimeTooSkewed", "clock"),
    ];
    for (status, code, advice) in refused {
        let (destination, _) = store(Oddity::Answers(StatusCode::from_u16(status).unwrap(), code)).await;
        let error = destination.create("app/a", content("x")).await.unwrap_err();
        assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        let names = ["s3://bucket/x", "create app/a", code, advice];
        assert!(names.iter().all(|part| text.contains(part)) && !text.contains("hunter2"), "{text}");
    }
    for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (507, "InsufficientStorage"), (429, "TooMany")] {
        let (destination, _) = store(Oddity::Answers(StatusCode::from_u16(status).unwrap(), code)).await;
        let error = destination.create("app/a", content("x")).await.unwrap_err();
        assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Takes everything, and remembers what came with it.
async fn remember(State(seen): State<Seen>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let upload = query.contains("upload");
    let what = match (&method, upload) {
        (&Method::POST, true) if query.starts_with("uploads") => "begin",
        (&Method::POST, true) => "complete",
        (&Method::PUT, true) => "part",
        (&Method::PUT, false) => "put",
        (&Method::HEAD, _) => "head",
        _ => "get",
    };
    seen.lock().unwrap().push((what.to_owned(), request.headers().clone()));
    to_bytes(request.into_body(), 64 << 20).await.unwrap();
    let etag = [("etag", "\"1\"")];
    match what {
        "begin" => {
            "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>".into_response()
        }
        "complete" => "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>".into_response(),
        "head" => StatusCode::NOT_FOUND.into_response(),
        _ => (etag, "x").into_response(),
    }
}

/// What the requests of one small and one large creation and a read carry, in this header.
async fn carried(options: DestinationOptions, header: &str) -> BTreeMap<String, Option<String>> {
    seawall_host::real::install();
    let seen = Seen::default();
    let router = Router::new().fallback(remember).with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let options = DestinationOptions {
        endpoint: Some(endpoint),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some(Secret::new("hunter2")),
        ..options
    };
    let destination = open_url("s3://bucket/x", &options, &|_| None).unwrap();
    destination.create("small", content("x")).await.unwrap();
    let large = futures::stream::iter([Ok(Bytes::from(vec![0; 17 << 20]))]);
    destination.create_streaming("large", None, Box::pin(large)).await.unwrap();
    destination.read("small", 0, 1).await.unwrap();
    let seen = seen.lock().unwrap();
    let value = |headers: &HeaderMap| headers.get(header).map(|value| value.to_str().unwrap().to_owned());
    seen.iter().map(|(what, headers)| (what.clone(), value(headers))).collect()
}

#[tokio::test]
async fn storage_class_and_encryption_go_with_the_requests_they_concern() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let customer = DestinationOptions { sse_customer_key: Some(Secret::new(key)), ..DestinationOptions::default() };
    let kms = DestinationOptions {
        sse_kms_key_id: Some("alias/backups".to_owned()),
        storage_class: Some("standard_ia".to_owned()),
        ..DestinationOptions::default()
    };
    let everywhere: &[&str] = &["begin", "complete", "get", "head", "part", "put"];
    let created: &[&str] = &["begin", "put"];
    for (options, header, value, expected) in [
        (&customer, "x-amz-server-side-encryption-customer-key", key, everywhere),
        (&customer, "x-amz-server-side-encryption-customer-key-md5", "tP/LI3N87DFaSk0aoqYgzg==", everywhere),
        (&customer, "x-amz-server-side-encryption-customer-algorithm", "AES256", everywhere),
        (&kms, "x-amz-server-side-encryption", "aws:kms", created),
        (&kms, "x-amz-server-side-encryption-aws-kms-key-id", "alias/backups", created),
        (&kms, "x-amz-storage-class", "STANDARD_IA", created),
    ] {
        let carried = carried(options.clone(), header).await;
        assert_eq!(carried.keys().map(String::as_str).collect::<Vec<_>>(), everywhere);
        for (what, found) in carried {
            let expected = expected.contains(&what.as_str()).then_some(value);
            assert_eq!(found.as_deref(), expected, "{header} of {what}");
        }
    }
}
