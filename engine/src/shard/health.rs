//! Whether a shard takes writes, and if not, why: healthy, read-only while the device is full, or poisoned.

use std::cell::RefCell;

use crate::error::{Error, ErrorKind, Result};

/// The state, in the order in which it can only get worse; only `ReadOnly` goes back by itself.
#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Healthy,
    /// No room on the device: no writes until a flush or a segment finds room again.
    ReadOnly(Error),
    /// A WAL write failed: what reached the disk is unknown, so nothing more may be written after it (R3).
    Poisoned(Error),
    Closed,
}

/// The health of one shard.
#[derive(Debug, Default)]
pub struct Health(RefCell<State>);

impl Health {
    /// Whether a write may be staged.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned` or `Closed`, with what first went wrong.
    pub fn check(&self) -> Result<()> {
        match &*self.0.borrow() {
            State::Healthy => Ok(()),
            State::ReadOnly(error) => Err(error.with_kind(ErrorKind::NoSpace)),
            State::Poisoned(error) => Err(error.with_kind(ErrorKind::Poisoned)),
            State::Closed => Err(closed()),
        }
    }

    /// The device is full. Nothing changes for a shard that is poisoned or closed.
    pub fn read_only(&self, error: &Error) {
        let mut state = self.0.borrow_mut();
        if matches!(*state, State::Healthy) {
            *state = State::ReadOnly(error.clone());
        }
    }

    /// Room was found again.
    pub fn room_again(&self) {
        let mut state = self.0.borrow_mut();
        if matches!(*state, State::ReadOnly(_)) {
            *state = State::Healthy;
        }
    }

    /// A WAL or manifest write failed with an unknown outcome.
    pub fn poison(&self, error: &Error) {
        let mut state = self.0.borrow_mut();
        if !matches!(*state, State::Poisoned(_) | State::Closed) {
            *state = State::Poisoned(error.clone());
        }
    }

    /// The shard takes nothing more.
    pub fn close(&self) {
        *self.0.borrow_mut() = State::Closed;
    }

    /// Whether the shard is closed or closing.
    pub fn is_closed(&self) -> bool {
        matches!(*self.0.borrow(), State::Closed)
    }

    /// Whether a failed write has ended all writing.
    pub fn is_poisoned(&self) -> bool {
        matches!(*self.0.borrow(), State::Poisoned(_))
    }

    /// The state in words, for `stats` and the operator.
    pub fn in_words(&self) -> String {
        match &*self.0.borrow() {
            State::Healthy => "healthy".to_owned(),
            State::ReadOnly(error) => format!("read-only: {error}"),
            State::Poisoned(error) => format!("poisoned: {error}"),
            State::Closed => "closed".to_owned(),
        }
    }
}

/// The error of a request to a database that is closed or closing.
pub fn closed() -> Error {
    Error::new(ErrorKind::Closed, "using the database", "it is closed or closing")
}

/// The error of a request whose core went away without an answer, as only a panic makes it: a write may have become
/// durable before.
pub fn gone(writes: bool) -> Error {
    if !writes {
        return closed();
    }
    let cause = "the core that had the write panicked";
    Error::new(ErrorKind::OutcomeUnknown, "using the database", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        Error::new(ErrorKind::Io, "writing", "no luck")
    }

    #[test]
    fn a_full_device_is_forgiven_and_a_failed_wal_write_is_not() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.read_only(&error());
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::NoSpace);
        health.room_again();
        assert!(health.check().is_ok());
        health.poison(&error());
        health.read_only(&error());
        health.room_again();
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::Poisoned);
    }

    #[test]
    fn closed_is_the_last_word() {
        let health = Health::default();
        health.close();
        health.poison(&error());
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::Closed);
    }
}
