//! A network that misbehaves on request, between a destination and its server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It arrives.
    None,
    /// Connections succeed, and nothing is ever heard.
    Silence,
    /// After so many bytes to the server every connection breaks, and new ones do.
    BreakAfter(u64),
    /// So many bytes a second arrive at the server.
    Slow(u64),
}

struct Shared {
    target: SocketAddr,
    fault: Mutex<Fault>,
    sent: AtomicU64,
    broken: Notify,
}

/// The network.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, sent, broken) = (Mutex::new(fault), AtomicU64::new(0), Notify::new());
        let shared = Arc::new(Shared { target, fault, sent, broken });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { address, shared, task }
    }

    /// From now on; connections that stand stay.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        self.shared.sent.store(0, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    if is_broken(&shared) {
        return;
    }
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let up = carry(client_reads, server_writes, &shared, true);
    let down = carry(server_reads, client_writes, &shared, false);
    let both = std::pin::pin!(futures::future::join(up, down));
    let broken = std::pin::pin!(async {
        loop {
            shared.broken.notified().await;
            if is_broken(&shared) {
                return;
            }
        }
    });
    futures::future::select(both, broken).await;
}

fn is_broken(shared: &Shared) -> bool {
    let fault = *shared.fault.lock().unwrap();
    matches!(fault, Fault::BreakAfter(most) if shared.sent.load(Ordering::SeqCst) >= most)
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, upwards: bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let fault = *shared.fault.lock().unwrap();
        match fault {
            Fault::Silence => std::future::pending().await,
            Fault::Slow(rate) if upwards => {
                tokio::time::sleep(Duration::from_micros(length as u64 * 1_000_000 / rate)).await;
            }
            _ => {}
        }
        if upwards {
            shared.sent.fetch_add(length as u64, Ordering::SeqCst);
            if is_broken(shared) {
                shared.broken.notify_waiters();
                return;
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
