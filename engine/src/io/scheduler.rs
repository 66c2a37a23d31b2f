//! The tasks of one core: a queue for each [`Class`], and the core's time divided among them by shares.
//!
//! It is one future, [`Scheduler::run`], which the runtime polls on its thread. A poll runs ready tasks until none is
//! left, or until a slice of time is over, or a less urgent class is to run after a more urgent one; then the runtime
//! must look at its ring, where completions wait and requests are handed over, and poll again. Nothing here knows which runtime that is.
//!
//! **Choosing.** Each class has a virtual time: the time that its tasks ran, divided by its shares. The ready class
//! with the least of it runs next, one poll of its oldest ready task; on a tie the more urgent class. So over a while
//! each busy class gets its shares' part of the core and none starves. A class that was idle starts from where the busy
//! ones are: it saves nothing up. (As Linux's CFS and Seastar's task queues do.)
//!
//! **Waking.** A waker puts its task into the ready queue, at most once until the task is polled. On the task's own
//! thread that is a plain queue; from any other it is a lock-free one, and the runtime is woken for it ([`Outer`]).
//!
//! **Ending.** When the main future is done, every other task is dropped, on this thread, whatever it waits for. So it is
//! when a task panics, which ends the scheduler: whoever waits for one of its tasks learns that it is gone.
//!
//! [`run`]: Scheduler::run

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use crossbeam_queue::SegQueue;

use super::Class;
use super::account::ClassTimes;
use super::clock::now;

const CLASSES: usize = Class::ALL.len();

/// The place of a class in [`Class::ALL`], most urgent first.
fn place(class: Class) -> usize {
    class as usize
}

const _: () = {
    let mut i = 0;
    while i < CLASSES {
        assert!(
            Class::ALL[i] as usize == i,
            "ALL lists the classes in their order"
        );
        i += 1;
    }
};

/// The shares that a class starts with.
const fn initial_shares(class: Class) -> u32 {
    match class {
        Class::Foreground => 1000,
        Class::Flush => 400,
        Class::Level0 => 200,
        Class::Compaction => 100,
        Class::Maintenance => 50,
    }
}

/// The classes with a ready task: a bit for each place. Nearly always there is one, and no other is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ready(u8);

const _: () = assert!(CLASSES <= u8::BITS as usize);

impl Ready {
    fn with(self, place: usize) -> Self {
        Self(self.0 | 1 << place)
    }

    fn without(self, place: usize) -> Self {
        Self(self.0 & !(1 << place))
    }

    /// Their places, the most urgent first.
    fn places(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let place = self.0.trailing_zeros() as usize;
            (place < CLASSES).then(|| {
                self = self.without(place);
                place
            })
        })
    }
}

/// Who runs next, decided from virtual times alone.
struct Fairness {
    shares: [u32; CLASSES],
    /// Nanoseconds run, times 1000, divided by shares. Lasts for five centuries of one class at 1 share on one core.
    virtual_time: [u64; CLASSES],
    /// The virtual time of the class that ran last: where a class that was idle starts.
    floor: u64,
}

impl Fairness {
    fn new() -> Self {
        Self {
            shares: Class::ALL.map(initial_shares),
            virtual_time: [0; CLASSES],
            floor: 0,
        }
    }

    /// The class becomes ready after having been idle.
    fn activate(&mut self, place: usize) {
        self.virtual_time[place] = self.virtual_time[place].max(self.floor);
    }

    /// The ready class whose turn it is.
    fn pick(&mut self, ready: Ready) -> Option<usize> {
        let place = ready.places().min_by_key(|&place| self.virtual_time[place])?;
        self.floor = self.floor.max(self.virtual_time[place]);
        Some(place)
    }

    /// Another weight. What the class has run ahead of the others stays the same in real time: it was run up at the old
    /// weight, and would be paid off at the new one for up to a thousand times as long.
    fn set_shares(&mut self, place: usize, shares: u32) {
        let ahead = self.virtual_time[place].saturating_sub(self.floor);
        let rescaled = u128::from(ahead) * u128::from(self.shares[place]) / u128::from(shares);
        let behind = self.virtual_time[place].min(self.floor);
        self.virtual_time[place] = behind.saturating_add(u64::try_from(rescaled).unwrap_or(u64::MAX));
        self.shares[place] = shares;
    }

