//! Running a caller's closure on a core.
//!
//! A panic of the closure is the caller's: unwound through a core it would take every shard there with it.

use std::panic::AssertUnwindSafe;

use crate::error::{Error, ErrorKind, Result};

/// Runs `f`, which does not touch the shard's state.
///
/// # Errors
/// `CallerPanicked`, saying that `doing` came to nothing.
pub(crate) fn run<R>(doing: &'static str, f: impl FnOnce() -> R) -> Result<R> {
    std::panic::catch_unwind(AssertUnwindSafe(f)).map_err(|_| {
        Error::new(
            ErrorKind::CallerPanicked,
            doing,
            "the caller's closure panicked; nothing was written",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(run("testing", || 7).unwrap(), 7);
        let error = run("testing", || panic!("the caller's")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CallerPanicked);
    }
}
