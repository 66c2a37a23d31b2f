//! Operations under way on a core, counted until the kernel is done with them.
//!
//! Whoever waits for one may go away before it ends: a future is dropped by a `select`, or all of them by a panic. The
//! operation does not go away with it. The kernel writes into its buffers and into the file, a blocking thread renames or
//! removes, and until that has ended neither may the executor go nor another process be let in. So:
//!
//! - Work on the ring whose future is dropped halfway goes on as a task of glommio's own ([`InFlight::to_the_end`]).
//! - Work on a blocking thread is counted there ([`InFlight::enter`]): what is counted ends with the work itself, or with
//!   its closure if it never runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// The operations under way; clones share the count.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<State>);

#[derive(Default)]
struct State {
    count: AtomicUsize,
    /// The executor goes: it takes no more tasks.
    over: AtomicBool,
}

/// One operation under way; it ends as this is dropped, on whatever thread.
pub(super) struct Busy(InFlight);

impl InFlight {
    /// Counts one operation.
    pub(super) fn enter(&self) -> Busy {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.0.count.load(Ordering::SeqCst) == 0
    }

    /// Says that the executor goes, and returns whether nothing is under way. What is dropped from now on is not brought to
    /// its end.
    pub(super) fn end(&self) -> bool {
        self.0.over.store(true, Ordering::SeqCst);
        self.is_idle()
    }

    /// `work`, counted from its first poll, and brought to its end even if its future is dropped after that.
    pub(super) fn to_the_end<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> ToTheEnd<T> {
        ToTheEnd {
            in_flight: self.clone(),
            work: Some(Box::pin(work)),
            begun: None,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let before = self.0.0.count.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "an operation ends once");
    }
}

/// See [`InFlight::to_the_end`].
pub(super) struct ToTheEnd<T: 'static> {
    in_flight: InFlight,
    /// `None` once it has ended, by its result or by a panic.
    work: Option<Pin<Box<dyn Future<Output = T>>>>,
    begun: Option<Busy>,
}

impl<T> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.begun.is_none() {
            self.begun = Some(self.in_flight.enter());
        }
        let mut work = self.work.take().expect("a future is not polled after its end");
        let polled = work.as_mut().poll(cx);
        match &polled {
            Poll::Ready(_) => self.begun = None,
            Poll::Pending => self.work = Some(work),
        }
        polled
    }
}

impl<T: 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let (Some(work), Some(begun)) = (self.work.take(), self.begun.take())
            && !self.in_flight.0.over.load(Ordering::SeqCst)
        {
            glommio::spawn_local(async move {
                drop(work.await);
                drop(begun);
            })
            .detach();
        }
    }
}
