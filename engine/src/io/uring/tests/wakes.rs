//! How cores wake each other: by messages into their rings, and by eventfds where that is not to be.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Poll, Wake};

use rustix::event::{EventfdFlags, eventfd};

use super::super::bell::Bell;
use super::super::in_flight::InFlight;
use super::super::memory::Arena;
use super::super::ringing;
use super::*;

const ROUNDS: u64 = 500;

const BY_EVENTFD: Wanted = Wanted {
    messages: false,
    ..WANTED
};

/// Two cores that send each other a number, and sleep in between; how often the eventfd of either was written.
fn there_and_back(wanted: Wanted, prepare: fn(&UringIo)) -> u64 {
    let cores = available_cores();
    let (to_first, first): (Sender<u64>, Receiver<u64>) = mailbox(4);
    let (to_second, second) = mailbox(4);
    let ends = Handed::new([(to_second, first), (to_first, second)]);
    let written = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&written);
    let main = move |index, io: UringIo| {
        let ((sender, mut receiver), counts) = (ends.take(index), Arc::clone(&counts));
        prepare(&io);
        async move {
            if index == 0 {
                sender.try_send(0).expect("there is room");
            }
            let mut batch = Vec::new();
            let mut over = false;
            while !over && receiver.recv_batch(&mut batch, 4).await > 0 {
                for message in batch.drain(..) {
                    over = message >= ROUNDS;
                    if message <= ROUNDS {
                        sender.try_send(message + 1).expect("there is room");
                    }
                }
            }
            counts.fetch_add(io.0.reactor.bell().eventfd_writes(), Ordering::SeqCst);
            nothing_is_held(&io).await;
        }
    };
    let two = [cores[0], cores[cores.len() - 1]];
    let threads = run::start_wanted(&two, StartOptions::default(), wanted, main, |_, _| {});
    join_within_a_minute(threads.expect("cores start here"));
    written.load(Ordering::SeqCst)
}

fn has_messages() -> bool {
    probe().expect("a ring can be made").messages
}

#[test]
fn cores_wake_each_other_by_messages_where_the_kernel_has_them() {
    let by_eventfd = there_and_back(BY_EVENTFD, |io| assert!(!io.ability().messages));
    assert!(by_eventfd > 0, "they slept");
    let written = there_and_back(WANTED, |_| {});
    // The last one comes from a core that ends.
    assert!(
        written <= 2 || !has_messages(),
        "{written} of {ROUNDS} by eventfd"
    );
}

/// The bell names what is no ring, so that every message fails.
#[test]
fn where_a_message_fails_the_eventfd_is_written() {
    let written = there_and_back(WANTED, |io| {
        let no_ring = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd can be made");
        io.0.reactor.bell().set_ring(Some(no_ring));
    });
    assert!(written > 0);
}

/// A descriptor of a ring that is over, and whose thread is, too.
fn ring_that_is_over() -> OwnedFd {
    let made = std::thread::spawn(|| {
        let (in_flight, _) = InFlight::new(WANTED, Arena::new(0)).expect("a ring can be made");
        in_flight.duplicate_ring().expect("it can be duplicated")
    });
    made.join().expect("no panic")
}

#[test]
fn a_message_to_a_ring_that_is_over_does_nothing_and_is_sent_once() {
    on_core(|io, _| async move {
        let bell = Bell::new().expect("an eventfd can be made");
        bell.set_ring(Some(ring_that_is_over()));
        assert!(bell.may_sleep(), "nobody has rung");
        bell.wake_by_ref();
        assert_eq!(ringing::has_put_off(), has_messages());
        io.sleep(Duration::from_millis(1)).await;
        assert!(!ringing::has_put_off());
        assert!(bell.eventfd_writes() <= 1, "the kernel refused it, or not");
        bell.wake_by_ref();
        assert_eq!(bell.eventfd_writes(), 0, "it is woken already");
    });
}

/// Whoever rings again goes on with something else, for it knows not how long.
#[test]
fn a_bell_that_is_rung_again_is_not_put_off_any_longer() {
    on_core(|_, _| async move {
        let bell = Bell::new().expect("an eventfd can be made");
        bell.set_ring(Some(ring_that_is_over()));
        assert!(bell.may_sleep(), "nobody has rung");
        for _ in 0..4 {
            bell.wake_by_ref();
        }
        assert!(!ringing::has_put_off());
        assert_eq!(bell.eventfd_writes(), 1);
    });
}

#[test]
fn a_core_with_other_tasks_puts_nothing_off() {
    on_core(|io, _| async move {
        let bell = Bell::new().expect("an eventfd can be made");
        bell.set_ring(Some(ring_that_is_over()));
        assert!(bell.may_sleep(), "nobody has rung");
        io.spawn(Class::Compaction, async {});
        bell.wake_by_ref();
        assert!(!ringing::has_put_off());
        assert_eq!(bell.eventfd_writes(), 1);
    });
}

#[test]
fn what_a_core_that_ends_has_put_off_is_done() {
    for panics in [false, true] {
        let cores = available_cores();
        let (sender, receiver) = mailbox(1);
        let (senders, receivers) = (Handed::new([sender]), Handed::new([receiver]));
        let asleep = Arc::new(AtomicBool::new(false));
        let threads = start(
            &[cores[0], cores[cores.len() - 1]],
            StartOptions::default(),
            move |index, io| {
                let sender = (index == 0).then(|| senders.take(0));
                let receiver = (index == 1).then(|| receivers.take(0));
                let asleep = Arc::clone(&asleep);
                async move {
                    if let Some(mut receiver) = receiver {
                        asleep.store(true, Ordering::SeqCst);
                        let mut batch = Vec::new();
                        assert_eq!(receiver.recv_batch(&mut batch, 1).await, 1);
                        return;
                    }
                    while !asleep.load(Ordering::SeqCst) {
                        io.sleep(Duration::from_millis(1)).await;
                    }
                    io.sleep(Duration::from_millis(20)).await;
                    let sender = sender.expect("the first core sends");
                    sender.try_send(7).expect("there is room");
                    // Nobody drops it, and rings by that.
                    std::mem::forget(sender);
                    assert!(!panics, "after it was put off");
                }
            },
        );
        let ends = ends_within_a_minute(threads.expect("cores start here"));
        assert_eq!(ends[0].is_err(), panics);
        assert!(ends[1].is_ok(), "{ends:?}");
    }
}

/// Wakers lie about for as long as others like, and a ring is dear.
#[test]
fn a_waker_that_outlives_its_core_does_not_keep_the_ring() {
    let (tell, told) = mpsc::channel();
    let threads = start(&[available_cores()[0]], StartOptions::default(), move |_, io| {
        let (bell, tell) = (Arc::clone(io.0.reactor.bell()), tell.clone());
        async move {
            assert_eq!(bell.ring().is_some(), io.ability().messages);
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            tell.send((bell, waker)).expect("the test waits");
        }
    });
    join_within_a_minute(threads.expect("a core starts here"));
    let (bell, waker) = told.recv().expect("it was sent");
    assert!(bell.ring().is_none());
    waker.wake();
}
