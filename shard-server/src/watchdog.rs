//! What systemd is told (sd_notify(3)): that the server is ready, that it ends, and, where the unit asks for it
//! (`WatchdogSec=`), that it still works. Where nobody listens, nothing is told and nothing fails.
//!
//! The sign of life is a round of counts over all shards: a core that hangs answers none, no sign is sent, and systemd
//! restarts the server. So it guards what matters, and not merely the thread that sends it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use corelane::api::Db;
use sd_notify::NotifyState;

/// Signs of life are sent this many times as often as they are needed.
const SIGNS_PER_DEADLINE: u32 = 3;

/// Tells that clients are served.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells that the server drains and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The outcome is nobody's: without systemd there is nobody to tell.
fn tell(state: &[NotifyState<'_>]) {
    let _nobody_listens = sd_notify::notify(state);
}

/// Whether every core answers; it does not return while one hangs.
fn works(db: &Db) -> bool {
    db.blocking().stats().is_ok()
}

/// Sends signs of life until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    /// Its thread ends once this is gone. It is not waited for: a sign asks every core, and a core that hangs, which is what
    /// the watchdog is there for, must not keep the process from draining.
    _end: Sender<()>,
}

impl Watchdog {
    /// Begins, if the unit asks for it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(db: &Db) -> Result<Option<Self>, String> {
        let Some(deadline) = sd_notify::watchdog_enabled() else {
            return Ok(None);
        };
        let db = db.clone();
        let every = deadline / SIGNS_PER_DEADLINE;
        Self::every(every, move || {
            if works(&db) {
                tell(&[NotifyState::Watchdog]);
            }
        })
        .map(Some)
    }

    fn every(interval: Duration, sign: impl Fn() + Send + 'static) -> Result<Self, String> {
        let (end, ended) = channel();
        std::thread::Builder::new()
            .name("corelane-watchdog".to_owned())
            .spawn(move || {
                while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    sign();
                }
            })
            .map_err(|error| format!("starting the watchdog's thread: {error}"))?;
        Ok(Self { _end: end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sign came from a thread that is always well. It must be the cores' own answer.
    #[test]
    fn a_database_that_does_not_answer_shows_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::builder(dir.path().join("data"))
            .cores(vec![0])
            .open_blocking()
            .unwrap();
        assert!(works(&db));
        db.blocking().close().unwrap();
        assert!(!works(&db));
    }

    #[test]
    fn signs_come_until_it_is_dropped() {
        let (sent, signs) = channel();
        let watchdog = Watchdog::every(Duration::from_millis(1), move || {
            // The test may have seen enough.
            let _enough = sent.send(());
        })
        .unwrap();
        assert!(signs.recv().is_ok() && signs.recv().is_ok());
        drop(watchdog);
        assert!(signs.iter().count() < 100_000, "it ended, and its sender with it");
    }
}
