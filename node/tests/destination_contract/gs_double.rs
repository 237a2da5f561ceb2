//! A double of Google Cloud Storage's JSON API, for what no emulator shows: conditions, pages, who is asking, uploads
//! that stop half way, and a store that has a bad day.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Value, json};

pub const BUCKET: &str = "seawall-test";
pub const ACCOUNT: &str = "backup@project.iam.gserviceaccount.com";
pub const MACHINE_TOKEN: &str = "token-of-this-machine";
/// The most names on a page, whatever is asked for.
pub const PAGE: usize = 500;

/// A key that belongs to nobody.
const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC4BuThXqvoAJQx\n\
62N1wijVJ/5LOKIupJ+b6cEdRY0evvkdtxgOGzcCtGw8LG3MKOXdJ9l9qyAwhhEU\n\
2wsavbA9zx2nCbhffxA6yncmnWGMc/nXfgT9jnxZjMEpIAM8IaD5E9+lV4RCkO/R\n\
HQL7Cq8lxddvtXmR2yYnUOJVS3yrYhslDGYvE9NQnCcNPQohD18zH2Ixl7feS/ZK\n\
hetOtMZWytZNgIS8wlSUsoS3WlE6urfCzFTNo1Wvi7GfvvSU48Zij5GGdkMhtfAH\n\
LPVMAJPFiAcQh95pNStBRC5j/lpuV908Qpv5nzETPid7bziRop/i/Z1kYHNzkjva\n\
cRlq2YM3AgMBAAECggEAA9RKxxDSISeuonR2OAGbZPdguWpyrm8URq8IslQdha/Z\n\
YxGNYuH+NTkzS9Xz5Q233g4qKd/qlyUSFZGpCNiIFy9ISvhHdN8h7ukgcP+rmgce\n\
IFAXDH5275dFNIPtA+UCTdfSFQGSi7z93a71Rc1QlTiw2is35X+ayRvxlQWa60VL\n\
Oq3Y067anh3yrNQ8pJDq/Q5sOzmiZUecyi87j2yws+2SQ/ZExJh9Qd/1Hn6OOaaR\n\
IgtgQyUcua6xa1rEru2lmitu3N1h6TCp+5Si5liJg5mJgxN24e/IonLOkKwkidxA\n\
uJkbj13JvypZp3DdmyeTiWTpbMRASgQ2biyIGr35WQKBgQD3ArsoeVfe2M0o0iGf\n\
DUzaXVg5qxOKpr3T1kCAeheOgsrVOlQiIXHkY6kgOko1uly2QUgXttPPKH+HrtJq\n\
qyByz0KzE1SL86v5QykiSj+zz2UJlZKoueUZ+mpe6t41xGqf1PpL/cLd5eLlZ5A6\n\
w1zQJyjH2gtT0Z9ZfIo33EXrSwKBgQC+uWBig8KcxfjfV64CGWs2KVv689zuRLSV\n\
M9sJcbPz8Zvgw3pt+Q/BoOE1sZCvQaxh7OMogeAaSFi2xOf7aRO9AAp5kzsIu3EM\n\
CwB5/CZtNBNuqXk+FEV7GSxUPIMzHjBhRo/1yZWvuQE3vKAg1wzpbJ24s8q9FSZs\n\
pYrMzPxIRQKBgD3Q2Cez3lKtrQInPDTCrlYDgD3GW3iaa+0ktDWy2ExY3Qvpsf5s\n\
okUGz9951vKFNgiCY9lTbsRsHSZGkPAS7WbuCYIpN0Ji88nIjfW/4RtNrrpsTSye\n\
gQA0VAR3AK8x/YEMWqtD0U2Y52SDu2uJUqPg+Oqy3ZzXW+qYKTr7jB/rAoGAHWbI\n\
dAdp3e8rAYsruQkgHPZdRp+HZHfU+tdGofsUSbvqUsjvu7pUcn4RmcxoyIuwPlxd\n\
XGZBHOwgOPS76mb1cwJpmvpWdG8o6zla9nMnnVgU0s9vcGGBoItt6QJ3G09BGA3f\n\
rX1JBRDZHjWG3ekpBWcIHWwiCeoTxVXzwsSq850CgYEA8/HWdJWFDWTYpC7/yMtb\n\
/A/VPX7mOmcfp7/POfFq2T9FZrLuncDBMZvStsToPlJr+EE3xFBsk3hgAkUD1uUW\n\
9hBcJQr+/ewxOSnYxVhyBF0EFIMqSjjt/QZ47jicTxqnhKhYUAJorFtDrPuQU2VB\n\
PPOXXmySi6jwia4q2lg3P7c=\n\
-----END PRIVATE KEY-----\n\
";