    /// The class ran for `ran`.
    fn charge(&mut self, place: usize, ran: Duration) {
        let nanos = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX / 1000);
        self.virtual_time[place] += nanos * 1000 / u64::from(self.shares[place]);
    }
}

/// How other threads wake the runtime.
enum Outer {
    /// By the waker that is left here when there is nothing to do; whoever comes first takes it. Before the scheduler says
    /// that it has nothing to do it leaves its waker and then looks at the other threads' queue once more, so one of the
    /// two sees the other.
    Left(AtomicWaker),
    /// By a waker that all of them have, at any time: it forgets no wake-up, and knows by itself who sleeps.
    Known(Waker),
}

impl Outer {
    /// Wakes the runtime for a task that is in the queue now.
    fn wake(&self) {
        match self {
            Self::Left(waker) => waker.wake(),
            Self::Known(waker) => waker.wake_by_ref(),
        }
    }

    /// Wakes the runtime for a task that another thread is about to put into the queue, or has put there. That thread may
    /// have been stopped in the middle of waking the runtime, and where the waker is known nobody needs to wait for it.
    fn wake_too(&self) {
        if let Self::Known(waker) = self {
            waker.wake_by_ref();
        }
    }
}

/// What other threads see of a scheduler.
struct Outside {
    /// Tasks woken from other threads; each is in it at most once, so it is bounded by their number.
    woken: SegQueue<Arc<TaskWaker>>,
    runtime: Outer,
    /// Nobody takes from that queue any more. What lay in it would hold this, which holds it, for ever.
    over: AtomicBool,
}

impl Outside {
    /// Puts a woken task into the queue. After the end nothing stays there: of whoever puts one in, and then looks whether it
    /// is over, and whoever says so, and then empties it, one sees the other.
    fn push(&self, task: Arc<TaskWaker>) {
        self.woken.push(task);
        fence(Ordering::SeqCst);
        if self.over.load(Ordering::Relaxed) {
            self.clear();
        }
    }

    fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if over {
            self.clear();
        }
    }

    fn clear(&self) {
        while self.woken.pop().is_some() {}
    }
}

/// Wakes one task.
struct TaskWaker {
    /// Which scheduler of this process the task belongs to.
    scheduler: usize,
    outside: Arc<Outside>,
    place: usize,
    slot: usize,
    /// The task is in a ready queue. Cleared just before it is polled, so that a wake during the poll counts.
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let was_queued = self.queued.swap(true, Ordering::AcqRel);
        // Without a thread-local any more, this thread is ending and no scheduler runs on it.
        let at_home = HERE.try_with(|here| match &*here.borrow() {
            Some(inner) if inner.id == self.scheduler => {
                if !was_queued {
                    inner.make_ready(Arc::clone(self));
                }
                true
            }
            _ => false,
        });
        if at_home == Ok(true) {
            return;
        }
        if was_queued {
            self.outside.runtime.wake_too();
        } else {
            self.outside.push(Arc::clone(self));
            self.outside.runtime.wake();
        }
    }
}

