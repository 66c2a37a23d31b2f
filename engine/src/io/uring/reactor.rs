//! One core's ring, timers and bell, and the turn of its loop.
//!
//! The loop (`run.rs`) polls the scheduler, which runs ready tasks for a slice, and then takes a turn here:
//!
//! 1. If nothing is ready, and nothing waits for its turn (`outflow.rs`, `depth.rs`): look for a while (`spin.rs`), then sleep.
//!    Both end with what the kernel completes, a ring of the bell, or the next timer's deadline. Otherwise only hand over what
//!    was queued and take what is there.
//! 2. Take the completions, and wake whoever waits for them.
//! 3. Wake whoever waits for timers that are due.
//!
//! A turn enters the kernel once, or not at all when there is nothing to hand over and the kernel has nothing to say: what it
//! has to say it says in the memory of the rings.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use io_uring::cqueue;

use super::super::{Held, clock, scheduler};
use super::ability::Ability;
use super::bell::Bell;
use super::blocking::Blocking;
use super::completion::{Completion, Sink};
use super::in_flight::{Event, InFlight, Wanted};
use super::memory::Arena;
use super::msg_ring::RingDoor;
use super::operation::{Operation, Stream};
use super::ring::Wait;
use super::slots::{Key, Left, Told};
use super::spin::Spin;
use super::table::FileTable;
use super::timer::{TimerId, Timers};

/// See the module's head.
pub(super) struct Reactor {
    in_flight: RefCell<InFlight>,
    timers: RefCell<Timers>,
    bell: Arc<Bell>,
    /// Kept open for the bell as long as the core runs.
    _door: Option<Arc<RingDoor>>,
    spin: RefCell<Spin>,
    pub(super) files: RefCell<FileTable>,
    pub(super) blocking: Blocking,
    pub(super) ability: Ability,
    /// Files and directories that are open.
    pub(super) open_files: Cell<usize>,
    /// Sockets that are open.
    pub(super) open_sockets: Cell<usize>,
    /// What a turn collects, kept for the next one.
    completions: RefCell<Vec<cqueue::Entry>>,
    events: RefCell<Vec<Event>>,
    /// The core ends: what has ended is not begun again.
    over: Cell<bool>,
}

