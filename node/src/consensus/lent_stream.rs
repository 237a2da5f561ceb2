//! A stream that its owner can take back from whoever polls it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use futures::{Stream, StreamExt};

/// A stream on loan: it ends when its [`Lease`] is dropped.
pub(super) struct Lent<S> {
    shared: Arc<Shared<S>>,
}

/// Takes the stream back when it is dropped, at once, even while nobody polls it.
pub(super) struct Lease<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    stream: Mutex<Option<S>>,
    polled_by: AtomicWaker,
}

/// Lends `stream` to somebody who may keep it longer than it is wanted.
pub(super) fn lend<S: Stream>(stream: S) -> (Lent<S>, Lease<S>) {
    let shared = Arc::new(Shared { stream: Mutex::new(Some(stream)), polled_by: AtomicWaker::new() });
    (Lent { shared: Arc::clone(&shared) }, Lease { shared })
}

impl<S: Stream + Unpin> Stream for Lent<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.shared.polled_by.register(context.waker());
        match &mut *self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(stream) => stream.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl<S> Drop for Lease<S> {
    fn drop(&mut self) {
        let stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock: what it holds may poll, too.
        drop(stream);
        self.shared.polled_by.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use futures::{FutureExt, stream};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_taken_back_is_dropped_at_once_and_whoever_waits_for_it_is_woken() {
        let inside = Arc::new(());
        let held = Arc::clone(&inside);
        let endless = stream::iter([1, 2]).chain(stream::pending()).inspect(move |_| drop(Arc::clone(&held)));
        let (mut lent, lease) = lend(endless);
        assert_eq!(lent.next().now_or_never(), Some(Some(1)));
        assert_eq!(lent.next().now_or_never(), Some(Some(2)));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = &mut Context::from_waker(&waker);
        assert_eq!(lent.poll_next_unpin(context), Poll::Pending);
        assert!(!woken.0.load(Ordering::Relaxed));
        drop(lease);
        assert_eq!(Arc::strong_count(&inside), 1);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(lent.poll_next_unpin(context), Poll::Ready(None));
    }
}
