//! Messages into a core, from its neighbours and from foreign threads: a bounded lock-free queue into one task.
//!
//! A message is *queued*, then the receiver is *rung*: once per batch, and only when it sleeps. So a busy core takes
//! messages without a single wake-up, and a sender with sixty-four messages pays for one. It is built on
//! [`std::task::Waker`] alone, so it works between any two executors, and between an executor and a plain thread.
//!
//! **No wake-up is lost.** Each side writes, fences, then reads what the other wrote (Dekker's pattern):
//!
//! ```text
//! sender    push the message     SeqCst fence    read `asleep`    (and wake if it was set)
//! receiver  set `asleep`         SeqCst fence    read the queue   (and stay awake if it is not empty)
//! ```
//!
//! A sender first wakes and then says that the receiver is woken (`nap.rs`), so that no sender's message waits for another
//! sender, which the kernel may have stopped before its waking was done.
//!
//! The two fences are in one total order. If the sender's comes first, the receiver reads the message; if the
//! receiver's comes first, the sender reads `asleep` and wakes it. Both may happen, and then one wake-up is spurious.
//!
//! **No message is stranded.** A message pushed while the receiver goes away must still be dropped, because the reply
//! channel inside it is what tells its caller. The same pattern, with `state` in the place of `asleep`: the receiver
//! sets `GONE`, fences, and empties the queue; a sender that reads `GONE` after its fence empties the queue itself.
//!
//! **Bounds.** The queue holds `capacity` messages. Senders that wait for room hold one message each, outside it. A
//! sender preempted by the kernel between the two stores of a push makes the receiver spin for it, as in every queue
//! of this kind; the window is a few instructions.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use event_listener::{Event, EventListener, IntoNotification, Listener};

use super::nap::Nap;
use super::waker_slot::WakerSlot;

/// Messages are taken.
const OPEN: u8 = 0;
/// The receiver takes no new messages; those queued will still be received.
const CLOSING: u8 = 1;
/// Nobody will receive what is in the queue: whoever notices drops it.
const GONE: u8 = 2;

struct Shared<T> {
    queue: ArrayQueue<T>,
    state: AtomicU8,
    /// The receiver found the queue empty and waits for a ring.
    asleep: Nap,
    receiver: WakerSlot,
    senders: AtomicUsize,
    /// Senders waiting for room.
    room: Event,
}

impl<T> Shared<T> {
    /// Wakes the receiver if it sleeps and nobody has done it yet, so a burst of senders wakes it once.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == GONE {
            self.drop_queued();
        }
        if let Some(sleep) = self.asleep.to_end() {
            self.receiver.wake();
            self.asleep.woken(sleep);
        }
    }

    fn drop_queued(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// A mailbox holding up to `capacity` messages: any number of senders into one receiver.
///
/// # Panics
/// If `capacity` is zero.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        state: AtomicU8::new(OPEN),
        asleep: Nap::default(),
        receiver: WakerSlot::default(),
        senders: AtomicUsize::new(1),
        room: Event::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Why a message was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The mailbox is full.
    Full(T),
    /// The receiver is closed or gone.
    Closed(T),
}

/// The receiver is closed or gone; the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the mailbox is closed",
        })
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mailbox is closed")
    }
}

impl<T: fmt::Debug> std::error::Error for TrySendError<T> {}
impl<T: fmt::Debug> std::error::Error for Closed<T> {}

/// Puts messages in; clones put them into the same mailbox, from any thread.
///
/// Dropping it rings, so nothing that it queued waits for another sender. Dropping the last clone closes the mailbox.
pub struct Sender<T: Send>(Arc<Shared<T>>);