impl Reactor {
    /// Made on the thread that will use it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn new(
        wanted: Wanted,
        arena_bytes: usize,
        spin: Duration,
        blocking: Blocking,
    ) -> io::Result<Rc<Self>> {
        let (in_flight, door, ability) = InFlight::new(wanted, Arena::new(arena_bytes))?;
        let door = door.map(Arc::new);
        let bell = Bell::new(door.as_ref().map(Arc::downgrade).unwrap_or_default())?;
        Ok(Rc::new(Self {
            in_flight: RefCell::new(in_flight),
            timers: RefCell::default(),
            bell,
            _door: door,
            spin: RefCell::new(Spin::new(spin)),
            files: RefCell::new(FileTable::new(ability.registered_files)),
            blocking,
            ability,
            open_files: Cell::new(0),
            open_sockets: Cell::new(0),
            completions: RefCell::default(),
            events: RefCell::default(),
            over: Cell::new(false),
        }))
    }

    /// The core's waker.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Runs an operation; dropped before its end it goes on, unless it waits for others.
    pub(super) fn run(self: &Rc<Self>, operation: Operation) -> Pending {
        Pending {
            key: Some(self.begin(operation, true)),
            reactor: Rc::clone(self),
        }
    }

    /// Begins an operation that nobody waits for.
    pub(super) fn begin_alone(&self, operation: Operation) {
        self.begin(operation, false);
    }

    /// Begins an operation whose completions its sink takes.
    pub(super) fn begin_stream(&self, operation: Operation) -> Key {
        self.begin(operation, true)
    }

    fn begin(&self, operation: Operation, awaited: bool) -> Key {
        let class = operation.loads_device().then(scheduler::running_class);
        self.in_flight.borrow_mut().begin(operation, awaited, class)
    }

    /// Asks that an operation end early, if it is still under way.
    pub(super) fn cancel(&self, key: Key) {
        self.in_flight.borrow_mut().cancel(key);
    }

    /// Memory for file transfers.
    pub(super) fn arena(&self) -> Arena {
        self.in_flight.borrow().arena().clone()
    }

    /// Receive buffers out of the ring, `None` where there is none.
    pub(super) fn lent_buffers(&self) -> Option<u16> {
        self.in_flight.borrow().lent()
    }

    /// Operations that wait for their class's room at the device, or for their turn.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.in_flight.borrow().waiting()
    }

    /// Whether the loop must come back without a sleep, because operations wait for a turn.
    #[cfg(test)]
    pub(super) fn has_more_to_hand_over(&self) -> bool {
        self.in_flight.borrow().has_more_to_hand_over()
    }

    /// Puts a file into the kernel's table of registered ones.
    pub(super) fn register_file(&self, place: u32, fd: i32) -> io::Result<()> {
        self.in_flight.borrow_mut().register_file(place, Some(fd))
    }

    /// Takes out of that table what is closed. What the kernel has no memory for is tried again with each file that is opened
    /// or closed.
    pub(super) fn empty_places(&self) {
        let mut in_flight = self.in_flight.borrow_mut();
        let mut files = self.files.borrow_mut();
        files.empty(|place| in_flight.register_file(place, None).is_ok());
    }

    /// Operations under way, or completed and not taken.
    fn operations(&self) -> usize {
        self.in_flight.borrow().len()
    }

    /// What the core holds, but for its tasks.
    pub(super) fn held(&self) -> Held {
        Held {
            tasks: 0,
            timers: self.timers.borrow().len() as u64,
            operations: self.operations() as u64,
            files: self.open_files.get() as u64,
            registered_files: self.files.borrow().in_use() as u64,
            sockets: self.open_sockets.get() as u64,
            receive_buffers: u64::from(self.lent_buffers().unwrap_or(0)),
            file_buffers: self.in_flight.borrow().arena().out() as u64,
        }
    }

    /// Completes when `duration` has passed.
    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        Sleep {
            reactor: Rc::clone(self),
            deadline: clock::now().saturating_add(duration),
            timer: None,
        }
    }

    /// A turn of the loop.
    pub(super) fn turn(&self) {
        let now = if self.bell.is_rung() || self.in_flight.borrow().has_more_to_hand_over() {
            self.enter_if_wanted();
            clock::now()
        } else {
            self.idle()
        };
        self.take_completions();
        self.fire_timers(now);
    }

    fn enter(&self, wait: Wait) {
        let entered = self.in_flight.borrow_mut().enter(wait);
        if let Err(error) = entered {
            // Nothing on this core can go on without its ring.
            panic!("entering the core's io_uring ring: {error}");
        }
    }

    fn enter_if_wanted(&self) {
        if self.in_flight.borrow_mut().wants_enter() {
            self.enter(Wait::Not);
        }
    }

    /// Looks, and sleeps, until there is something; and returns the time.
    fn idle(&self) -> Duration {
        let (look, since) = (self.spin.borrow().look(), clock::now());
        let mut now = since;
        if !look.is_zero() {
            self.enter_if_wanted();
            now = self.look_until(since + look);
        }
        if now - since >= look {
            self.sleep_until_something(now);
            now = clock::now();
        }
        let rung = self.bell.is_rung();
        self.spin.borrow_mut().idled(now - since, rung);
        now
    }

    /// Looks until there is something or the time is over, and returns the time.
    fn look_until(&self, end: Duration) -> Duration {
        let next_timer = self.timers.borrow().next_deadline();
        let end_of_look = next_timer.map_or(end, |deadline| deadline.min(end));
        loop {
            let now = clock::now();
            if now >= end_of_look || self.bell.is_rung() {
                return now;
            }
            let mut in_flight = self.in_flight.borrow_mut();
            if in_flight.has_work() {
                drop(in_flight);
                self.enter_if_wanted();
                return now;
            }
            drop(in_flight);
            std::hint::spin_loop();
        }
    }

    fn sleep_until_something(&self, now: Duration) {
        let deadline = self.timers.borrow().next_deadline();
        let wait = match deadline.map(|deadline| deadline.checked_sub(now)) {
            None => Wait::Forever,
            Some(Some(left)) if !left.is_zero() => Wait::AtMost(left),
            _ => Wait::Not,
        };
        let sleeps = self.bell.may_sleep();
        self.enter(if sleeps { wait } else { Wait::Not });
        self.bell.is_awake();
    }

    fn take_completions(&self) {
        // Taken out of their cells, because what is woken or dropped here begins operations of its own.
        let (mut completions, mut events) = (self.completions.take(), self.events.take());
        let mut in_flight = self.in_flight.borrow_mut();
        in_flight.take_completions(&mut completions, &mut events);
        drop(in_flight);
        for event in events.drain(..) {
            match event {
                Event::Told(Told::Wake(Some(waker))) => waker.wake(),
                Event::Told(Told::Wake(None)) => {}
                Event::Told(Told::Orphan(operation, completion)) => {
                    drop(completion);
                    drop(operation);
                }
                Event::Sink(sink, completion, over) => sink.completed(completion, over),
            }
        }
        self.completions.replace(completions);
        self.events.replace(events);
    }

    fn fire_timers(&self, now: Duration) {
        loop {
            let due = self.timers.borrow_mut().pop_due(now);
            let Some(waker) = due else { break };
            waker.wake();
        }
    }

    /// Has the ring end a sleep when the bell is rung. Once, before the first turn: a core that is made and never runs
    /// leaves nothing under way.
    pub(super) fn watch_bell(self: &Rc<Self>) {
        self.begin_stream(Operation::Stream {
            what: Stream::Readable,
            fd: self.bell.fd(),
            sink: Rc::new(Watch(Rc::downgrade(self))),
        });
    }

    /// Takes turns until every operation has ended, for `longest` at most; whether it has. What waits for others is
    /// cancelled, what the device was asked for is waited for.
    pub(super) fn settle(&self, longest: Duration) -> bool {
        self.over.set(true);
        let end = clock::now() + longest;
        loop {
            self.in_flight.borrow_mut().cancel_endless();
            let idle = self.operations() == 0 && self.blocking.is_idle();
            if idle || clock::now() >= end {
                return idle;
            }
            self.enter(Wait::AtMost(LOOK_AGAIN));
            self.take_completions();
        }
    }
}

