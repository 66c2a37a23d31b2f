//! The accept loop: takes connections until it is told to end, whatever goes wrong between.
//!
//! An accept can fail for the connection (it was reset while it waited: the next one is taken at once) or for the
//! machine (no descriptors, no memory, no buffers: a pause, so that the loop does not spin while others give some back).
//! No error ends the loop: a server that stops accepting for a moment's lack of descriptors would have to be restarted.
//!
//! Connections come in crowds: after a restart, or from somebody who connects as fast as he can. The kernel then holds a
//! thousand of them ready, and each is a task that wants its turn; so only a few are taken before all others have had theirs,
//! and where those that come are of no use to anybody the next ones wait ([`pace`](crate::pace)).

use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use corelane::io::{Io, Listener};
use futures_util::future::{Either, select};

use crate::pace::{self, Pace};

/// After an accept failed for the machine: long enough for descriptors to come back, short enough for nobody to notice.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two complaints about failed accepts in the log: pauses.
const QUIET_FAILURES: u64 = 500;

/// Between two words in the log about a storm that begins.
const QUIET_STORMS: Duration = Duration::from_secs(60);

/// Whether an accept failed for its connection alone.
fn is_of_the_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Gives `welcome` each connection that comes to `listener`, no faster than `pace` allows, until `ending` completes.
pub async fn accept<I: Io, L: Listener>(
    io: &I,
    listener: &L,
    pace: &Pace,
    ending: impl Future<Output = ()>,
    mut welcome: impl FnMut(L::Stream),
) {
    let mut ending = pin!(ending);
    let mut failures = 0_u64;
    let mut accepted = 0_usize;
    let mut quiet_until = Duration::ZERO;
    loop {
        match select(pin!(listener.accept()), ending.as_mut()).await {
            Either::Right(_) => return,
            Either::Left((Ok(stream), _)) => {
                welcome(stream);
                accepted += 1;
                if !accepted.is_multiple_of(pace::A_TURN) {
                    continue;
                }
                let (was_storm, now) = (pace.is_storm(), io.now());
                let pause = pace.pause(now);
                if pace.is_storm() && !was_storm && now >= quiet_until {
                    quiet_until = now + QUIET_STORMS;
                    tracing::warn!(
                        "hundreds of connections have come that are not served a command yet; until there are fewer, new ones are \
                         taken at {} a second, and clients may have to wait",
                        pace::STORM_RATE
                    );
                }
                if pause.is_zero() {
                    io.yield_now().await;
                } else if let Either::Right(_) = select(pin!(io.sleep(pause)), ending.as_mut()).await {
                    return;
                }
            }
            Either::Left((Err(error), _)) if is_of_the_connection(&error) => {}
            Either::Left((Err(error), _)) => {
                if failures.is_multiple_of(QUIET_FAILURES) {
                    tracing::warn!(%error, "accepting a connection failed; trying again");
                }
                failures += 1;
                if let Either::Right(_) = select(pin!(io.sleep(PAUSE)), ending.as_mut()).await {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::rc::Rc;

    use corelane::io::Class;
    use corelane::io::sim::{self, SimDisk};

    use super::*;
    use crate::testing::Script;

    /// A listener whose accepts end as written; after the last one it waits for ever.
    struct Scripted(RefCell<VecDeque<Option<i32>>>);

    impl Listener for Scripted {
        type Stream = Script;

        async fn accept(&self) -> std::io::Result<Script> {
            let next = self.0.borrow_mut().pop_front();
            match next {
                None => std::future::pending().await,
                Some(None) => Ok(Script::default()),
                Some(Some(errno)) => Err(Error::from_raw_os_error(errno)),
            }
        }

        fn local_addr(&self) -> std::io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }
    }

    async fn accept_for_5_s<L: Listener>(
        io: &sim::SimIo,
        listener: &L,
        pace: &Pace,
        welcome: impl FnMut(L::Stream),
    ) {
        accept(io, listener, pace, io.sleep(Duration::from_secs(5)), welcome).await;
    }

    /// Nothing kept a storm of connections from being taken whole, as long as the kernel's queue of them is, before anybody else
    /// had a turn.
    #[test]
    fn a_crowd_at_the_door_does_not_keep_those_inside_waiting() {
        const CROWD: usize = 1000;
        sim::run(1, &SimDisk::new(), 1, async |machine| {
            let io = machine.core(0);
            let listener = Scripted(RefCell::new(vec![None; CROWD].into()));
            let welcomed = Rc::new(Cell::new(0));
            let most_at_once = Rc::new(Cell::new(0));
            let (seen, most, inside) = (Rc::clone(&welcomed), Rc::clone(&most_at_once), io.clone());
            io.spawn(Class::Foreground, async move {
                let mut before = 0;
                while seen.get() < CROWD {
                    most.set(most.get().max(seen.get() - before));
                    before = seen.get();
                    inside.yield_now().await;
                }
            });
            let welcome = |_| welcomed.set(welcomed.get() + 1);
            accept_for_5_s(&io, &listener, &Pace::default(), welcome).await;
            assert_eq!(welcomed.get(), CROWD);
            // The simulated core draws who is next, so that one task may have several turns in a row.
            assert!(most_at_once.get() <= CROWD / 10, "{}", most_at_once.get());
        })
        .expect("the power stays on");
    }

    /// A listener to whom somebody comes every 50 us.
    struct Steady(sim::SimIo);

    const BETWEEN: Duration = Duration::from_micros(50);

    impl Listener for Steady {
        type Stream = Script;

        async fn accept(&self) -> std::io::Result<Script> {
            self.0.sleep(BETWEEN).await;
            Ok(Script::default())
        }

        fn local_addr(&self) -> std::io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }
    }

    /// How many of those who come without end are taken in 5 s, where they are served or not.
    fn taken_in_5_s(futile: bool) -> usize {
        let welcomed = Rc::new(Cell::new(0));
        let count = Rc::clone(&welcomed);
        sim::run(1, &SimDisk::new(), 1, async move |machine| {
            let io = machine.core(0);
            let pace = Rc::<Pace>::default();
            let welcome = |_| {
                count.set(count.get() + 1);
                pace.taken(io.now());
                let (pace, own) = (Rc::clone(&pace), io.clone());
                io.spawn(Class::Foreground, async move {
                    own.sleep(Duration::from_millis(2)).await;
                    if !futile {
                        pace.served();
                    }
                });
            };
            accept_for_5_s(&io, &Steady(io.clone()), &pace, welcome).await;
        })
        .expect("the power stays on");
        welcomed.get()
    }

    /// Who connected anew for each thing that the server refused was taken as fast as he came, and had half of the core.
    #[test]
    fn a_storm_is_taken_at_a_bounded_rate_and_a_crowd_as_fast_as_it_comes() {
        let storm = taken_in_5_s(true);
        assert!((18_000..21_500).contains(&storm), "{storm}");
        let crowd = taken_in_5_s(false);
        assert!(crowd > 95_000, "{crowd}");
    }

    #[test]
    fn no_error_of_an_accept_ends_the_loop() {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ECONNABORTED: i32 = 103;
        const ENOBUFS: i32 = 105;
        const ENOMEM: i32 = 12;
        sim::run(1, &SimDisk::new(), 1, async |machine| {
            let io = machine.core(0);
            let errors = [EMFILE, ENFILE, ECONNABORTED, ENOBUFS, ENOMEM];
            let script = errors.into_iter().flat_map(|errno| [Some(errno), None]).collect();
            let listener = Scripted(RefCell::new(script));
            let welcomed = RefCell::new(Vec::new());
            let began = io.now();
            let welcome = |_| welcomed.borrow_mut().push(io.now());
            accept_for_5_s(&io, &listener, &Pace::default(), welcome).await;
            let welcomed = welcomed.borrow();
            assert_eq!(welcomed.len(), errors.len());
            assert!(welcomed[0] - began >= PAUSE, "it lets descriptors come back");
            assert!(
                welcomed[2] - welcomed[1] < PAUSE,
                "a connection that was reset costs nothing"
            );
        })
        .expect("the power stays on");
    }
}