impl<T: Send> Sender<T> {
    /// Queues a message and rings, or gives it back at once.
    ///
    /// # Errors
    /// [`TrySendError::Full`] or [`TrySendError::Closed`], with the message.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.queue(message)?;
        self.ring();
        Ok(())
    }

    /// Queues a message **without** ringing: a sleeping receiver learns of it by the [`Sender::ring`] that must
    /// follow, once for a whole batch.
    ///
    /// # Errors
    /// [`TrySendError::Full`] or [`TrySendError::Closed`], with the message.
    pub fn queue(&self, message: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(message));
        }
        self.0.queue.push(message).map_err(TrySendError::Full)
    }

    /// Wakes the receiver if it sleeps. Cheap when it does not: one fence and two loads.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// Queues a message and rings, waiting for room where there is none. Awaitable on any executor; dropping the
    /// future drops the message unsent.
    ///
    /// # Errors
    /// [`Closed`], with the message.
    pub async fn send(&self, message: T) -> Result<(), Closed<T>> {
        let mut message = message;
        while let Some((back, room)) = self.offer_or_listen(message)? {
            room.await;
            message = back;
        }
        Ok(())
    }

    /// As [`Sender::send`], blocking this thread. Never call it on an executor's thread.
    ///
    /// # Errors
    /// [`Closed`], with the message.
    pub fn send_blocking(&self, message: T) -> Result<(), Closed<T>> {
        let mut message = message;
        while let Some((back, room)) = self.offer_or_listen(message)? {
            room.wait();
            message = back;
        }
        Ok(())
    }

    /// Whether the receiver takes no more messages.
    pub fn is_closed(&self) -> bool {
        self.0.state.load(Ordering::Acquire) != OPEN
    }

    /// Queues and rings; a full mailbox gives the message back with what to wait on before the next try.
    fn offer_or_listen(&self, message: T) -> Result<Option<(T, EventListener)>, Closed<T>> {
        let message = match self.offer(message) {
            Ok(()) => return Ok(None),
            Err(TrySendError::Closed(message)) => return Err(Closed(message)),
            Err(TrySendError::Full(message)) => message,
        };
        // Listen, then look again: room made before we listened is seen by the second look, and room made after it
        // notifies us (`Event` fences on both sides).
        let room = self.0.room.listen();
        match self.offer(message) {
            Ok(()) => Ok(None),
            Err(TrySendError::Closed(message)) => Err(Closed(message)),
            Err(TrySendError::Full(message)) => Ok(Some((message, room))),
        }
    }

    /// Queues and rings. It rings when the mailbox is full too: what fills it may have been queued by this very
    /// sender and not been rung yet, and then nobody else would ever make room.
    fn offer(&self, message: T) -> Result<(), TrySendError<T>> {
        let outcome = self.queue(message);
        self.ring();
        outcome
    }
}

