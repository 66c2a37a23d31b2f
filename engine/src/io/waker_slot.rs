//! The waker of one task, for many who may wake it at the same time.
//!
//! `atomic_waker` hands the waker to whoever comes first and lets the others go: so they leave without knowing that anybody was
//! woken, for as long as the first is kept from it. Here everybody wakes with a copy of their own, and whoever returns has
//! woken. How often that is needed is for the caller to know (`nap.rs`).
//!
//! The lock is held for reading while the waker is copied, and for writing only when another task takes the place: a ringer
//! that is stopped in between keeps no other from ringing.

use std::sync::{PoisonError, RwLock};
use std::task::Waker;

/// See the module's head.
#[derive(Default)]
pub(super) struct WakerSlot(RwLock<Option<Waker>>);

impl WakerSlot {
    /// Puts a waker in the place of the one before.
    pub(super) fn register(&self, waker: &Waker) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        drop(known);
        self.replace(Some(waker.clone()));
    }

    /// Wakes the task, if there is one.
    pub(super) fn wake(&self) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let waker = known.clone();
        drop(known);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody is woken from now on.
    pub(super) fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, waker: Option<Waker>) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, waker);
        drop(place);
        // Outside of the lock: what a waker holds may do anything as it goes.
        drop(before);
    }
}
