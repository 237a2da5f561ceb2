//! One direction of a stream: frames in order, each with the moment of its arrival.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

use super::SimNetwork;
use super::connection::Connection;
use crate::world::machine::Machine;
use crate::world::timer::Sleep;

/// Bytes on their way before the sender has to wait.
const WINDOW: usize = 256 << 10;

type Item = Result<Frame<Bytes>, Status>;

/// The frames on their way from one end of a connection to the other.
pub(super) struct Pipe {
    state: Mutex<PipeState>,
}

struct PipeState {
    queue: VecDeque<(u64, Item)>,
    bytes: usize,
    last_arrival: u64,
    /// The sender said that nothing more comes.
    ended: bool,
    /// The sender went away in the middle.
    reset: bool,
    receiver_gone: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stir(&self) {
        let (receiver, sender) = {
            let mut state = self.state();
            (state.receiver.take(), state.sender.take())
        };
        receiver.into_iter().chain(sender).for_each(Waker::wake);
    }
}

/// A pipe over `connection`.
pub(super) fn pipe(
    network: &Arc<SimNetwork>,
    connection: &Arc<Connection>,
    from: Machine,
    to: Machine,
) -> (Sender, Receiver) {
    let pipe = Arc::new(Pipe {
        state: Mutex::new(PipeState {
            queue: VecDeque::new(),
            bytes: 0,
            last_arrival: 0,
            ended: false,
            reset: false,
            receiver_gone: false,
            receiver: None,
            sender: None,
        }),
    });
    connection.carries(Arc::downgrade(&pipe));
    let sender = Sender { pipe: pipe.clone(), network: network.clone(), connection: connection.clone(), from };
    let receiver = Receiver {
        pipe,
        network: network.clone(),
        connection: connection.clone(),
        from,
        to,
        timer: None,
        over: false,
        guard: None,
    };
    (sender, receiver)
}

/// Where frames go in.
pub(super) struct Sender {
    pipe: Arc<Pipe>,
    network: Arc<SimNetwork>,
    connection: Arc<Connection>,
    from: Machine,
}

impl Sender {
    /// Sends a frame (or the error that ends the stream) once there is room; false if nobody will ever hear it.
    pub(super) async fn send(&self, item: Item) -> bool {
        let room = std::future::poll_fn(|cx| {
            let mut state = self.pipe.state();
            if state.receiver_gone || self.connection.is_broken() {
                return Poll::Ready(false);
            }
            if state.bytes < WINDOW {
                return Poll::Ready(true);
            }
            state.sender = Some(cx.waker().clone());
            Poll::Pending
        });
        if !room.await {
            return false;
        }
        let Ok(after) = self.network.fate(&self.connection, false) else { return false };
        let now = self.network.world().time();
        let waker = {
            let mut state = self.pipe.state();
            let at = state.last_arrival.max((now + after).as_nanos() as u64);
            state.last_arrival = at;
            state.bytes += size_of_item(&item);
            state.queue.push_back((at, item));
            state.receiver.take()
        };
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Completes when nobody will ever hear another frame.
    pub(super) async fn closed(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.pipe.state();
            if state.receiver_gone || self.connection.is_broken() {
                return Poll::Ready(());
            }
            state.sender = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends the stream in order.
    pub(super) fn end(self) {
        self.pipe.state().ended = true;
    }
}

fn size_of_item(item: &Item) -> usize {
    item.as_ref().ok().and_then(Frame::data_ref).map_or(64, Bytes::len)
}

impl Drop for Sender {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.pipe.state();
            // A machine that dies says nothing any more: its connections end otherwise.
            if !state.ended && self.network.world().is_alive(self.from) {
                state.reset = true;
            }
            state.receiver.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Where frames come out: a body.
pub(super) struct Receiver {
    pipe: Arc<Pipe>,
    network: Arc<SimNetwork>,
    connection: Arc<Connection>,
    from: Machine,
    to: Machine,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
    over: bool,
    guard: Option<Box<dyn Send + Sync>>,
}

impl Receiver {
    /// Keeps something until the stream is no longer read.
    pub(super) fn keeping(mut self, guard: impl Send + Sync + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    fn lost(&mut self) -> Poll<Option<Item>> {
        self.over = true;
        Poll::Ready(Some(Err(Status::unavailable("the connection was lost"))))
    }
}

impl Body for Receiver {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if this.connection.is_broken() {
            return this.lost();
        }
        loop {
            let now = this.network.world().time().as_nanos() as u64;
            let cut = this.network.is_cut(this.from, this.to);
            let mut state = this.pipe.state();
            let next = state.queue.front().map(|(at, _)| *at);
            match next {
                Some(at) if at <= now && !cut => {
                    let item = state.queue.pop_front().map(|(_, item)| item);
                    state.bytes -= item.as_ref().map_or(0, size_of_item);
                    let waker = state.sender.take();
                    drop(state);
                    waker.into_iter().for_each(Waker::wake);
                    if matches!(item, Some(Err(_)) | None) {
                        this.over = true;
                    }
                    return Poll::Ready(item);
                }
                None if state.ended => {
                    drop(state);
                    this.over = true;
                    return Poll::Ready(None);
                }
                None if state.reset => {
                    drop(state);
                    return this.lost();
                }
                Some(at) if !cut => {
                    state.receiver = Some(cx.waker().clone());
                    drop(state);
                    if this.timer.as_ref().is_none_or(|(deadline, _)| *deadline != at) {
                        this.timer = Some((at, Box::pin(this.network.world().true_sleep_until(at))));
                    }
                    let Some((_, timer)) = &mut this.timer else { return Poll::Pending };
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.timer = None;
                }
                _ => {
                    state.receiver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.pipe.state();
            state.receiver_gone = true;
            state.sender.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}
