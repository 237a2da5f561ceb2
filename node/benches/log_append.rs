//! How many appends a second the log file makes durable, with 1, 16 and 256 writers that each wait for their own.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seawall_node::store::log::{LogEntry, LogFile, LogId, LogOptions};
use tokio::sync::{Mutex, oneshot};

const PAYLOAD: usize = 4096;

/// The log and the next index; entries are queued in the order of their indexes.
type Shared = Arc<Mutex<(LogFile, u64)>>;

async fn append(shared: &Shared, payload: Bytes) {
    let (sender, done) = oneshot::channel();
    {
        let mut guard = shared.lock().await;
        let (log, next) = &mut *guard;
        let entry =
            LogEntry { id: LogId { term: 1, node: 1, index: *next }, meta: Bytes::from_static(&[7; 100]), payload };
        *next += 1;
        log.append(vec![entry], Box::new(move |outcome| sender.send(outcome).unwrap()));
    }
    done.await.unwrap().unwrap();
}

async fn run(shared: Shared, writers: u64, appends: u64) -> Duration {
    let left = Arc::new(AtomicU64::new(appends));
    let payload = Bytes::from(vec![3; PAYLOAD]);
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (shared, left, payload) = (shared.clone(), left.clone(), payload.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    append(&shared, payload.clone()).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    started.elapsed()
}

fn log_append(criterion: &mut Criterion) {
    seawall_host::real::install();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut group = criterion.benchmark_group("log_append");
    group.throughput(Throughput::Bytes(PAYLOAD as u64));
    group.sample_size(10);
    for writers in [1, 16, 256] {
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            let path = dir.path().join(writers.to_string());
            let (log, next) = runtime.block_on(async {
                let log = LogFile::open(&path, LogOptions::default()).await.unwrap();
                log.start_deleting();
                let next = log.state().last.map_or(0, |id| id.index + 1);
                (log, next)
            });
            let shared: Shared = Arc::new(Mutex::new((log, next)));
            bencher.iter_custom(|appends| {
                runtime.block_on(async {
                    let elapsed = run(shared.clone(), writers, appends).await;
                    let (log, next) = &*shared.lock().await;
                    // What was measured may go.
                    log.purge(LogId { term: 1, node: 1, index: *next - 1 }).await.unwrap();
                    black_box(elapsed)
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, log_append);
criterion_main!(benches);
