//! How cores wake each other: by messages into their rings, and by eventfds where those cannot be sent.

use std::future::poll_fn;
use std::sync::Weak;
use std::task::{Poll, Wake};

use super::super::bell::Bell;
use super::super::in_flight::InFlight;
use super::super::memory::Arena;
use super::super::msg_ring::RingDoor;
use super::super::ring::Wait;
use super::*;

/// Two cores that send each other a number so often, and wait for it in between; how often the eventfd of either was written.
fn there_and_back(wanted: Wanted, options: StartOptions, rounds: u64) -> u64 {
    let cores = available_cores();
    let (to_first, first): (Sender<u64>, Receiver<u64>) = mailbox(4);
    let (to_second, second) = mailbox(4);
    let ends = Handed::new([(to_second, first), (to_first, second)]);
    let written = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&written);
    let main = move |index, io: UringIo| {
        let ((sender, mut receiver), counts) = (ends.take(index), Arc::clone(&counts));
        async move {
            if index == 0 {
                sender.try_send(0).expect("there is room");
            }
            let mut batch = Vec::new();
            let mut over = false;
            while !over && receiver.recv_batch(&mut batch, 4).await > 0 {
                for message in batch.drain(..) {
                    over = message >= rounds;
                    if message <= rounds {
                        sender.try_send(message + 1).expect("there is room");
                    }
                }
            }
            counts.fetch_add(io.0.reactor.bell().eventfd_writes(), Ordering::SeqCst);
            nothing_is_held(&io).await;
        }
    };
    let two = [cores[0], cores[cores.len() - 1]];
    let threads = run::start_wanted(&two, options, wanted, main, |_, _| {});
    join_within_a_minute(threads.expect("cores start here"));
    written.load(Ordering::SeqCst)
}

fn has_messages() -> bool {
    probe().expect("a ring can be made").messages
}

#[test]
fn messages_go_back_and_forth_between_cores_asleep_and_spinning() {
    for spin_before_park_us in [0, 20] {
        let options = StartOptions {
            spin_before_park_us,
            ..StartOptions::default()
        };
        there_and_back(WANTED, options, 5_000);
    }
}

#[test]
fn cores_wake_each_other_by_messages_where_the_kernel_has_them() {
    let by_eventfd = Wanted {
        messages: false,
        ..WANTED
    };
    let writes = |wanted| there_and_back(wanted, StartOptions::default(), 500);
    assert!(writes(by_eventfd) > 0, "they slept");
    assert!(writes(WANTED) == 0 || !has_messages());
}

/// A message that comes while the core is awake must not be lost, nor be taken for an operation's end.
#[test]
fn a_message_ends_the_sleep_that_comes_after_it() {
    for setup in Setup::ALL {
        let wanted = Wanted { setup, ..WANTED };
        let (mut in_flight, door, _) = InFlight::new(wanted, Arena::new(0)).expect("a ring can be made");
        let Some(door) = door else { return };
        let (mut scratch, mut events) = (Vec::new(), Vec::new());
        // Those that told whether there are any.
        in_flight.enter(Wait::Not).expect("the ring can be entered");
        in_flight.take_completions(&mut scratch, &mut events);
        for _ in 0..100 {
            let sent = std::thread::scope(|scope| scope.spawn(|| door.send()).join());
            sent.expect("no panic").expect("a message can be sent");
            in_flight.enter(Wait::Forever).expect("the ring can be entered");
            assert!(in_flight.has_work(), "{setup:?}: it is there");
            in_flight.take_completions(&mut scratch, &mut events);
            assert!(events.is_empty() && !in_flight.has_work(), "{setup:?}");
        }
    }
}

/// A kernel may be short of memory for a message, or the core's ring gone.
#[test]
fn where_a_message_cannot_be_sent_the_eventfd_is_written() {
    let (fails, gone) = (Arc::new(RingDoor::to_nowhere()), Arc::new(RingDoor::to_nowhere()));
    let doors = [Weak::new(), Arc::downgrade(&gone), Arc::downgrade(&fails)];
    drop(gone);
    for door in doors {
        let bell = Bell::new(door).expect("an eventfd can be made");
        assert!(bell.may_sleep(), "nobody has rung");
        bell.wake_by_ref();
        assert_eq!(bell.eventfd_writes(), 1);
        bell.wake_by_ref();
        assert_eq!(bell.eventfd_writes(), 0, "it is woken already");
    }
}

/// Nobody is there to be woken.
#[test]
fn a_message_to_a_core_that_is_over_does_no_harm() {
    let made = std::thread::spawn(|| {
        let (_in_flight, door, _) = InFlight::new(WANTED, Arena::new(0)).expect("a ring can be made");
        door
    });
    let Some(door) = made.join().expect("no panic").map(Arc::new) else {
        return;
    };
    let bell = Bell::new(Arc::downgrade(&door)).expect("an eventfd can be made");
    assert!(bell.may_sleep(), "nobody has rung");
    for _ in 0..100 {
        bell.wake_by_ref();
        let _sent_or_not = door.send();
    }
}

/// Wakers lie about for as long as others like, and a ring is dear.
#[test]
fn a_waker_that_outlives_its_core_does_not_keep_the_ring() {
    let (tell, told) = mpsc::channel();
    let threads = start(&[available_cores()[0]], StartOptions::default(), move |_, io| {
        let (bell, tell) = (Arc::clone(io.0.reactor.bell()), tell.clone());
        async move {
            assert_eq!(bell.has_door(), io.ability().messages);
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            tell.send((bell, waker)).expect("the test waits");
        }
    });
    join_within_a_minute(threads.expect("a core starts here"));
    let (bell, waker) = told.recv().expect("it was sent");
    assert!(!bell.has_door());
    waker.wake();
}
