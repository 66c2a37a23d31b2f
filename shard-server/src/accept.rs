//! The accept loop: takes connections until it is told to end, whatever goes wrong between.
//!
//! An accept can fail for the connection (it was reset while it waited: the next one is taken at once) or for the
//! machine (no descriptors, no memory, no buffers: a pause, so that the loop does not spin while others give some back).
//! No error ends the loop: a server that stops accepting for a moment's lack of descriptors would have to be restarted.
//!
//! Connections come in crowds: after a restart, or from somebody who connects as fast as he can. The kernel then holds a
//! thousand of them ready, and each is a task that wants its turn; so only a few are taken before all others have had theirs.

use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use corelane::io::{Io, Listener};
use futures_util::future::{Either, select};

/// After an accept failed for the machine: long enough for descriptors to come back, short enough for nobody to notice.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two complaints about failed accepts in the log: pauses.
const QUIET_FAILURES: u64 = 500;

/// Connections taken before other tasks get their turn: some tenths of a ms of work, which a client that is here already
/// waits for at most.
const ACCEPTS_A_TURN: usize = 4;

/// Whether an accept failed for its connection alone.
fn is_of_the_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Gives `welcome` each connection that comes to `listener`, until `ending` completes.
pub async fn accept<I: Io, L: Listener>(
    io: &I,
    listener: &L,
    ending: impl Future<Output = ()>,
    mut welcome: impl FnMut(L::Stream),
) {
    let mut ending = pin!(ending);
    let mut failures = 0_u64;
    let mut accepted = 0_usize;
    loop {
        match select(pin!(listener.accept()), ending.as_mut()).await {
            Either::Right(_) => return,
            Either::Left((Ok(stream), _)) => {
                welcome(stream);
                accepted += 1;
                if accepted.is_multiple_of(ACCEPTS_A_TURN) {
                    io.yield_now().await;
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
            accept(&io, &listener, io.sleep(Duration::from_secs(5)), welcome).await;
            assert_eq!(welcomed.get(), CROWD);
            // The simulated core draws who is next, so that one task may have several turns in a row.
            assert!(most_at_once.get() <= CROWD / 10, "{}", most_at_once.get());
        })
        .expect("the power stays on");
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
            accept(&io, &listener, io.sleep(Duration::from_secs(5)), welcome).await;
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