thread_local! {
    /// The scheduler that runs on this thread.
    static HERE: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

struct Task {
    waker: Arc<TaskWaker>,
    /// Taken out while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

struct Inner {
    id: usize,
    slice: Duration,
    outside: Arc<Outside>,
    fairness: RefCell<Fairness>,
    ready: [RefCell<VecDeque<Arc<TaskWaker>>>; CLASSES],
    /// Those of them that are not empty.
    ready_classes: Cell<Ready>,
    tasks: RefCell<Vec<Option<Task>>>,
    free_slots: RefCell<Vec<usize>>,
    class_times: RefCell<ClassTimes>,
    /// When the task that runs now began to.
    began: Cell<Duration>,
    /// The class of the task that runs now, or ran last.
    class: Cell<Class>,
    /// Tasks run now, so a ready one needs no waking of the runtime.
    running: Cell<bool>,
    /// The runtime's waker, for wake-ups on its own thread.
    runtime: RefCell<Option<Waker>>,
}

/// The tasks of one core. Clones share them.
#[derive(Clone)]
pub(in crate::io) struct Scheduler(Rc<Inner>);

impl Scheduler {
    /// A scheduler whose tasks are asked to stop after `slice`.
    pub(in crate::io) fn new(slice: Duration) -> Self {
        Self::woken_by(slice, Outer::Left(AtomicWaker::new()))
    }

    /// The same on a runtime whose waker is known beforehand. Other threads use it at any time and several at once; each that
    /// returns from it must have made sure that the runtime polls again.
    pub(in crate::io) fn with_waker(slice: Duration, runtime: Waker) -> Self {
        Self::woken_by(slice, Outer::Known(runtime))
    }

    fn woken_by(slice: Duration, runtime: Outer) -> Self {
        static NEXT_ID: AtomicUsize = AtomicUsize::new(0);
        Self(Rc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            slice,
            outside: Arc::new(Outside {
                woken: SegQueue::new(),
                runtime,
                over: AtomicBool::new(false),
            }),
            fairness: RefCell::new(Fairness::new()),
            ready: Default::default(),
            ready_classes: Cell::default(),
            tasks: RefCell::default(),
            free_slots: RefCell::default(),
            class_times: RefCell::default(),
            began: Cell::new(now()),
            class: Cell::new(Class::Foreground),
            running: Cell::new(false),
            runtime: RefCell::new(None),
        }))
    }

    /// Adds a task, ready to run.
    pub(in crate::io) fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        let inner = &*self.0;
        let mut tasks = inner.tasks.borrow_mut();
        let slot = inner.free_slots.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let waker = Arc::new(TaskWaker {
            scheduler: inner.id,
            outside: Arc::clone(&inner.outside),
            place: place(class),
            slot,
            queued: AtomicBool::new(true),
        });
        assert!(tasks[slot].is_none(), "a free slot is empty");
        tasks[slot] = Some(Task {
            waker: Arc::clone(&waker),
            future: Some(Box::pin(task)),
        });
        drop(tasks);
        inner.make_ready(waker);
    }

    /// Tasks that have not ended.
    pub(in crate::io) fn tasks(&self) -> usize {
        self.0.tasks.borrow().len() - self.0.free_slots.borrow().len()
    }

    /// Gives a class another weight. Panics outside 1 to 1000.
    pub(in crate::io) fn set_shares(&self, class: Class, shares: u32) {
        assert!((1..=1000).contains(&shares), "shares are 1 to 1000, not {shares}");
        self.0.fairness.borrow_mut().set_shares(place(class), shares);
    }

    /// Whether the running task has had its slice.
    pub(in crate::io) fn should_yield(&self) -> bool {
        now().saturating_sub(self.0.began.get()) >= self.0.slice
    }

    /// What each class has had of the core.
    pub(in crate::io) fn class_times(&self) -> ClassTimes {
        *self.0.class_times.borrow()
    }

    /// When the running task was polled.
    pub(in crate::io) fn polled_at(&self) -> Duration {
        self.0.began.get()
    }

    /// Runs tasks until `main`, itself one of the foreground, is done. Then it drops the others.
    ///
    /// When a slice is over while tasks are ready, the future that `revisit` makes is awaited: it must be one that the
    /// runtime completes only after having looked at its ring.
    pub(in crate::io) async fn run<R: Future<Output = ()>>(
        &self,
        main: impl Future<Output = ()> + 'static,
        revisit: impl Fn() -> R,
    ) {
        let ended = Rc::new(Cell::new(false));
        let ends = Rc::clone(&ended);
        self.spawn(Class::Foreground, async move {
            main.await;
            ends.set(true);
        });
        let _here = Home::enter(&self.0);
        self.0.outside.set_over(false);
        // Before `_here` goes, so that what the tasks wake as they are dropped is found on this thread.
        let _dropped_last = DropTasks(&self.0);
        loop {
            match poll_fn(|cx| self.0.poll_tasks(cx, &ended)).await {
                Turn::Ended => break,
                Turn::SliceOver => {
                    let mut visit = pin!(revisit());
                    poll_fn(|cx| {
                        self.0.set_runtime(cx.waker());
                        visit.as_mut().poll(cx)
                    })
                    .await;
                }
            }
        }
    }
}

/// Drops every task when it is dropped: at the end, and on the way out of a panic, when the tasks hold what others wait
/// for (answers, queues) and would keep it for ever, because they and their scheduler hold each other.
struct DropTasks<'a>(&'a Inner);

impl Drop for DropTasks<'_> {
    fn drop(&mut self) {
        self.0.drop_tasks();
    }
}

