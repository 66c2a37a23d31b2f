//! One glommio task queue for each class of work, with shares that change while it runs.
//!
//! glommio gives the core to the active queue with the least runtime divided by shares. Every queue wakes the
//! scheduler at the same period: the foreground because its latency matters, the others because the executor's
//! default period is set to it (`run.rs`).

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use glommio::{Latency, Shares, SharesManager, TaskQueueHandle};

use super::Class;

/// The shares that a class starts with, 1 to 1000, which is glommio's range.
const fn initial_shares(class: Class) -> u32 {
    match class {
        Class::Foreground => 1000,
        Class::Flush => 400,
        Class::Level0 => 200,
        Class::Compaction => 100,
        Class::Maintenance => 50,
    }
}

/// The present shares of one class, read by glommio whenever it picks the class's queue.
struct LiveShares(Cell<u32>);

impl SharesManager for LiveShares {
    fn shares(&self) -> usize {
        self.0.get() as usize
    }

    /// At every pick: reading a cell costs less than finding out whether it is time to.
    fn adjustment_period(&self) -> Duration {
        Duration::ZERO
    }
}

struct Queue {
    handle: TaskQueueHandle,
    shares: Rc<LiveShares>,
}

/// The task queues of one executor.
pub(super) struct Queues([Queue; Class::ALL.len()]);

impl Queues {
    /// Creates them on the running executor.
    pub(super) fn new(preempt_period: Duration) -> Self {
        Self(Class::ALL.map(|class| {
            let shares = Rc::new(LiveShares(Cell::new(initial_shares(class))));
            let latency = match class {
                Class::Foreground => Latency::Matters(preempt_period),
                _ => Latency::NotImportant,
            };
            let handle = glommio::executor().create_task_queue(
                Shares::Dynamic(Rc::clone(&shares) as Rc<dyn SharesManager>),
                latency,
                &format!("{class:?}"),
            );
            Queue { handle, shares }
        }))
    }

    fn of(&self, class: Class) -> &Queue {
        let place = Class::ALL
            .iter()
            .position(|c| *c == class)
            .expect("ALL holds every class");
        &self.0[place]
    }

    pub(super) fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        drop(self.spawn_joinable(class, task).detach());
    }

    /// A task that is cancelled when its handle is dropped.
    pub(super) fn spawn_joinable(
        &self,
        class: Class,
        task: impl Future<Output = ()> + 'static,
    ) -> glommio::Task<()> {
        glommio::spawn_local_into(task, self.of(class).handle)
            .expect("a class's queue lives as long as its executor: nothing removes it")
    }

    pub(super) fn set_shares(&self, class: Class, shares: u32) {
        assert!((1..=1000).contains(&shares), "shares are 1 to 1000, not {shares}");
        self.of(class).shares.0.set(shares);
    }
}
