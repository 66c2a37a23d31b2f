//! How results are shown: everything is made from stored [`Run`]s and from nothing else, so that a file of last year gives
//! the same tables and pages today.
//!
//! ```text
//! [Run] ─> figures (rows, cost) ─┬─> table      terminal
//!                                ├─> markdown   the README's table
//!       └> curves  (points)  ────┴─> html       one file with charts, which opens offline
//! ```
//!
//! An invalid figure is shown by nobody: where it would stand, the word INVALID stands, and the reason below.

pub mod cost;
pub mod curves;
pub mod figures;
mod html;
mod markdown;
mod table;
pub mod words;

#[cfg(test)]
mod sample;

pub use html::{html, write_html};
pub use markdown::markdown;
pub use table::terminal;
