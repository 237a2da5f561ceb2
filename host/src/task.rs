//! Tasks: futures that run on the machine of whoever started them.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use tokio::sync::oneshot;

use crate::world;

/// Why a task gave no result.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The task was aborted, or its machine died.
    #[error("the task was cancelled")]
    Cancelled,
    /// The task panicked; the text is the panic's message.
    #[error("the task panicked: {0}")]
    Panicked(String),
}

/// The handle of a started task; awaiting it gives the task's result. Dropping it leaves the task running.
#[derive(Debug)]
pub struct JoinHandle<T> {
    result: oneshot::Receiver<Result<T, JoinError>>,
    abort: AbortHandle,
}

impl<T> JoinHandle<T> {
    /// Stops the task at its next suspension point.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// A handle that can stop the task and outlives this one.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|outcome| outcome.unwrap_or(Err(JoinError::Cancelled)))
    }
}

/// Aborts its task when dropped: the way a component owns its background work.
#[derive(Debug)]
pub struct OwnedTask(AbortHandle);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, result) = oneshot::channel();
    let (abort, registration) = AbortHandle::new_pair();
    let guarded = AssertUnwindSafe(future).catch_unwind();
    let task = Abortable::new(guarded, registration).map(move |outcome| {
        let outcome = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(JoinError::Panicked(panic_message(panic.as_ref()))),
            Err(_aborted) => Err(JoinError::Cancelled),
        };
        if let Err(JoinError::Panicked(message)) = &outcome {
            tracing::error!(message, "a task panicked");
        }
        let _ = sender.send(outcome);
    });
    world::current().spawn(task.boxed());
    JoinHandle { result, abort }
}

/// Starts a task that ends when the returned guard is dropped.
#[must_use = "dropping the guard ends the task"]
pub fn spawn_owned<F>(future: F) -> OwnedTask
where
    F: Future<Output = ()> + Send + 'static,
{
    OwnedTask(spawn(future).abort)
}

/// Runs `job` where blocking is allowed and gives its result.
///
/// # Errors
/// [`JoinError`] if the job panicked or the machine stopped before it ran.
pub async fn blocking<T, F>(job: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (sender, result) = oneshot::channel();
    world::current().spawn_blocking(Box::new(move || {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(job));
        let outcome = outcome.map_err(|panic| JoinError::Panicked(panic_message(panic.as_ref())));
        let _ = sender.send(outcome);
    }));
    result.await.unwrap_or(Err(JoinError::Cancelled))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}