/// Says which scheduler runs on this thread, until it is dropped.
struct Home;

impl Home {
    fn enter(inner: &Rc<Inner>) -> Self {
        HERE.with(|here| {
            let before = here.replace(Some(Rc::clone(inner)));
            assert!(before.is_none(), "one scheduler runs on a thread at a time");
        });
        Self
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Also on the way out of a panic, when the next executor of this thread must find the place empty.
        HERE.with(|here| drop(here.replace(None)));
    }
}

/// Why a poll of the tasks came to its end.
enum Turn {
    /// The main future is done.
    Ended,
    /// Tasks are ready, and the ring must be looked at.
    SliceOver,
}

impl Inner {
    /// Puts a task at the end of its class's ready queue; its `queued` is set.
    fn make_ready(&self, task: Arc<TaskWaker>) {
        let place = task.place;
        let mut ready = self.ready[place].borrow_mut();
        if ready.is_empty() {
            self.fairness.borrow_mut().activate(place);
            self.ready_classes.set(self.ready_classes.get().with(place));
        }
        ready.push_back(task);
        drop(ready);
        if !self.running.get()
            && let Some(runtime) = &*self.runtime.borrow()
        {
            runtime.wake_by_ref();
        }
    }

    fn set_runtime(&self, waker: &Waker) {
        let mut runtime = self.runtime.borrow_mut();
        if !runtime.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *runtime = Some(waker.clone());
        }
    }

    /// Takes over what other threads have woken.
    fn take_woken(&self) {
        while let Some(task) = self.outside.woken.pop() {
            self.make_ready(task);
        }
    }

    fn poll_tasks(&self, cx: &Context<'_>, ended: &Cell<bool>) -> Poll<Turn> {
        self.set_runtime(cx.waker());
        self.running.set(true);
        let start = now();
        let mut time = start;
        // The most urgent class of those that ran since the ring was looked at.
        let mut most_urgent = CLASSES;
        let turn = loop {
            if ended.get() {
                break Poll::Ready(Turn::Ended);
            }
            if time.saturating_sub(start) >= self.slice {
                break Poll::Ready(Turn::SliceOver);
            }
            self.take_woken();
            let Some(place) = self.fairness.borrow_mut().pick(self.ready_classes.get()) else {
                if let Outer::Left(place) = &self.outside.runtime {
                    place.register(cx.waker());
                }
                if self.outside.woken.is_empty() {
                    break Poll::Pending;
                }
                continue;
            };
            if place > most_urgent {
                // What the more urgent class has asked of the device must not wait for this one's slice to be asked.
                break Poll::Ready(Turn::SliceOver);
            }
            most_urgent = place;
            self.began.set(time);
            self.class.set(Class::ALL[place]);
            self.poll_next(place);
            let after = now();
            let took = after.saturating_sub(time);
            self.fairness.borrow_mut().charge(place, took);
            self.class_times.borrow_mut().add(Class::ALL[place], took, after);
            time = after;
        };
        self.running.set(false);
        turn
    }

    /// Polls the oldest ready task of a class.
    fn poll_next(&self, place: usize) {
        let mut ready = self.ready[place].borrow_mut();
        let waker = ready.pop_front();
        let waker = waker.expect("the class was picked because it is ready");
        if ready.is_empty() {
            self.ready_classes.set(self.ready_classes.get().without(place));
        }
        drop(ready);
        let slot = waker.slot;
        let future = match &mut self.tasks.borrow_mut()[slot] {
            Some(task) if Arc::ptr_eq(&task.waker, &waker) => task.future.take(),
            // It ended, and was woken once more by somebody who did not know; another may have its slot.
            _ => return,
        };
        let mut future = future.expect("a task is polled by one at a time");
        waker.queued.store(false, Ordering::Release);
        let task_waker = Waker::from(waker);
        let outcome = future.as_mut().poll(&mut Context::from_waker(&task_waker));
        // The borrow ends before the future does: its drop may spawn or wake.
        let ended = {
            let mut tasks = self.tasks.borrow_mut();
            match outcome {
                Poll::Pending => {
                    let task = tasks[slot]
                        .as_mut()
                        .expect("only its own end empties a task's slot");
                    task.future = Some(future);
                    None
                }
                Poll::Ready(()) => Some((tasks[slot].take(), future)),
            }
        };
        if ended.is_some() {
            self.free_slots.borrow_mut().push(slot);
        }
        drop(ended);
    }

    /// Drops every task. What their drops spawn is dropped too; a chain of that without end would be a bug.
    fn drop_tasks(&self) {
        loop {
            let tasks = self.tasks.take();
            self.free_slots.borrow_mut().clear();
            if tasks.is_empty() {
                break;
            }
            if std::thread::panicking() {
                for task in tasks {
                    // A second panic out of a drop would end the process; the first is the one to tell.
                    let _told_by_the_first = catch_unwind(AssertUnwindSafe(|| drop(task)));
                }
            } else {
                drop(tasks);
            }
        }
        self.ready.iter().for_each(|ready| ready.borrow_mut().clear());
        self.ready_classes.set(Ready::default());
        self.outside.set_over(true);
        if let Outer::Left(place) = &self.outside.runtime {
            drop(place.take());
        }
        drop(self.runtime.take());
    }
}

