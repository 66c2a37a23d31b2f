//! Threads that stay on a core, as those of the runtimes do.

use std::thread::JoinHandle;

/// Runs `work` on a thread of its own, which `core` is given to.
pub fn on<T: Send + 'static>(core: usize, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core }));
        work()
    })
}
