//! Checks secrets on a few threads of their own.
//!
//! A check takes tens of ms and megabytes on purpose. On a shard's core it would hold up every client of that core, so it
//! runs here, and whoever asked awaits the answer. The queue is bounded: who floods it hears so and tries again. The threads
//! give way to the shards' where they share a core: wrong passwords would take two thirds of it otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::give_way::give_way;
use super::hash::Checker;
use super::places::Place;
use crate::command::Failure;

/// Threads: enough that one slow check does not hold up the next, few enough to leave the cores to the shards.
const THREADS: usize = 2;

/// Checks that wait; at some 20 ms each the last one waits under a second.
pub(super) const QUEUED: usize = 64;

/// How much of a core the threads give away (`nice`): beside a busy shard the two take some 7 % of it, and the whole of an idle
/// one.
const NICENESS: i32 = 15;

/// A secret to be checked.
struct Job {
    hash: Arc<str>,
    secret: Vec<u8>,
    answer: oneshot::Sender<bool>,
    /// Held until it was checked, also for a client that has left.
    place: Arc<Place>,
}

/// The threads; they end when it is dropped.
#[derive(Debug)]
pub struct Pool {
    jobs: SyncSender<Job>,
    checks: Arc<AtomicU64>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// Why one did not start, in words for an operator.
    pub fn start() -> Result<Self, String> {
        let (jobs, queue) = sync_channel(QUEUED);
        let (queue, checks) = (Arc::new(Mutex::new(queue)), Arc::new(AtomicU64::new(0)));
        for number in 0..THREADS {
            let (queue, checks) = (Arc::clone(&queue), Arc::clone(&checks));
            std::thread::Builder::new()
                .name(format!("corelane-auth-{number}"))
                .spawn(move || work(&queue, &checks))
                .map_err(|error| format!("starting a thread that checks secrets: {error}"))?;
        }
        Ok(Self { jobs, checks })
    }

    /// Whether `secret` is that of `hash`.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn check(
        &self,
        hash: Arc<str>,
        secret: Vec<u8>,
        place: &Arc<Place>,
    ) -> Result<bool, Failure> {
        let (answer, answered) = oneshot::async_channel();
        let job = Job {
            hash,
            secret,
            answer,
            place: Arc::clone(place),
        };
        match self.jobs.try_send(job) {
            Ok(()) => Ok(answered.await.unwrap_or(false)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Failure::BUSY_AUTH),
        }
    }

    /// How many checks were done.
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Pool {
    /// One with room for so many checks, of which none is ever done.
    pub(super) fn stuck(room: usize) -> Self {
        let (jobs, queue) = sync_channel(room);
        // Kept for ever: dropped, it would be a pool that has ended, which is another thing.
        std::mem::forget(queue);
        let checks = Arc::default();
        Self { jobs, checks }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, checks: &AtomicU64) {
    if let Err(error) = give_way(NICENESS) {
        tracing::warn!(%error, "a thread that checks secrets keeps its priority");
    }
    let mut checker = Checker::default();
    loop {
        // Held while it waits: the other threads wait for the lock instead, and each job wakes one.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let right = checker.is_right(&job.hash, &job.secret);
        checks.fetch_add(1, Ordering::Relaxed);
        // From here on the guess is its client's alone.
        drop(job.place);
        // A client that has left does not wait for it.
        let _gone = job.answer.send(right);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Niceness of each of this process's threads that check secrets.
    #[expect(clippy::disallowed_methods, reason = "it is about real threads")]
    fn niceness() -> Vec<i32> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
        let ours = stats.filter(|stat| stat.contains("(corelane-auth-"));
        // Field 19 of proc_pid_stat(5); the name, field 2, ends with a parenthesis.
        ours.map(|stat| {
            stat[stat.rfind(')').unwrap()..]
                .split(' ')
                .nth(17)
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
    }

    /// A storm of wrong passwords took two thirds of the core that a shard shared with the threads that check them.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is about real threads")]
    fn the_threads_give_way_to_the_shards() {
        const LEAST_PRIORITY: i32 = 19;
        let own = rustix::process::nice(0).unwrap();
        let expected = (own + NICENESS).min(LEAST_PRIORITY);
        let _pool = Pool::start().unwrap();
        let began = Instant::now();
        loop {
            let found = niceness();
            if found.len() >= THREADS && found.iter().all(|&nice| nice == expected) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{found:?}");
            std::thread::yield_now();
        }
    }
}