/// The JSON key of a service account, as the console gives it out.
pub fn service_account(email: &str) -> String {
    json!({
        "type": "service_account", "project_id": "project", "private_key_id": "1", "private_key": PRIVATE_KEY,
        "client_email": email, "client_id": "1", "token_uri": "http://127.0.0.1:1/token",
    })
    .to_string()
}

struct Stored {
    content: Bytes,
    generation: u64,
    storage_class: String,
}

#[derive(Default)]
struct Session {
    name: String,
    storage_class: String,
    content: Vec<u8>,
    conditional: bool,
}

/// What the store does beside its work.
#[derive(Default)]
pub struct Mood {
    /// So many answers come with this status instead.
    pub fails: Option<(u16, usize)>,
    /// Only every other chunk of an upload is kept whole; of the others half is.
    pub keeps_half: bool,
    /// It says that it has other bytes than it was sent.
    pub says_other_checksum: bool,
    /// Its clock is ahead by so many seconds.
    pub ahead: u64,
    /// What this machine's account may do is nothing.
    pub forbids: Option<&'static str>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Stored>,
    sessions: BTreeMap<String, Session>,
    next: u64,
    mood: Mood,
    cancelled: usize,
    halves: usize,
}

/// The store. Everything that runs in it ends with the test's runtime.
#[derive(Clone)]
pub struct Store {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Store {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self { address: listener.local_addr().unwrap(), inner: Arc::default() };
        let router = Router::new().fallback(answer).with_state(store.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        store
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Uploads that were cancelled, and those that are under way.
    pub fn uploads(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.cancelled, inner.sessions.len())
    }

    /// Chunks of which only half was kept.
    pub fn halves(&self) -> usize {
        self.lock().halves
    }

    pub fn storage_class(&self, name: &str) -> String {
        self.lock().objects[name].storage_class.clone()
    }
}

fn error(status: u16, reason: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": message, "errors": [{ "reason": reason }] } });
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

async fn answer(State(store): State<Store>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let uri = url::Url::parse(&format!("http://store{}", head.uri)).unwrap();
    let query: BTreeMap<String, String> = uri.query_pairs().into_owned().collect();
    // What was sent in full counts; a connection that breaks is no request.
    let Ok(body) = to_bytes(body, 256 << 20).await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut inner = store.lock();
    if uri.path().starts_with("/computeMetadata/") {
        return metadata(&uri, &head.headers);
    }
    if let Some((status, times @ 1..)) = inner.mood.fails {
        inner.mood.fails = Some((status, times - 1));
        return error(status, "backendError", "Come back later");
    }
    let parts: Vec<String> = uri.path_segments().unwrap().map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let ["session", id] = parts[..] {
        return session(&mut inner, id, &head.method, &head.headers, &body);
    }
    if let Some(refusal) = refusal(&head.headers, &inner.mood) {
        return refusal;
    }
    match (&head.method, &parts[..]) {
        (_, ["storage", "v1", "b", bucket, ..] | ["upload", "storage", "v1", "b", bucket, ..]) if *bucket != BUCKET => {
            error(404, "notFound", "The specified bucket does not exist.")
        }
        (&Method::POST, ["upload", "storage", "v1", "b", _, "o"]) if query["uploadType"] == "multipart" => {
            put(&mut inner, &head.headers, &query, &body)
        }
        (&Method::POST, ["upload", "storage", "v1", "b", _, "o"]) => begin(&mut inner, &head.headers, &query, &body),
        (&Method::GET, ["storage", "v1", "b", _, "o"]) => list(&inner, &query),
        (&Method::GET, ["storage", "v1", "b", _, "o", name]) => get(&inner, name, &query, &head.headers),
        (&Method::DELETE, ["storage", "v1", "b", _, "o", name]) => match inner.objects.remove(*name) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => error(404, "notFound", &format!("No such object: {BUCKET}/{name}")),
        },
        _ => error(400, "invalid", "What is that?"),
    }
}

fn decoded(part: &str) -> String {
    // `+` and `&` are themselves in a path.
    let pair = format!("x={}", part.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).next().unwrap().1.into_owned()
}

fn metadata(uri: &url::Url, headers: &HeaderMap) -> Response {
    if headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
        return StatusCode::FORBIDDEN.into_response();
    }
    if !uri.path().ends_with("/service-accounts/default/token") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let token = json!({ "access_token": MACHINE_TOKEN, "expires_in": 3600, "token_type": "Bearer" });
    ([("metadata-flavor", "Google"), ("content-type", "application/json")], token.to_string()).into_response()
}

