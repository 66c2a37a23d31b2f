//! The simulator behind the seam: a seeded, virtual disk, network, clock and scheduler on one thread.
//!
//! ```text
//! let disk = SimDisk::new();
//! let found = sim::run(seed, &disk, 2, |machine| async move {
//!     machine.cut_power_after(40);               // the 40th disk operation, at submission or completion
//!     workload(machine.core(0), machine.core(1)).await
//! });                                            // None: the power was cut
//! disk.crash(seed);                              // what is lost, torn and kept
//! sim::run(seed + 1, &disk, 2, |machine| async move { recover_and_check(machine.core(0)).await });
//! ```
//!
//! Everything follows from the seeds: which ready task runs, how long I/O takes, what a crash leaves. One file for one
//! concern:
//!
//! - [`rng`]: the generator.
//! - `machine`, `inner`, `tasks`, `completion`: the scheduler, the clock, power cuts.
//! - `disk`, `content`, `names`, `crash`: what is durable, what is volatile, what a crash makes of it. `sim_disk` is what
//!   a test holds of it.
//! - `fault`: planted failures, mutants, counters.
//! - `net`: sockets between cores. `sim_io` and `file`: the traits.

use std::future::Future;

mod completion;
mod content;
mod crash;
mod disk;
mod fault;
mod file;
mod inner;
mod machine;
mod names;
mod net;
pub mod rng;
mod sim_disk;
mod sim_io;
mod tasks;
#[cfg(test)]
mod tests;

pub use content::SECTOR_BYTES;
pub use fault::{Count, Failure, Fault, Mutant, OpKind};
pub use file::{ReadBuf, SimFile, WriteBuf};
pub use machine::SimMachine;
pub use net::{RecvBuf, SimListener, SimStream};
pub use rng::Rng;
pub use sim_disk::SimDisk;
pub use sim_io::{SimIo, SimLock};

/// Runs `body` on a fresh machine to its end and takes the machine down; `None` if the power was cut or the process
/// killed. Configure the machine at the start of `body`.
///
/// # Panics
/// As [`SimMachine::new`] and [`SimMachine::run_until`].
pub fn run<T, F: Future<Output = T>>(
    seed: u64,
    disk: &SimDisk,
    cores: usize,
    body: impl FnOnce(SimMachine) -> F,
) -> Option<T> {
    let machine = SimMachine::new(seed, disk, cores);
    let answer = machine.run_until(body(machine.clone()));
    machine.shut_down();
    answer
}
