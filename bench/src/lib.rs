//! `corelane-bench`: the latency harness and device comparison for storage engines.
//!
//! ```text
//! spec ──> workload ──> load ──> engines          what is asked, how it is begun, whom it is asked of
//!                   │
//!                   └──> result ──> stats ──> report     what was found, what it means, how it is shown
//! servers                                    our server and Redis, by Redis's own client
//! hostile                                    what hostile clients cost the polite ones of our server
//! soak                                       what our server still holds when clients of every sort have gone
//! device, fio, cost                          the machine's own speed and what a run costs it, beside both
//! ```
//!
//! `spec`, `workload`, `stats` and `result` are pure. A run that failed, or read a wrong value, prints no figure.

#![expect(
    clippy::disallowed_methods,
    reason = "the bench stands outside the engine and measures it: its own files, clock and threads go past the seam"
)]

pub mod cli;
pub mod cost;
pub mod device;
pub mod engines;
pub mod error;
pub mod fio;
pub mod hostile;
pub mod load;
pub mod machine;
pub mod report;
pub mod result;
pub mod run;
pub mod servers;
pub mod soak;
pub mod spec;
pub mod stats;
pub mod suite;
pub mod workload;