/// Why the token is not taken. That it is signed rightly is not looked at.
fn refusal(headers: &HeaderMap, mood: &Mood) -> Option<Response> {
    let invalid = || Some(error(401, "authError", "Invalid Credentials"));
    let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
    else {
        return invalid();
    };
    if let Some(reason) = mood.forbids {
        return Some(error(403, reason, "The account does not have storage.objects.create access"));
    }
    if token == MACHINE_TOKEN {
        return None;
    }
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = claims.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + mood.ahead;
    let scoped = claims["scope"].as_str().is_some_and(|scope| scope.contains("devstorage.read_write"));
    match claims["exp"].as_u64() {
        Some(expires) if expires > now && claims["iss"] == ACCOUNT && scoped => None,
        _ => invalid(),
    }
}

fn checksum(content: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(content).to_be_bytes())
}

fn insert(inner: &mut Inner, name: &str, storage_class: &str, content: Bytes, conditional: bool) -> Response {
    if conditional && inner.objects.contains_key(name) {
        return error(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.");
    }
    inner.next += 1;
    let said = if inner.mood.says_other_checksum { checksum(b"other") } else { checksum(&content) };
    let (generation, size) = (inner.next, content.len());
    let stored = Stored { content, generation, storage_class: storage_class.to_owned() };
    inner.objects.insert(name.to_owned(), stored);
    json!({ "name": name, "size": size.to_string(), "generation": generation.to_string(), "crc32c": said })
        .to_string()
        .into_response()
}

fn put(inner: &mut Inner, headers: &HeaderMap, query: &BTreeMap<String, String>, body: &Bytes) -> Response {
    let kind = headers[header::CONTENT_TYPE].to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/related; boundary=").unwrap();
    let after_head = |from: usize| from + find(&body[from..], b"\r\n\r\n").unwrap() + 4;
    let first = after_head(0);
    let end = first + find(&body[first..], format!("\r\n--{boundary}").as_bytes()).unwrap();
    let metadata: Value = serde_json::from_slice(&body[first..end]).unwrap();
    let second = after_head(end);
    let tail = format!("\r\n--{boundary}--\r\n");
    assert!(body.ends_with(tail.as_bytes()));
    let content = body.slice(second..body.len() - tail.len());
    if metadata["crc32c"] != checksum(&content) {
        return error(400, "invalid", "Provided CRC32C does not match");
    }
    let class = metadata["storageClass"].as_str().unwrap_or_default();
    let conditional = query.get("ifGenerationMatch").is_some_and(|generation| generation == "0");
    insert(inner, metadata["name"].as_str().unwrap(), class, content, conditional)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn begin(inner: &mut Inner, headers: &HeaderMap, query: &BTreeMap<String, String>, body: &Bytes) -> Response {
    let metadata: Value = serde_json::from_slice(body).unwrap();
    inner.next += 1;
    let id = format!("upload-{}", inner.next);
    let session = Session {
        name: query["name"].clone(),
        storage_class: metadata["storageClass"].as_str().unwrap_or_default().to_owned(),
        content: Vec::new(),
        conditional: query.get("ifGenerationMatch").is_some_and(|generation| generation == "0"),
    };
    inner.sessions.insert(id.clone(), session);
    [(header::LOCATION, format!("http://{}/session/{id}", headers[header::HOST].to_str().unwrap()))].into_response()
}

fn session(inner: &mut Inner, id: &str, method: &Method, headers: &HeaderMap, body: &Bytes) -> Response {
    let Some(session) = inner.sessions.get_mut(id) else { return error(410, "gone", "The upload is gone") };
    if method == Method::DELETE {
        inner.sessions.remove(id);
        inner.cancelled += 1;
        return StatusCode::from_u16(499).unwrap().into_response();
    }
    let range = headers["content-range"].to_str().unwrap().strip_prefix("bytes ").unwrap();
    let (range, total) = range.split_once('/').unwrap();
    if let Some((first, last)) = range.split_once('-') {
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!((first, last + 1 - first), (session.content.len(), body.len()), "the chunk does not fit");
        assert!(total != "*" || body.len().is_multiple_of(256 << 10) || inner.mood.keeps_half, "chunks are whole");
        let half = inner.mood.keeps_half && body.len() >= 8 << 20;
        inner.halves += usize::from(half);
        let kept = if half { body.len() / 2 } else { body.len() };
        session.content.extend_from_slice(&body[..kept]);
    }
    if total.parse() != Ok(session.content.len()) {
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        if let Some(last) = session.content.len().checked_sub(1) {
            response.headers_mut().insert(header::RANGE, format!("bytes=0-{last}").parse().unwrap());
        }
        return response;
    }
    let session = inner.sessions.remove(id).unwrap();
    insert(inner, &session.name, &session.storage_class, session.content.into(), session.conditional)
}

fn list(inner: &Inner, query: &BTreeMap<String, String>) -> Response {
    let prefix = query.get("prefix").map(String::as_str).unwrap_or_default();
    let after = query.get("pageToken").map(String::as_str).unwrap_or_default();
    let mut found = inner.objects.iter().filter(|(name, _)| name.starts_with(prefix) && name.as_str() > after);
    let page: Vec<_> = found.by_ref().take(PAGE).collect();
    let items: Vec<Value> =
        page.iter().map(|(name, object)| json!({ "name": name, "size": object.content.len().to_string() })).collect();
    let mut answer = json!({});
    // An empty page has no items at all.
    if !items.is_empty() {
        answer["items"] = items.into();
    }
    if found.next().is_some() {
        answer["nextPageToken"] = page.last().unwrap().0.as_str().into();
    }
    answer.to_string().into_response()
}

fn get(inner: &Inner, name: &str, query: &BTreeMap<String, String>, headers: &HeaderMap) -> Response {
    let Some(object) = inner.objects.get(name) else {
        return (StatusCode::NOT_FOUND, format!("No such object: {BUCKET}/{name}")).into_response();
    };
    if query.get("alt").is_none_or(|alt| alt != "media") {
        return json!({ "name": name, "generation": object.generation.to_string() }).to_string().into_response();
    }
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return Body::from(object.content.clone()).into_response();
    };
    let first: usize = first.parse().unwrap();
    let end = last.parse::<usize>().unwrap().saturating_add(1).min(object.content.len());
    if first >= end {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    (StatusCode::PARTIAL_CONTENT, object.content.slice(first..end)).into_response()
}
