//! Ctrl-C keeps what was measured: long work looks at a [`Stop`] between operations and ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{BenchError, Kind};

/// Whether work should end early. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// One that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that the first Ctrl-C asks for; the second ends the process at once.
    ///
    /// # Errors
    /// The handler could not be set.
    pub fn on_ctrl_c() -> Result<Self, BenchError> {
        let stop = Self::new();
        let int = signal_hook::consts::SIGINT;
        // In this order: the first signal finds the flag unset here and sets it there.
        signal_hook::flag::register_conditional_shutdown(int, 130, Arc::clone(&stop.0))
            .and_then(|_id| signal_hook::flag::register(int, Arc::clone(&stop.0)))
            .map_err(|e| BenchError::new(Kind::Machine, format!("watching for Ctrl-C: {e}")))?;
        Ok(stop)
    }

    /// Asks for it.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    #[inline]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Arc<AtomicBool>> for Stop {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}
