//! The tasks of every virtual core, and which of them runs next.
//!
//! Ready tasks stand in one queue that any waker may reach from any thread (`Waker` demands it; the simulator itself
//! uses one). Each step draws one by the weights of its core's classes, so that every interleaving has some seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::rng::Rng;
use crate::io::Class;

/// The number of the future given to `run_until`.
pub(super) const MAIN: u64 = 0;

/// Shares of a class that was given none.
const DEFAULT_SHARES: u32 = 100;

/// A boxed task.
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Debug, Default)]
struct ReadyQueue(Mutex<Vec<u64>>);

impl ReadyQueue {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        // A panic while it is held leaves a whole vector behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().push(self.id);
        }
    }
}

struct Task {
    core: usize,
    class: Class,
    waker: Arc<TaskWaker>,
    spawned_at: &'static Location<'static>,
    /// Away while it is being polled.
    future: Option<TaskFuture>,
}

/// Every task that has not finished.
pub(super) struct Tasks {
    tasks: BTreeMap<u64, Task>,
    ready: Arc<ReadyQueue>,
    next_id: u64,
    shares: Vec<[u32; Class::ALL.len()]>,
}

/// A task drawn to run.
pub(super) struct Drawn {
    pub(super) id: u64,
    pub(super) core: usize,
    pub(super) class: Class,
    pub(super) waker: Waker,
    /// `None` for [`MAIN`], whose future its caller holds.
    pub(super) future: Option<TaskFuture>,
}

impl Tasks {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            next_id: MAIN + 1,
            shares: vec![[DEFAULT_SHARES; Class::ALL.len()]; cores],
        }
    }

    pub(super) fn set_shares(&mut self, core: usize, class: Class, shares: u32) {
        self.shares[core][class as usize] = shares;
    }

    pub(super) fn spawn(
        &mut self,
        core: usize,
        class: Class,
        future: TaskFuture,
        spawned_at: &'static Location<'static>,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        self.insert(id, core, class, Some(future), spawned_at);
    }

    /// Enters the main future, on the first core.
    #[track_caller]
    pub(super) fn enter_main(&mut self) {
        assert!(!self.tasks.contains_key(&MAIN), "run_until inside run_until");
        self.insert(MAIN, 0, Class::Foreground, None, Location::caller());
    }

    pub(super) fn leave_main(&mut self) {
        self.tasks.remove(&MAIN);
    }

    fn insert(
        &mut self,
        id: u64,
        core: usize,
        class: Class,
        future: Option<TaskFuture>,
        spawned_at: &'static Location<'static>,
    ) {
        assert!(core < self.shares.len(), "core {core} of {}", self.shares.len());
        let waker = Arc::new(TaskWaker {
            id,
            queued: AtomicBool::new(false),
            queue: Arc::clone(&self.ready),
        });
        waker.wake_by_ref();
        self.tasks.insert(
            id,
            Task {
                core,
                class,
                waker,
                spawned_at,
                future,
            },
        );
    }

    /// Draws the next task to run; `None` where none is ready.
    pub(super) fn draw(&mut self, rng: &mut Rng) -> Option<Drawn> {
        let mut ready = self.ready.lock();
        // A finished task may still be woken by whoever kept its waker.
        ready.retain(|id| self.tasks.contains_key(id));
        let weight = |id: &u64| {
            self.tasks
                .get(id)
                .map_or(0, |task| u64::from(self.shares[task.core][task.class as usize]))
        };
        let total: u64 = ready.iter().map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = rng.below(total);
        let mut chosen = 0;
        for (index, id) in ready.iter().enumerate() {
            let weight = weight(id);
            if left < weight {
                chosen = index;
                break;
            }
            left -= weight;
        }
        let id = ready.swap_remove(chosen);
        drop(ready);
        let task = self.tasks.get_mut(&id).expect("retained above");
        task.waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.waker));
        Some(Drawn {
            id,
            core: task.core,
            class: task.class,
            waker,
            future: task.future.take(),
        })
    }

    /// Puts a task back that is not finished.
    pub(super) fn put_back(&mut self, id: u64, future: TaskFuture) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.future = Some(future);
        }
    }

    pub(super) fn finished(&mut self, id: u64) {
        self.tasks.remove(&id);
    }

    /// Whether a ready task of `core` is more urgent than `class`.
    pub(super) fn more_urgent_ready(&self, core: usize, class: Class) -> bool {
        let ready = self.ready.lock();
        let mut tasks = ready.iter().filter_map(|id| self.tasks.get(id));
        tasks.any(|task| task.core == core && task.class < class)
    }

    /// Every future, for dropping outside of any borrow.
    pub(super) fn take_all(&mut self) -> Vec<TaskFuture> {
        self.ready.lock().clear();
        std::mem::take(&mut self.tasks)
            .into_values()
            .filter_map(|task| task.future)
            .collect()
    }

    /// The tasks that wait, in words.
    pub(super) fn describe(&self) -> String {
        let lines = self.tasks.iter().map(|(id, task)| {
            let place = task.spawned_at;
            format!(
                "\n  task {id}, core {}, {:?}, spawned at {place}",
                task.core, task.class
            )
        });
        lines.collect()
    }
}
