//! The pure k-way merge: sorted sources in, one sorted stream out, and the rules for what of it survives.
//!
//! - [`merge`]: [`Merge`] over any number of [`Source`]s, without I/O: where a source has run out of its loaded block
//!   the merge says so, its driver loads the next one, and it goes on.
//! - [`retain`]: which entries of a merged stream a compaction keeps.
//! - [`visible`]: which of them a read at a sequence sees.
//! - [`latest`]: the same for a stream that runs backwards, where of each key the oldest version comes first.

pub mod latest;
#[expect(
    clippy::module_inception,
    reason = "the file is named after the one type in it"
)]
pub mod merge;
pub mod retain;
pub mod visible;

pub use latest::{Latest, Offer};
pub use merge::{Merge, Progress};
pub use retain::{Decision, DropReason, KeyRange, Retain};
pub use visible::{Sight, Visible};

use crate::types::Entry;

/// What stepping a source came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is a current entry.
    Ready,
    /// The next entry is in a block that is not loaded; its owner loads it and the source then has a current entry, or
    /// is at its end.
    NeedBlock,
    /// There are no more entries.
    End,
}

/// A stream of entries in internal order, or all the way in the reverse of it ([`crate::types::Direction`]), no two equal.
pub trait Source {
    /// The entry it stands on; `None` at the end and while a block is missing.
    fn current(&self) -> Option<Entry<'_>>;
    /// Goes to the next entry. At the end, and while a block is missing, it stays there and says so again.
    fn advance(&mut self) -> Step;
}
