//! How operations are begun, timed and recorded: the loop that every caller of every engine runs.
//!
//! - [`caller`]: one caller's loop, closed or open; generic over the engine's client.
//! - [`job`]: what all callers of a phase share: the spec, the clock, the end, the recorder.
//! - [`recorder`]: where they put what they measured, merged once a window.
//! - [`turns`]: the operations of a caller's streams in one order.
//! - [`schedule`]: whether an open loop kept its schedule.
//! - [`check`]: what an answer must be.

pub mod caller;
pub mod check;
pub mod job;
pub mod recorder;
pub mod schedule;
pub mod turns;