/// The class of the task that runs on this thread: what it asks for is asked for by that class. What no task asks for is the
/// foreground's.
pub(in crate::io) fn running_class() -> Class {
    let class = HERE.try_with(|here| {
        let running = here.borrow();
        let running = running.as_ref().filter(|inner| inner.running.get());
        running.map_or(Class::Foreground, |inner| inner.class.get())
    });
    class.unwrap_or(Class::Foreground)
}

/// Goes to the end of its class's queue once.
pub(in crate::io) fn yield_now() -> impl Future<Output = ()> + 'static {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn all_ready() -> Ready {
        ready(0..CLASSES)
    }

    fn ready(places: impl IntoIterator<Item = usize>) -> Ready {
        places.into_iter().fold(Ready::default(), Ready::with)
    }

    #[test]
    fn busy_classes_run_in_proportion_to_their_shares() {
        let mut fairness = Fairness::new();
        let mut ran = [0_u32; CLASSES];
        for _ in 0..35_000 {
            let place = fairness.pick(all_ready()).unwrap();
            ran[place] += 1;
            fairness.charge(place, MS);
        }
        let total: u32 = fairness.shares.iter().sum();
        for (place, &times) in ran.iter().enumerate() {
            let due = 35_000 * fairness.shares[place] / total;
            assert!(
                times.abs_diff(due) <= 20,
                "class {place} ran {times} times, {due} were due"
            );
        }
    }

    #[test]
    fn a_class_that_was_idle_neither_saves_up_nor_falls_behind() {
        let mut fairness = Fairness::new();
        let compaction = place(Class::Compaction);
        let only_compaction = ready([compaction]);
        for _ in 0..1000 {
            assert_eq!(fairness.pick(only_compaction), Some(compaction));
            fairness.charge(compaction, MS);
        }
        let both = ready([compaction, 0]);
        fairness.activate(0);
        // Ten to one by shares: the foreground is served at once, and compaction within eleven turns or so.
        let turns: Vec<_> = (0..100)
            .map(|_| {
                let place = fairness.pick(both).unwrap();
                fairness.charge(place, MS);
                place
            })
            .collect();
        assert_eq!(turns[0], 0);
        let compactions = turns.iter().filter(|&&p| p == compaction).count();
        assert!((8..=10).contains(&compactions), "{compactions} of 100");
    }

    #[test]
    fn a_class_given_more_shares_need_not_work_off_its_few() {
        let mut fairness = Fairness::new();
        let (flush, compaction) = (place(Class::Flush), place(Class::Compaction));
        let both = ready([flush, compaction]);
        fairness.set_shares(flush, 1);
        fairness.set_shares(compaction, 1000);
        assert_eq!(fairness.pick(both), Some(flush));
        // A thousand of the others' turns ahead, at one share.
        fairness.charge(flush, MS);
        fairness.set_shares(flush, 1000);
        fairness.set_shares(compaction, 1000);
        let turns: Vec<_> = (0..10)
            .map(|_| {
                let place = fairness.pick(both).unwrap();
                fairness.charge(place, MS);
                place
            })
            .collect();
        assert_eq!(turns.iter().filter(|&&p| p == flush).count(), 5, "{turns:?}");
    }

    #[test]
    fn on_a_tie_the_more_urgent_runs_and_without_any_nobody() {
        let mut fairness = Fairness::new();
        assert_eq!(fairness.pick(all_ready()), Some(place(Class::Foreground)));
        assert_eq!(fairness.pick(Ready::default()), None);
    }

    /// Runs `main` on this thread, with a ring that has nothing to look at.
    fn run(scheduler: &Scheduler, main: impl Future<Output = ()> + 'static) {
        futures_lite::future::block_on(scheduler.run(main, futures_lite::future::yield_now));
    }

    #[test]
    fn tasks_of_a_class_take_turns_in_order() {
        let scheduler = Scheduler::new(MS);
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..3 {
            let order = Rc::clone(&order);
            scheduler.spawn(Class::Flush, async move {
                for turn in 0..3 {
                    order.borrow_mut().push((turn, task));
                    yield_now().await;
                }
            });
        }
        let seen = Rc::clone(&order);
        run(&scheduler, async move {
            while seen.borrow().len() < 9 {
                yield_now().await;
            }
        });
        let expected: Vec<_> = (0..3)
            .flat_map(|turn| (0..3).map(move |task| (turn, task)))
            .collect();
        assert_eq!(*order.borrow(), expected);
        let flush = scheduler.class_times().of(Class::Flush);
        assert!(flush.polls >= 9 && flush.ran > Duration::ZERO, "{flush:?}");
    }

    #[test]
    fn a_task_that_never_waits_for_the_ring_lets_it_be_looked_at() {
        let scheduler = Scheduler::new(Duration::from_micros(50));
        let visits = Rc::new(Cell::new(0));
        let seen = Rc::clone(&visits);
        let main = async move {
            while seen.get() < 10 {
                yield_now().await;
            }
        };
        futures_lite::future::block_on(scheduler.run(main, || {
            visits.set(visits.get() + 1);
            futures_lite::future::yield_now()
        }));
    }

    #[test]
    fn requests_of_the_urgent_are_handed_over_before_the_background_runs() {
        let scheduler = Scheduler::new(Duration::from_secs(3600));
        let log = Rc::new(RefCell::new(Vec::new()));
        for class in [Class::Compaction, Class::Flush] {
            let log = Rc::clone(&log);
            scheduler.spawn(class, async move { log.borrow_mut().push(format!("{class:?}")) });
        }
        let seen = Rc::clone(&log);
        let main = async move {
            seen.borrow_mut().push("Foreground".to_owned());
            while seen.borrow().len() < 5 {
                yield_now().await;
            }
        };
        futures_lite::future::block_on(scheduler.run(main, || {
            log.borrow_mut().push("ring".to_owned());
            futures_lite::future::yield_now()
        }));
        assert_eq!(
            log.borrow()[..5],
            ["Foreground", "ring", "Flush", "ring", "Compaction"].map(str::to_owned)
        );
    }

    #[test]
    fn wake_ups_from_other_threads_and_of_ended_tasks_are_told_apart() {
        let scheduler = Scheduler::new(MS);
        let inner = scheduler.clone();
        run(&scheduler, async move {
            for round in 0..2000 {
                // A task that ends at once; its waker outlives it and is woken when another has its place.
                let stale = Rc::new(RefCell::new(None));
                let leaves = Rc::clone(&stale);
                inner.spawn(Class::Flush, async move {
                    poll_fn(|cx| {
                        *leaves.borrow_mut() = Some(cx.waker().clone());
                        Poll::Ready(())
                    })
                    .await;
                });
                while stale.borrow().is_none() {
                    yield_now().await;
                }
                let stale: Waker = stale.take().unwrap();
                let (reply, answer) = crate::io::mailbox::mailbox(1);
                let thread = std::thread::Builder::new()
                    .spawn(move || {
                        stale.wake();
                        reply.try_send(round).unwrap();
                    })
                    .unwrap();
                let mut answer = answer;
                let mut batch = Vec::new();
                assert_eq!(answer.recv_batch(&mut batch, 1).await, 1);
                assert_eq!(batch, [round]);
                thread.join().unwrap();
            }
        });
    }

    /// The runtime's waker: its first caller is stopped until the test lets it go on.
    struct Stopped {
        first: std::sync::Barrier,
        wakes: AtomicUsize,
    }

    impl Wake for Stopped {
        fn wake(self: Arc<Self>) {
            if self.wakes.fetch_add(1, Ordering::SeqCst) == 0 {
                self.first.wait();
                self.first.wait();
            }
        }
    }

    /// A thread that was stopped while it woke the runtime had marked its task as woken: whoever woke the same task meanwhile
    /// relied on it, and the task lay there until the first thread ran again.
    #[test]
    fn a_thread_stopped_while_it_wakes_keeps_no_other_from_waking() {
        let stopped = Arc::new(Stopped {
            first: std::sync::Barrier::new(2),
            wakes: AtomicUsize::new(0),
        });
        let scheduler = Scheduler::with_waker(MS, Waker::from(Arc::clone(&stopped)));
        let waker = Rc::new(RefCell::new(None));
        let leaves = Rc::clone(&waker);
        run(&scheduler, async move {
            poll_fn(|cx| {
                *leaves.borrow_mut() = Some(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
        });
        let waker: Waker = waker.take().expect("the task has run");
        let first = waker.clone();
        let thread = std::thread::Builder::new()
            .spawn(move || first.wake())
            .expect("a thread starts");
        stopped.first.wait();
        waker.wake();
        assert_eq!(
            stopped.wakes.load(Ordering::SeqCst),
            2,
            "the second woke it itself"
        );
        stopped.first.wait();
        thread.join().expect("no panic");
    }

    /// A task that was woken after its scheduler had ended lay in a queue that it held itself, and with it the runtime's waker:
    /// every database that was closed and then dropped left an open eventfd for each core behind.
    #[test]
    fn a_wake_after_the_end_keeps_nothing() {
        let runtime = Arc::new(Stopped {
            first: std::sync::Barrier::new(1),
            wakes: AtomicUsize::new(0),
        });
        let gone = Arc::downgrade(&runtime);
        let scheduler = Scheduler::with_waker(MS, Waker::from(runtime));
        let left = Rc::new(RefCell::new(None));
        let leaves = Rc::clone(&left);
        run(&scheduler, async move {
            poll_fn(|cx| {
                *leaves.borrow_mut() = Some(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
        });
        let waker: Waker = left.take().expect("the task has run");
        let thread = std::thread::Builder::new().spawn(move || waker.wake());
        thread.expect("a thread starts").join().expect("no panic");
        drop(scheduler);
        assert!(gone.upgrade().is_none(), "the runtime's waker is let go");
    }

    #[test]
    fn what_still_waits_at_the_end_is_dropped() {
        let scheduler = Scheduler::new(MS);
        let held = Rc::new(());
        let (holds, spawner) = (Rc::clone(&held), scheduler.clone());
        run(&scheduler, async move {
            let (first, second) = (Rc::clone(&holds), holds);
            spawner.spawn(Class::Maintenance, async move {
                std::future::pending::<()>().await;
                drop(first);
            });
            yield_now().await;
            spawner.spawn(Class::Maintenance, async move { drop(second) });
        });
        assert_eq!(Rc::strong_count(&held), 1);
    }

    /// A panic left the tasks in the scheduler, and each holds a way back to it: what they held was never given up, so
    /// that callers waited for ever for answers inside them.
    #[test]
    fn a_panic_drops_every_task_on_its_way_out() {
        struct PanicsWhenDropped;
        impl Drop for PanicsWhenDropped {
            fn drop(&mut self) {
                panic!("a second panic, on the way out of the first");
            }
        }
        let scheduler = Scheduler::new(MS);
        let held = Rc::new(());
        for panics in [true, false] {
            let (holds, back) = (Rc::clone(&held), scheduler.clone());
            scheduler.spawn(Class::Maintenance, async move {
                let _panics = panics.then_some(PanicsWhenDropped);
                std::future::pending::<()>().await;
                drop((holds, back));
            });
        }
        let panicking = scheduler.clone();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            run(&scheduler, async move {
                panicking.spawn(Class::Compaction, async { panic!("the reason") });
                std::future::pending::<()>().await;
            });
        }));
        let reason = ran.expect_err("the panic is told");
        assert_eq!(reason.downcast_ref::<&str>(), Some(&"the reason"));
        assert_eq!(Rc::strong_count(&held), 1, "every task was dropped");
        let again = Scheduler::new(MS);
        run(&again, yield_now());
    }
}
