//! A store that speaks as much of S3 as a restore needs, counts what it gives, and can be slow.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use seawall_proto::object_name::ObjectName;

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Bytes>>,
    delay_ms: AtomicU64,
    given: AtomicU64,
    most: AtomicU64,
    now: AtomicU64,
}

/// The store; it serves until the process ends.
pub struct SlowS3 {
    shared: Arc<Shared>,
    port: u16,
}

impl SlowS3 {
    /// Serves `objects` of the database `app` in the bucket `b`.
    pub fn start(objects: &[(ObjectName, Bytes)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let keys = objects.iter().map(|(name, bytes)| (format!("app/{name}"), bytes.clone()));
        *shared.objects.lock().unwrap() = keys.collect();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { shared, port }
    }

    /// What `seawall restore` takes for it.
    pub fn source(&self) -> String {
        format!("s3://b/app?endpoint=http://127.0.0.1:{}&region=us-east-1", self.port)
    }

    /// Lets every read of an object take so long.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Bytes of objects given since this was last asked.
    pub fn take_given(&self) -> u64 {
        self.shared.given.swap(0, Ordering::Relaxed)
    }

    /// Reads that were under way at once, at most.
    pub fn most_at_once(&self) -> u64 {
        self.shared.most.load(Ordering::Relaxed)
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let path = request.split(' ').nth(1)?.to_owned();
        let mut range = None;
        loop {
            let line = lines.next()?.ok()?;
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                let (first, last) = bytes.split_once('-')?;
                range = Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?));
            }
        }
        if path.contains("list-type=2") {
            let objects = shared.objects.lock().unwrap();
            let entries = objects
                .iter()
                .map(|(key, bytes)| format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", bytes.len()));
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
                entries.collect::<String>()
            );
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n", body.len());
            writer.write_all((head + &body).as_bytes()).ok()?;
            continue;
        }
        let key = path.split('?').next()?.strip_prefix("/b/")?.replace("%40", "@");
        let bytes = shared.objects.lock().unwrap().get(&key)?.clone();
        let now = shared.now.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most.fetch_max(now, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::Relaxed)));
        let (first, last) = range.unwrap_or((0, bytes.len() - 1));
        let part = bytes.slice(first..(last + 1).min(bytes.len()));
        shared.given.fetch_add(part.len() as u64, Ordering::Relaxed);
        shared.now.fetch_sub(1, Ordering::Relaxed);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\nETag: \"x\"\r\n\r\n",
            part.len(),
            bytes.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(&part).ok()?;
    }
}
