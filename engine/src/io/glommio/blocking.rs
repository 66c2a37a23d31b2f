//! Blocking calls, on the executor's blocking threads.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::in_flight::Busy;

/// Runs `work` on one of this executor's blocking threads. It must not panic: glommio would wait for it for ever.
///
/// If the future is dropped, the work is done all the same and its result dropped, so a lock taken meanwhile is
/// released. (glommio's own way of returning a value would leak it.) It is `busy` until then.
pub(super) async fn blocking<T: Send + 'static>(
    busy: Busy,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    glommio::executor()
        .spawn_blocking(move || {
            let result = work();
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            drop(busy);
        })
        .await;
    let result = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.expect("the work ran to its end, and filled the slot there")
}
