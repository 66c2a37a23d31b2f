//! fio beside the raw loop: the same patterns by a program that everyone trusts. If the two disagree, it is said.
//!
//! ```text
//! profile   reads fio-profiles/*.fio into patterns        (pure)
//! output    reads what fio prints as json+                (pure)
//! verdict   fio's figures against the raw loop's          (pure)
//! command   runs both in turn and prints them
//! ```

pub mod command;
pub mod output;
pub mod profile;
pub mod verdict;
