//! Lines under headings, as `INFO` has them.

use std::fmt::{Display, Write as _};

/// The text so far.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a section.
    pub(super) fn heading(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{gap}# {name}\r\n");
    }

    /// A name and its value.
    pub(super) fn line(&mut self, name: impl Display, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// All of it.
    pub(super) fn text(self) -> String {
        self.0
    }
}
