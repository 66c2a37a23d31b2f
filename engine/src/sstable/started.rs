//! An operation that runs while its owner does something else: a future that was polled once, to submit it.
//!
//! Futures do nothing until polled. A driver that wants an I/O in flight beside its own work starts it here and waits
//! later; nothing is spawned. Dropping it is safe by the seam's rules: the buffer stays owned by the machine.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

pub(crate) enum Started<T> {
    Running(Pin<Box<dyn Future<Output = T>>>),
    Done(T),
}

impl<T> Started<T> {
    /// Submits the operation.
    pub(crate) async fn new(operation: impl Future<Output = T> + 'static) -> Self {
        let mut future: Pin<Box<dyn Future<Output = T>>> = Box::pin(operation);
        let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        match first {
            Poll::Ready(output) => Self::Done(output),
            Poll::Pending => Self::Running(future),
        }
    }

    /// Waits for its end and keeps the outcome. Dropped half-way, it can be called again.
    pub(crate) async fn settle(&mut self) {
        if let Self::Running(future) = self {
            let output = future.as_mut().await;
            *self = Self::Done(output);
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait(mut self) -> T {
        loop {
            match self {
                Self::Done(output) => return output,
                Self::Running(_) => self.settle().await,
            }
        }
    }
}
