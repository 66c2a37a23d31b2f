//! What figures mean: whether a phase was steady, and whether two runs differ by more than they vary by themselves.
//!
//! - [`steady`]: from windows of time: level or not, and from when.
//! - [`compare`]: two runs, or two engines of a run: faster, slower, no detectable difference, or why nobody can tell.
//! - `notes`: whether two runs may be compared at all, and what a reader must know to believe it; `show`: as text.
//! - [`figures`]: takes one figure with its variance out of an engine's repeats.
//! - [`bootstrap`]: how much a figure varies between repeats, and within them.
//! - [`series`], [`student`]: lines, autocorrelation and block lengths; Student's distribution.
//!
//! All pure, and seeded: a comparison of the same two files gives the same answer for ever.

pub mod bootstrap;
pub mod compare;
pub mod figures;
mod notes;
pub mod series;
mod show;
pub mod steady;
pub mod student;
#[cfg(test)]
mod synthetic;

pub use compare::{Comparison, Verdict, compare, compare_engines};
pub use steady::judge;
