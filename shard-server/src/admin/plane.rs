//! What the handlers of the admin plane share: the database's handle, the server's counts, bounds, who may call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use corelane::api::{Db, Durability};
use tokio::sync::Semaphore;

use super::access::Authorizer;
use super::facts::{Facts, wall_clock_ms};
use super::hosts::Hosts;
use super::rate::Rate;
use crate::config::Admin;
use crate::server::Server;

/// What the handlers share.
#[derive(Debug)]
pub struct Plane {
    /// The database, from outside of its cores: each request is a message in a bounded mailbox.
    pub db: Handle,
    /// The server's settings and counts.
    pub server: Arc<Server>,
    /// When writes are acknowledged that do not say.
    pub durability: Durability,
    /// Bounds.
    pub limits: Admin,
    /// Under which names it may be called.
    pub hosts: Hosts,
    /// How often.
    pub rate: Rate,
    /// By whom.
    pub authorizer: Box<dyn Authorizer>,
    /// Places for requests that are worked on and for answers that are not sent yet.
    pub places: Arc<Semaphore>,
    /// What it counts.
    pub counts: Counts,
    /// Whether the server takes clients: from when it listens until it drains.
    ready: AtomicBool,
    memlock_falls_short: bool,
    compacting: AtomicBool,
    last_request: AtomicU64,
    /// Part of the requests' ids, so that those of two runs differ: when this one began, in milliseconds.
    run: u64,
}

/// The right to compact everything; given back when dropped.
#[derive(Debug)]
pub struct Compacting(Arc<Plane>);

impl Compacting {
    /// Whose database is compacted.
    pub fn plane(&self) -> &Plane {
        &self.0
    }
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.0.compacting.store(false, Ordering::Release);
    }
}

/// The database, whose handle says nothing of itself.
#[derive(Clone)]
pub struct Handle(pub Db);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}

impl std::ops::Deref for Handle {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.0
    }
}

/// Classes of statuses: 1xx to 5xx.
const CLASSES: usize = 5;

/// What the admin plane counts of itself.
#[derive(Debug, Default)]
pub struct Counts {
    answered: [AtomicU64; CLASSES],
    /// Requests refused over the rate of their peer.
    pub limited: AtomicU64,
    /// Requests whose handler panicked.
    pub panicked: AtomicU64,
}

impl Counts {
    /// Counts an answer.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES) - 1;
        self.answered[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Each class of statuses and how many answers had one of it.
    pub fn by_class(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(self.answered.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl Plane {
    /// A plane that is not ready yet.
    pub fn new(
        db: Db,
        server: Arc<Server>,
        limits: Admin,
        authorizer: Box<dyn Authorizer>,
        memlock_falls_short: bool,
    ) -> Self {
        Self {
            durability: server.settings.durability,
            hosts: Hosts::new(limits.bind, &limits.hosts, &limits.cors_origins),
            rate: Rate::new(limits.rate_per_s, limits.rate_burst),
            places: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            counts: Counts::default(),
            ready: AtomicBool::new(false),
            last_request: AtomicU64::new(0),
            db: Handle(db),
            server,
            limits,
            authorizer,
            memlock_falls_short,
            compacting: AtomicBool::new(false),
            run: wall_clock_ms(),
        }
    }

    /// Says whether the server takes clients.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether the server takes clients.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How long a request may take.
    pub fn request_time(&self) -> Duration {
        Duration::from_millis(self.limits.request_ms)
    }

    /// What the machine says of itself now.
    pub fn facts(&self) -> Facts {
        Facts::gather(&self.server.settings.data_dir, self.memlock_falls_short)
    }

    /// The right to compact everything; `None` while somebody else has it.
    pub fn begin_compaction(plane: &Arc<Self>) -> Option<Compacting> {
        let begun = !plane.compacting.swap(true, Ordering::AcqRel);
        begun.then(|| Compacting(Arc::clone(plane)))
    }

    /// An id for a request that brought none.
    pub fn next_request_id(&self) -> String {
        let number = self.last_request.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{:08x}-{number}", self.run & 0xffff_ffff)
    }
}
