//! Whether an operation that completes many times is under way, who waits for what it brings, and when it must end.
//!
//! A connection receives by one operation that is armed once and brings one thing after another; a listener accepts by one
//! that brings a single connection. This is what both decide by. It knows nothing of what is brought: whoever holds it keeps
//! that, says when there is enough of it, and does what [`Next`] says outside of any borrow.

use std::task::{Context, Waker};

use super::reactor::Reactor;
use super::slots::Key;

/// See the module's head.
#[derive(Default)]
pub(super) struct Armed {
    /// The operation under way.
    key: Option<Key>,
    /// It was asked to end.
    ending: bool,
    waiter: Option<Waker>,
    /// Nobody wants what comes any more.
    closed: bool,
}

/// What follows a completion.
#[must_use]
pub(super) struct Next {
    /// The operation brings more than is wanted: it must end.
    cancel: Option<Key>,
    /// Somebody waits for what came, or for the operation's end, to begin another.
    wake: Option<Waker>,
}

impl Next {
    /// Does it.
    pub(super) fn follow(self, reactor: &Reactor) {
        if let Some(key) = self.cancel {
            reactor.cancel(key);
        }
        if let Some(waker) = self.wake {
            waker.wake();
        }
    }
}

impl Armed {
    /// Somebody waits for what there is not yet. Whether the operation must be begun for that; then [`Armed::begun`] follows.
    pub(super) fn wait(&mut self, cx: &Context<'_>) -> bool {
        match &mut self.waiter {
            Some(waiter) => waiter.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        self.key.is_none()
    }

    /// The operation is under way.
    pub(super) fn begun(&mut self, key: Key) {
        assert!(self.key.is_none(), "one is under way at a time");
        self.key = Some(key);
    }

    /// It has completed once more, for the last time if `over`. Whether anybody wants what it brought.
    pub(super) fn completed(&mut self, over: bool) -> bool {
        if over {
            (self.key, self.ending) = (None, false);
        }
        !self.closed
    }

    /// What follows once what was brought has been kept. With `enough` of it the operation is to end; whoever finds nothing
    /// left begins the next.
    pub(super) fn next(&mut self, enough: bool) -> Next {
        let cancel = self.key.filter(|_| enough && !self.ending);
        self.ending |= cancel.is_some();
        Next {
            cancel,
            wake: self.waiter.take(),
        }
    }

    /// Nobody waits any more, or ever will. The operation is to end, if one is under way.
    pub(super) fn close(&mut self) -> Next {
        self.closed = true;
        self.waiter = None;
        self.next(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    const KEY: u64 = 7;

    fn under_way() -> Armed {
        let mut armed = Armed::default();
        assert!(
            armed.wait(&Context::from_waker(Waker::noop())),
            "nothing is under way"
        );
        armed.begun(Key::from_user_data(KEY));
        armed
    }

    fn cancels(next: &Next) -> bool {
        next.cancel == Some(Key::from_user_data(KEY))
    }

    #[test]
    fn the_first_who_waits_begins_it_and_others_do_once_it_is_over() {
        let mut armed = under_way();
        let cx = Context::from_waker(Waker::noop());
        assert!(!armed.wait(&cx), "it is under way");
        assert!(armed.completed(false));
        assert!(!armed.wait(&cx), "and goes on");
        assert!(armed.completed(true));
        assert!(armed.wait(&cx));
    }

    #[test]
    fn whoever_waits_is_woken_once_and_then_waits_anew() {
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(Arc::clone(&counts));
        let mut armed = under_way();
        for round in 1..4 {
            armed.wait(&Context::from_waker(&waker));
            armed.wait(&Context::from_waker(&waker));
            for _ in 0..2 {
                assert!(armed.completed(false));
                armed.next(false).wake.into_iter().for_each(Waker::wake);
            }
            assert_eq!(counts.0.load(Ordering::SeqCst), round);
        }
    }

    #[test]
    fn with_enough_it_is_asked_to_end_once() {
        let mut armed = under_way();
        assert!(!cancels(&armed.next(false)));
        assert!(cancels(&armed.next(true)));
        assert!(!cancels(&armed.next(true)), "it was asked");
        assert!(armed.completed(true));
        assert!(!cancels(&armed.next(true)), "nothing is under way");
        armed.begun(Key::from_user_data(KEY));
        assert!(cancels(&armed.next(true)), "the next one is another");
    }

    #[test]
    fn closing_ends_it_and_nobody_wants_what_comes_after() {
        let mut armed = under_way();
        let next = armed.close();
        assert!(cancels(&next) && next.wake.is_none());
        assert!(!armed.completed(false) && !armed.completed(true));
        assert!(!cancels(&Armed::default().close()), "nothing is under way");
        let mut ending = under_way();
        assert!(cancels(&ending.next(true)));
        assert!(!cancels(&ending.close()), "it was asked already");
    }
}
