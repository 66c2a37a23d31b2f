//! The clock that expiry goes by: it never goes back, whatever the machine's does (R18).
//!
//! Time is the largest of the machine's wall clock, of what this shard has seen of it since open, and of what its manifest
//! last recorded. It is only asked for where an entry ends at all, and only recorded by a shard that has had such entries.
//!
//! What somebody was told has expired should not come back after a restart under a clock that has gone back. So the time is
//! recorded
//! - with every edit of the manifest: what a flush or merge has dropped stays dropped, and all of its age with it;
//! - at a clean close;
//! - within [`RECORD_LAG`] after a read met an entry whose end lies at or after the recorded time.
//!
//! What is left open is a crash within that lag, together with a clock that goes back.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;

use crate::error::{ErrorKind, Result};
use crate::io::Io;
use crate::shard::Shard;
use crate::shard::request::Found;
use crate::types::{Content, Kind, Sequence};
use crate::version::{Manifest, VersionEdit};

/// The time is recorded so long after somebody has met an expired entry. Each record is a device write, so one covers all
/// that expires meanwhile.
const RECORD_LAG: Duration = Duration::from_secs(1);

/// What a shard knows of the time. Milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct ExpiryClock {
    seen_ms: Cell<u64>,
    /// The time in the manifest.
    recorded_ms: Cell<u64>,
    /// Whether the shard has had values that end.
    in_use: Cell<bool>,
    /// The latest end that somebody was told is over. It is kept, not a flag: a record that is being written covers only
    /// the time it was taken at, and more may be told meanwhile.
    told_ms: Cell<Option<u64>>,
}

impl ExpiryClock {
    /// A clock that goes on from the time in the manifest; 0 where there is none.
    pub fn new(recorded_ms: u64) -> Self {
        Self {
            seen_ms: Cell::new(recorded_ms),
            recorded_ms: Cell::new(recorded_ms),
            in_use: Cell::new(recorded_ms > 0),
            told_ms: Cell::new(None),
        }
    }

    /// The time, given what the machine says.
    pub fn read(&self, wall_ms: u64) -> u64 {
        let now_ms = self.seen_ms.get().max(wall_ms);
        self.seen_ms.set(now_ms);
        now_ms
    }

    /// Says that an entry of this kind is in a memtable.
    pub fn note_kind(&self, kind: Kind) {
        if kind == Kind::PutUntil {
            self.in_use.set(true);
        }
    }

    /// Says that the manifest holds this time.
    pub fn note_recorded(&self, time_ms: u64) {
        self.recorded_ms.set(time_ms);
    }

    /// Whether somebody was told of an end that a clock gone back would undo after a restart.
    pub fn owes_record(&self) -> bool {
        self.told_ms.get() >= Some(self.recorded_ms.get())
    }

    /// Says that somebody was told that what ended at `expires_ms` is over; whether the time must be recorded for that,
    /// and nobody had asked for it yet.
    pub fn note_expired(&self, expires_ms: u64) -> bool {
        let owed = self.owes_record();
        self.told_ms.set(self.told_ms.get().max(Some(expires_ms)));
        !owed && self.owes_record()
    }
}

impl<I: Io> Shard<I> {
    /// The time that decides what has expired, in ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.time.read(self.io.wall_clock_ms())
    }

    /// What there is to tell at `now_ms` of a key whose newest entry, written at `version`, has this content; 0 and none
    /// where there is no entry.
    pub(crate) fn judge<'a>(
        &self,
        now_ms: u64,
        version: Sequence,
        content: Option<Content<'a>>,
    ) -> Found<'a> {
        let version = if version == 0 {
            self.newest_forgotten.get()
        } else {
            version
        };
        let found = Found::at(now_ms, version, content);
        if found.value.is_none()
            && let Some(expires_ms) = content.and_then(|content| content.expires_ms)
        {
            self.note_expired(expires_ms);
        }
        found
    }

    /// Has the time recorded soon, where what was told to have ended would otherwise be back after a restart.
    pub(crate) fn note_expired(&self, expires_ms: u64) {
        if self.time.note_expired(expires_ms) {
            self.clock_work.open();
        }
    }

    /// The time for an edit of the manifest; none as long as there were no values that end.
    pub(crate) fn time_to_record(&self) -> Option<u64> {
        self.time.in_use.get().then(|| self.now_ms())
    }

    /// The task that records the time.
    pub(crate) async fn clock_loop(self: Rc<Self>) {
        loop {
            let next = self.clock_work.wait();
            if self.closing.get() {
                return;
            }
            if !self.time.owes_record() || self.health.is_poisoned() {
                next.await;
                continue;
            }
            // Until the time is recorded the gate is opened only to close.
            select(pin!(next), pin!(self.io.sleep(RECORD_LAG))).await;
            if self.closing.get() {
                return;
            }
            // What failed is tried again, and a failure that matters beyond this has told the shard itself.
            let _tried_again = self.install(VersionEdit::default(), Vec::new(), || ()).await;
        }
    }

    /// Records the time as the shard closes. A full device is no failure: nothing is lost by it but time.
    ///
    /// # Errors
    /// `Io` or `Poisoned`.
    pub(crate) async fn record_time_in(&self, manifest: &mut Manifest<I>) -> Result<()> {
        let time_ms = self.time_to_record();
        if time_ms <= Some(manifest.state().time_ms) {
            return Ok(());
        }
        let edit = VersionEdit {
            time_ms,
            ..VersionEdit::default()
        };
        match manifest.append(&edit).await {
            Err(error) if error.kind() == ErrorKind::NoSpace => Ok(()),
            recorded => recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r18_time_does_not_go_back_and_goes_on_from_what_was_recorded() {
        let clock = ExpiryClock::new(4);
        let seen: Vec<_> = [2, 5, 3, 9, 8].map(|wall| clock.read(wall)).into();
        assert_eq!(seen, [4, 5, 5, 9, 9]);
    }

    #[test]
    fn a_record_is_asked_for_once_and_only_for_what_a_restart_could_bring_back() {
        let clock = ExpiryClock::new(100);
        assert!(!clock.note_expired(99), "the time in the manifest is beyond it");
        assert!(clock.note_expired(100));
        assert!(!clock.note_expired(150), "asked for already");
        clock.note_recorded(151);
        assert!(!clock.note_expired(150));
        assert!(clock.note_expired(151));
    }

    /// While the record of 1000 was being written a read at 1003 told that what ended at 1001 is over; the record then
    /// cleared the debt, none followed, and a restart under a clock gone back brought the value back.
    #[test]
    fn what_is_told_while_a_record_is_written_is_still_owed() {
        let clock = ExpiryClock::new(900);
        assert!(clock.note_expired(950));
        assert!(!clock.note_expired(1001), "a record is under way");
        assert!(!clock.note_expired(960), "an earlier end does not hide it");
        clock.note_recorded(1000);
        assert!(clock.owes_record());
        clock.note_recorded(1004);
        assert!(!clock.owes_record());
        assert!(!clock.note_expired(1003), "recorded");
        assert!(!ExpiryClock::new(0).owes_record(), "nobody was told anything");
    }

    #[test]
    fn a_shard_without_values_that_end_records_no_time() {
        let clock = ExpiryClock::new(0);
        clock.note_kind(Kind::Put);
        clock.note_kind(Kind::Tombstone);
        assert!(!clock.in_use.get());
        clock.note_kind(Kind::PutUntil);
        assert!(clock.in_use.get());
    }
}