impl<T: Send> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc`: the new sender is made from one that is counted, so the count cannot be zero here.
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: whoever reads zero sees every message that any sender queued before it was dropped.
        self.0.senders.fetch_sub(1, Ordering::AcqRel);
        self.0.ring();
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queued", &self.0.queue.len())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Takes messages out. There is one, used by one task at a time; it may be moved to its core before its first use.
pub struct Receiver<T: Send>(Arc<Shared<T>>);

impl<T: Send> Receiver<T> {
    /// Waits for messages, then moves up to `max` of them to the end of `out` and returns how many. It returns 0 only
    /// when the mailbox is closed (by [`Receiver::close`], or because every sender is gone) and empty. Dropping the
    /// future loses no message.
    ///
    /// # Panics
    /// If `max` is zero.
    pub async fn recv_batch(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        assert!(max > 0, "a batch holds at least one message");
        poll_fn(|cx| self.poll_batch(cx, out, max)).await
    }

    fn poll_batch(&mut self, cx: &Context<'_>, out: &mut Vec<T>, max: usize) -> Poll<usize> {
        let shared = &*self.0;
        shared.asleep.end();
        if let Some(taken) = self.take(out, max) {
            return Poll::Ready(taken);
        }
        shared.receiver.register(cx.waker());
        shared.asleep.begin();
        fence(Ordering::SeqCst);
        if let Some(taken) = self.take(out, max) {
            shared.asleep.end();
            return Poll::Ready(taken);
        }
        Poll::Pending
    }

    /// Moves what is there; `None` if the queue is empty and more may come, `Some(0)` if nothing more will.
    fn take(&self, out: &mut Vec<T>, max: usize) -> Option<usize> {
        let shared = &*self.0;
        // Before the queue: after the last sender has left, or the door was closed, nothing is added behind our back.
        let last =
            shared.state.load(Ordering::Acquire) != OPEN || shared.senders.load(Ordering::Acquire) == 0;
        let mut taken = self.pop_into(out, max);
        if taken == 0 && last {
            // A sender that looked before the door closed may push after we looked. From here on it drops what it
            // finds; what it pushed before it could know is taken now.
            self.0.state.store(GONE, Ordering::Release);
            fence(Ordering::SeqCst);
            taken = self.pop_into(out, max);
            return Some(taken);
        }
        (taken > 0).then_some(taken)
    }

    fn pop_into(&self, out: &mut Vec<T>, max: usize) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(message) = self.0.queue.pop() else { break };
            out.push(message);
            taken += 1;
        }
        if taken > 0 {
            // One waiting sender for each message taken; each of them looks again for itself.
            self.0.room.notify(taken.additional());
        }
        taken
    }

    /// Takes no new messages: senders get theirs back. What is queued will still be received.
    pub fn close(&self) {
        let was = self
            .0
            .state
            .compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire);
        if was.is_ok() {
            self.0.room.notify(usize::MAX);
        }
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.state.store(GONE, Ordering::Release);
        fence(Ordering::SeqCst);
        self.0.drop_queued();
        self.0.room.notify(usize::MAX);
        // An executor that has ended must not be woken, nor kept alive by its task's waker.
        self.0.asleep.end();
        self.0.receiver.clear();
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queued", &self.0.queue.len())
            .finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these tests are about real threads")]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::task::{Wake, Waker};
    use std::thread;
    use std::time::Duration;

    use futures_lite::future::block_on;

    use super::*;

    /// Fails a test that hangs instead of hanging with it; the bound is far beyond what the work takes.
    fn within_a_minute(work: impl FnOnce() + Send + 'static) {
        let (done, wait) = mpsc::channel();
        let worker = thread::spawn(move || {
            work();
            done.send(()).expect("the test waits");
        });
        match wait.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => worker.join().expect("already done"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("a wake-up was lost: still waiting after a minute")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::panic::resume_unwind(worker.join().expect_err("it ended without being done"))
            }
        }
    }

    /// Counts its wake-ups.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once and says whether a batch was there, leaving `count` registered if not.
    fn poll_once(receiver: &mut Receiver<u64>, count: &Arc<Count>) -> Poll<usize> {
        let waker = Waker::from(Arc::clone(count));
        receiver.poll_batch(&Context::from_waker(&waker), &mut Vec::new(), 100)
    }

    #[test]
    fn ping_pong_between_two_threads_loses_no_wake_up() {
        within_a_minute(|| {
            const ROUNDS: u64 = 30_000;
            let (to_there, mut there) = mailbox(1);
            let (to_here, mut here) = mailbox(1);
            let other = thread::spawn(move || {
                let mut batch = Vec::new();
                while block_on(there.recv_batch(&mut batch, 8)) > 0 {
                    for message in batch.drain(..) {
                        block_on(to_here.send(message)).expect("open");
                    }
                }
            });
            let mut batch = Vec::new();
            for round in 0..ROUNDS {
                to_there.try_send(round).expect("the previous one was answered");
                assert_eq!(block_on(here.recv_batch(&mut batch, 8)), 1);
                assert_eq!(batch.pop(), Some(round));
            }
            drop(to_there);
            other.join().expect("the echo ends when its senders are gone");
        });
    }

    #[test]
    fn many_senders_through_one_place_each_keep_their_order() {
        within_a_minute(|| {
            const SENDERS: usize = 4;
            const EACH: u64 = 10_000;
            // One place: nearly every send waits for room, so both kinds of wake-up are under test.
            let (sender, mut receiver) = mailbox(1);
            let threads: Vec<_> = (0..SENDERS)
                .map(|id| {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        for n in 0..EACH {
                            if id % 2 == 0 {
                                sender.send_blocking((id, n)).expect("open");
                            } else {
                                block_on(sender.send((id, n))).expect("open");
                            }
                        }
                    })
                })
                .collect();
            drop(sender);
            let mut next = [0; SENDERS];
            let mut batch = Vec::new();
            while block_on(receiver.recv_batch(&mut batch, 3)) > 0 {
                assert!(batch.len() <= 3);
                for (id, n) in batch.drain(..) {
                    let expected = &mut next[id];
                    assert_eq!(n, *expected, "sender {id}");
                    *expected += 1;
                }
            }
            assert_eq!(next, [EACH; SENDERS]);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn a_batch_queued_without_a_ring_wakes_once_when_rung() {
        let (sender, mut receiver) = mailbox(8);
        let count = Arc::new(Count::default());
        assert!(poll_once(&mut receiver, &count).is_pending());
        for n in 0..5 {
            sender.queue(n).unwrap();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 0, "queued only");
        sender.ring();
        sender.ring();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "rung once for the batch");
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(5));
        sender.try_send(6).unwrap();
        assert_eq!(
            count.0.load(Ordering::SeqCst),
            1,
            "a receiver that is awake is not rung"
        );
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(1));
    }

    /// The first to wake says when it has begun, and goes on when it is told.
    struct Stopped {
        begun: mpsc::Sender<()>,
        go_on: std::sync::Mutex<mpsc::Receiver<()>>,
        wakes: AtomicUsize,
    }

    impl Wake for Stopped {
        fn wake(self: Arc<Self>) {
            if self.wakes.fetch_add(1, Ordering::SeqCst) == 0 {
                self.begun.send(()).expect("the test waits");
                self.go_on.lock().unwrap().recv().expect("the test goes on");
            }
        }
    }

    /// A sender that the kernel stopped between having said that the receiver was woken, and waking it, let the messages of
    /// all who came after it lie until it ran again.
    #[test]
    fn a_sender_stopped_while_it_wakes_keeps_no_other_from_waking() {
        within_a_minute(|| {
            let (sender, mut receiver) = mailbox(4);
            let ((begun, wait_begun), (tell, go_on)) = (mpsc::channel(), mpsc::channel());
            let stopped = Arc::new(Stopped {
                begun,
                go_on: std::sync::Mutex::new(go_on),
                wakes: AtomicUsize::new(0),
            });
            let waker = Waker::from(Arc::clone(&stopped));
            let polled = receiver.poll_batch(&Context::from_waker(&waker), &mut Vec::new(), 4);
            assert!(polled.is_pending());
            let first = sender.clone();
            let thread = thread::spawn(move || first.try_send(1));
            wait_begun.recv().unwrap();
            sender.try_send(2).unwrap();
            assert_eq!(
                stopped.wakes.load(Ordering::SeqCst),
                2,
                "the second woke it itself"
            );
            tell.send(()).unwrap();
            thread.join().unwrap().unwrap();
            sender.try_send(3).unwrap();
            assert_eq!(stopped.wakes.load(Ordering::SeqCst), 2, "by now it is woken");
        });
    }

    #[test]
    fn a_sender_that_fills_the_mailbox_unrung_and_then_waits_is_served() {
        within_a_minute(|| {
            let (sender, mut receiver) = mailbox(2);
            let other = thread::spawn(move || {
                let mut all = Vec::new();
                while block_on(receiver.recv_batch(&mut all, 1)) > 0 {}
                all
            });
            for n in 0..2 {
                while sender.queue(n).is_err() {}
            }
            sender.send_blocking(2).unwrap();
            drop(sender);
            assert_eq!(other.join().unwrap(), [0, 1, 2]);
        });
    }

    #[test]
    fn a_full_mailbox_and_a_closed_one_give_the_message_back() {
        let (sender, mut receiver) = mailbox(1);
        sender.try_send(1_u64).unwrap();
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        receiver.close();
        assert!(sender.is_closed());
        assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
        assert_eq!(sender.send_blocking(4), Err(Closed(4)));
        let count = Arc::new(Count::default());
        assert_eq!(
            poll_once(&mut receiver, &count),
            Poll::Ready(1),
            "queued before the close"
        );
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(0));
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(0), "and for ever");
    }

    #[test]
    fn the_last_sender_to_leave_wakes_the_receiver_to_its_end() {
        let (sender, mut receiver) = mailbox(4);
        let second = sender.clone();
        let count = Arc::new(Count::default());
        assert!(poll_once(&mut receiver, &count).is_pending());
        second.queue(1).unwrap();
        drop(sender);
        drop(second);
        assert!(count.0.load(Ordering::SeqCst) >= 1);
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(1));
        assert_eq!(poll_once(&mut receiver, &count), Poll::Ready(0));
    }

    #[test]
    fn closing_frees_the_senders_that_wait_for_room() {
        within_a_minute(|| {
            let (sender, receiver) = mailbox(1);
            sender.try_send(0).unwrap();
            let waiting = thread::spawn(move || sender.send_blocking(1));
            thread::sleep(Duration::from_millis(20));
            receiver.close();
            assert_eq!(waiting.join().unwrap(), Err(Closed(1)));
        });
    }

    /// What a oneshot reply inside a message is to its caller: it learns that the message was dropped.
    #[test]
    fn no_message_outlives_the_receiver_however_they_race() {
        within_a_minute(|| {
            for round in 0..3_000 {
                let (sender, receiver) = mailbox(4);
                let alive = Arc::new(());
                let message = Arc::clone(&alive);
                let racing = sender.clone();
                let pushes = thread::spawn(move || drop(racing.try_send(message)));
                if round % 2 == 0 {
                    thread::yield_now();
                }
                drop(receiver);
                pushes.join().unwrap();
                // A sender is still there, as a handle would be: only the two sides themselves can have dropped it.
                assert_eq!(
                    Arc::strong_count(&alive),
                    1,
                    "round {round}: stranded in the queue"
                );
                drop(sender);
            }
        });
    }

    #[test]
    fn a_closed_mailbox_read_to_its_end_strands_nothing_either() {
        within_a_minute(|| {
            for round in 0..3_000 {
                let (sender, mut receiver) = mailbox(4);
                let alive = Arc::new(());
                let message = Arc::clone(&alive);
                let racing = sender.clone();
                let pushes = thread::spawn(move || drop(racing.try_send(message)));
                receiver.close();
                let mut batch = Vec::new();
                while block_on(receiver.recv_batch(&mut batch, 8)) > 0 {
                    batch.clear();
                }
                pushes.join().unwrap();
                assert_eq!(
                    Arc::strong_count(&alive),
                    1,
                    "round {round}: stranded in the queue"
                );
                drop((sender, receiver));
            }
        });
    }
}