/// How often a core that ends looks again whether the blocking thread is done, and cancels what was begun meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Watches the bell's eventfd, for when no message can be sent. That it completes is all: it ends the sleep.
struct Watch(Weak<Reactor>);

impl Sink for Watch {
    fn completed(&self, _completion: Completion, over: Option<Operation>) {
        if over.is_some()
            && let Some(reactor) = self.0.upgrade()
            && !reactor.over.get()
        {
            reactor.watch_bell();
        }
    }
}

/// An operation's end.
pub(super) struct Pending {
    reactor: Rc<Reactor>,
    /// `None` once it has been told.
    key: Option<Key>,
}

impl Future for Pending {
    type Output = (Operation, Completion);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("a future is not polled after its end");
        let polled = self.reactor.in_flight.borrow_mut().poll(key, cx);
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let left = self.reactor.in_flight.borrow_mut().abandon(key);
        match left {
            Left::Done(operation, completion) => {
                drop(completion);
                drop(operation);
            }
            Left::NotBegun(operation) => drop(operation),
            Left::UnderWay { endless: true } => self.reactor.cancel(key),
            Left::UnderWay { endless: false } => {}
        }
    }
}

/// See [`Reactor::sleep`].
pub(super) struct Sleep {
    reactor: Rc<Reactor>,
    deadline: Duration,
    timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.deadline {
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        let this = &mut *self;
        let mut timers = this.reactor.timers.borrow_mut();
        let set = this.timer.is_some_and(|timer| timers.update(timer, cx.waker()));
        if !set {
            this.timer = Some(timers.set(deadline, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.reactor.timers.borrow_mut().cancel(timer);
        }
    }
}

/// Completes when the ring has been looked at once.
pub(super) async fn visit_ring() {
    // The bell rings for it, so that the turn does not sleep.
    scheduler::yield_now().await;
}
