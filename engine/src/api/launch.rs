//! Bringing a database up on its cores, and down again: the steps, on any runtime.
//!
//! 1. [`launch`] makes one mailbox and one [`CoreSeat`] per core, on the opener's thread.
//! 2. Each seat runs on its core. The first is the leader: it takes the lock, reads the superblock or creates the
//!    database, and tells the others.
//! 3. Each core reads its shards, in parallel. Only when all shards of all cores could be read does any core write: a
//!    database that one shard keeps from opening is left as it was (R11, R13). Then each core starts its shards, reports,
//!    starts its service and serves its mailbox.
//! 4. On close each core ends its service, finishes what it has begun, closes its shards and reports. Its part of the lock
//!    lies in [`Launch`] until its thread has dropped every task and the device is done with what they had begun, so that the
//!    lock is free once no core can write any more: then the thread gives it back, or, where it panicked, whoever has waited
//!    for its end ([`Launch::core_ended`]). A seat that somebody runs on executors of their own gives it back by itself.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use futures_util::future::{Either, join_all, select};

use crate::api::builder::Options;
use crate::api::core::{Core, Service};
use crate::api::create::{Opened, open_or_create};
use crate::api::db::Db;
use crate::api::slots::SlotTable;
use crate::api::start::{Serving, serving};
use crate::api::superblock::{Superblock, shard_dir_name};
use crate::error::{Error, Result};
use crate::io::mailbox::{Receiver, Sender, mailbox};
use crate::io::{Class, Io};
use crate::shard::Shard;
use crate::shard::config::{Owner, Place, ShardConfig};
use crate::shard::gate::Gate;
use crate::shard::health::closed;
use crate::shard::host::Host;
use crate::shard::recover::ReadShard;
use crate::shard::request::{Op, Outcome};
use crate::shard::sequence::Commits;

/// Requests that may wait in front of one core; callers beyond it wait for room. Deep enough that a burst from
/// thousands of connections does not stall its senders, and bounded because each holds its bytes.
const MAILBOX_REQUESTS: usize = 4096;

/// Requests taken from the mailbox at once before other tasks of the core get their turn.
const MAILBOX_BATCH: usize = 256;

/// What travels to a core.
pub(super) enum Job {
    /// One request to one shard.
    One {
        /// The shard, hosted by the receiving core.
        shard: u16,
        /// The request.
        op: Op,
        /// Who waits.
        answer: oneshot::Sender<Outcome>,
    },
    /// Several requests, run in order.
    Many {
        /// Each with its shard, hosted by the receiving core.
        ops: Vec<(u16, Op)>,
        /// Who waits, for all answers at once.
        answers: oneshot::Sender<Vec<Outcome>>,
    },
}

/// Which core hosts what; known once the superblock was read.
#[derive(Debug)]
pub(super) struct Routes {
    /// Slot to shard.
    pub slots: SlotTable,
    cores: usize,
}

impl Routes {
    /// The core that hosts a shard: shards are dealt to cores in turn, so that any number of cores has its even part.
    pub(super) fn core_of(&self, shard: u16) -> usize {
        usize::from(shard) % self.cores
    }
}

/// What every core and every handle of one open database shares.
pub(super) struct Launch {
    path: PathBuf,
    options: Options,
    commits: Arc<Commits>,
    senders: Vec<Sender<Job>>,
    routes: OnceLock<Arc<Routes>>,
    /// Somebody has asked to close. Apart from the mailboxes, which may be full.
    closing: AtomicBool,
    /// Each core's main task, to be told so.
    close_wakers: Vec<AtomicWaker>,
    /// Each core's part of the lock, from when it has it until nothing that it began can reach the disk any more.
    lock_parts: Vec<Mutex<Option<Arc<Ground>>>>,
    /// Nobody waits for the cores' threads.
    left_alone: AtomicBool,
    /// The first error of a core that closed; told to whoever closes the database.
    close_error: Mutex<Option<Error>>,
}

impl Launch {
    /// The database's directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of cores.
    pub(super) fn cores(&self) -> usize {
        self.senders.len()
    }

    /// What the database was opened with.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The commit counter.
    pub(super) fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// The mailbox of a core.
    pub(super) fn sender(&self, core: usize) -> &Sender<Job> {
        &self.senders[core]
    }

    /// The routes; `None` before the superblock was read.
    pub(super) fn routes(&self) -> Option<&Arc<Routes>> {
        self.routes.get()
    }

    /// Asks every core to close. Never waits, so it may be called on any thread, a core's own included.
    pub(super) fn request_close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for core in &self.close_wakers {
            core.wake();
        }
    }

    /// Completes when somebody has asked to close; for the main task of `core`.
    pub(super) async fn asked_to_close(&self, core: usize) {
        poll_fn(|cx| {
            self.close_wakers[core].register(cx.waker());
            if self.closing.load(Ordering::SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Gives back the part of the lock of a core whose thread has ended. Where something that it began may still reach the
    /// disk (not `settled`), it is kept until the process ends: a second opener must not be hit by it (R12).
    pub(super) fn core_ended(&self, core: usize, settled: bool) {
        let part = self.take_lock_part(core);
        if !settled {
            std::mem::forget(part);
        }
    }

    /// Says that nobody will wait for the cores' threads, so that no core's end is known but one that it reports itself.
    pub(super) fn leave_alone(&self) {
        self.left_alone.store(true, Ordering::SeqCst);
    }

    fn keep_lock_part(&self, core: usize, part: &Arc<Ground>) {
        let mut kept = self.lock_parts[core]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *kept = Some(Arc::clone(part));
    }

    fn take_lock_part(&self, core: usize) -> Option<Arc<Ground>> {
        let mut kept = self.lock_parts[core]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.take()
    }

    /// The first error met while closing.
    pub(super) fn take_close_error(&self) -> Option<Error> {
        // A panic while holding this lock leaves a plain Option behind it, which is still good.
        self.close_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }

    fn note_close_error(&self, error: Error) {
        self.close_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get_or_insert(error);
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if self.left_alone.load(Ordering::SeqCst) {
            // The part of a core that panicked: it is not known when the device is done with what it began.
            for core in 0..self.lock_parts.len() {
                self.core_ended(core, false);
            }
        }
    }
}

/// What the leader learns and the others wait for.
type Found = Result<Arc<Ground>>;

/// What every core stands on while it may write.
struct Ground {
    superblock: Superblock,
    /// Keeps other openers out until the last core has let go of it.
    _lock: Box<dyn Send + Sync>,
}

enum Role {
    /// Finds the database and tells the others.
    Leader {
        tell: Vec<oneshot::Sender<Found>>,
        vote: Vote,
    },
    /// Waits for the leader.
    Follower {
        told: oneshot::Receiver<Found>,
        vote: Vote,
    },
}

/// How the cores agree that every shard could be read, so that writing may begin.
enum Vote {
    /// Hears every other core, then tells each of them.
    Leader {
        hear: Vec<oneshot::Receiver<Result<()>>>,
        tell: Vec<oneshot::Sender<Result<()>>>,
    },
    /// Tells the leader, then hears it.
    Follower {
        tell: oneshot::Sender<Result<()>>,
        hear: oneshot::Receiver<Result<()>>,
    },
}

impl Vote {
    /// Says how reading went on this core and waits for all others; the first core's error is everybody's.
    async fn agree(self, own: Result<()>) -> Result<()> {
        match self {
            Self::Leader { hear, tell } => {
                let mut all = own;
                for core in hear {
                    let heard = core.await.unwrap_or_else(|_| Err(closed()));
                    all = all.and(heard);
                }
                for core in tell {
                    let _gone = core.send(all.clone());
                }
                all
            }
            Self::Follower { tell, hear } => {
                let _gone = tell.send(own);
                hear.await.unwrap_or_else(|_| Err(closed()))
            }
        }
    }
}

/// One core's part in an open database: run it on that core.
pub struct CoreSeat {
    launch: Arc<Launch>,
    index: usize,
    mailbox: Receiver<Job>,
    role: Role,
    ready: oneshot::Sender<Result<()>>,
    /// The core's thread gives its part of the lock back.
    leaves_lock: bool,
    /// Dropped when the core has closed.
    on_closed: oneshot::Sender<()>,
}

/// Prepares a database in `path` over `options.cores.len()` cores: a handle, and a seat to run on each core. The handle
/// is usable once [`Db::ready`] has returned.
///
/// # Errors
/// `InvalidOptions`.
pub fn launch(path: &Path, options: Options) -> Result<(Db, Vec<CoreSeat>)> {
    options.validate()?;
    let cores = options.cores.len();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mailbox(MAILBOX_REQUESTS)).unzip();
    let launch = Arc::new(Launch {
        path: path.to_owned(),
        options,
        commits: Arc::new(Commits::default()),
        senders,
        routes: OnceLock::new(),
        closing: AtomicBool::new(false),
        close_wakers: (0..cores).map(|_| AtomicWaker::new()).collect(),
        lock_parts: (0..cores).map(|_| Mutex::new(None)).collect(),
        left_alone: AtomicBool::new(false),
        close_error: Mutex::new(None),
    });
    let (tell, told): (Vec<_>, Vec<_>) = (1..cores).map(|_| oneshot::channel()).unzip();
    let (say, hear): (Vec<_>, Vec<_>) = (1..cores).map(|_| oneshot::channel()).unzip();
    let (decide, decided): (Vec<_>, Vec<_>) = (1..cores).map(|_| oneshot::channel()).unzip();
    let votes = say
        .into_iter()
        .zip(decided)
        .map(|(tell, hear)| Vote::Follower { tell, hear });
    let followers = told
        .into_iter()
        .zip(votes)
        .map(|(told, vote)| Role::Follower { told, vote });
    let vote = Vote::Leader { hear, tell: decide };
    let roles = std::iter::once(Role::Leader { tell, vote }).chain(followers);
    let (mut readies, mut closes, mut seats) = (Vec::new(), Vec::new(), Vec::new());
    for ((index, mailbox), role) in receivers.into_iter().enumerate().zip(roles) {
        let (ready, is_ready) = oneshot::channel();
        let (on_closed, is_closed) = oneshot::channel();
        readies.push(is_ready);
        closes.push(is_closed);
        seats.push(CoreSeat {
            launch: Arc::clone(&launch),
            index,
            mailbox,
            role,
            ready,
            leaves_lock: false,
            on_closed,
        });
    }
    Ok((Db::over(launch, readies, closes), seats))
}

impl CoreSeat {
    /// What all seats share.
    pub(super) fn launch(&self) -> Arc<Launch> {
        Arc::clone(&self.launch)
    }

    /// Leaves the core's part of the lock to its thread, which gives it back by [`Launch::core_ended`].
    pub(super) fn leave_lock(&mut self) {
        self.leaves_lock = true;
    }

    /// Runs this core's part from open to close.
    pub async fn run<I: Io, S: Service>(self, io: I, service: S) {
        self.run_serving(io, serving(service)).await;
    }

    /// The same with a service that is boxed already.
    pub(super) async fn run_serving<I: Io>(self, io: I, serving: Serving<I>) {
        let Self {
            launch,
            index,
            mailbox,
            role,
            ready,
            leaves_lock,
            on_closed,
        } = self;
        let (found, vote) = match role {
            Role::Leader { tell, vote } => {
                let opened = open_or_create(&io, &launch.path, &launch.options).await;
                let found: Found = opened.map(|Opened { lock, superblock }| {
                    Arc::new(Ground {
                        superblock,
                        _lock: Box::new(lock),
                    })
                });
                for follower in tell {
                    let _gone = follower.send(found.clone());
                }
                (found, vote)
            }
            Role::Follower { told, vote } => (told.await.unwrap_or_else(|_| Err(closed())), vote),
        };
        if let Ok(ground) = &found {
            launch.keep_lock_part(index, ground);
        }
        let outcome = serve(&launch, index, mailbox, &io, serving, (&found, vote), ready).await;
        if let Err(error) = outcome {
            launch.note_close_error(error);
        }
        drop(found);
        if !leaves_lock {
            // Whoever is told that this core has closed must find the lock given back by it.
            drop(launch.take_lock_part(index));
        }
        drop(on_closed);
    }
}

/// Opens this core's shards, serves until told to close, and closes them. An error before readiness is told to whoever
/// opens; one while closing is returned.
async fn serve<I: Io>(
    launch: &Arc<Launch>,
    index: usize,
    mut mailbox: Receiver<Job>,
    io: &I,
    serving: Serving<I>,
    (found, vote): (&Found, Vote),
    ready: oneshot::Sender<Result<()>>,
) -> Result<()> {
    let opened = match found {
        Ok(ground) => open_shards(launch, index, io, &ground.superblock, vote).await,
        Err(error) => Err(error.clone()),
    };
    let core = match opened {
        Ok(core) => core,
        Err(error) => {
            let _gone = ready.send(Err(error));
            return Ok(());
        }
    };
    let _gone = ready.send(Ok(()));
    let service_ended = Rc::new((Gate::default(), std::cell::Cell::new(false)));
    let (ended, service_core) = (Rc::clone(&service_ended), core.clone());
    io.spawn(Class::Foreground, async move {
        serving(service_core).await;
        ended.1.set(true);
        ended.0.open();
    });
    serve_mailbox(&core, &mut mailbox, &service_ended).await;
    // Whoever still waits for room, a flush or a merge is told that the database closes; else the tasks would never end.
    core.wind_down();
    core.drained().await;
    core.close_shards().await
}

/// Serves requests until the core is closing, its service has ended and the mailbox is empty. Other cores' services may
/// still send requests while theirs wind down: those are answered too.
async fn serve_mailbox<I: Io>(
    core: &Core<I>,
    mailbox: &mut Receiver<Job>,
    service_ended: &Rc<(Gate, std::cell::Cell<bool>)>,
) {
    let mut batch = Vec::with_capacity(MAILBOX_BATCH);
    while !core.is_closing() {
        let asked = {
            let next = pin!(mailbox.recv_batch(&mut batch, MAILBOX_BATCH));
            matches!(
                select(pin!(core.asked_to_close()), next).await,
                Either::Left(_) | Either::Right((0, _))
            )
        };
        if asked {
            core.begin_closing();
        }
        for job in batch.drain(..) {
            core.receive(job).await;
        }
    }
    loop {
        let ended = service_ended.0.wait();
        if service_ended.1.get() {
            break;
        }
        {
            let next = pin!(mailbox.recv_batch(&mut batch, MAILBOX_BATCH));
            select(next, pin!(ended)).await;
        }
        for job in batch.drain(..) {
            core.receive(job).await;
        }
    }
    mailbox.close();
    // What was sent before the close is answered by what it asks for.
    while mailbox.recv_batch(&mut batch, MAILBOX_BATCH).await > 0 {
        for job in batch.drain(..) {
            core.receive(job).await;
        }
    }
}

async fn open_shards<I: Io>(
    launch: &Arc<Launch>,
    index: usize,
    io: &I,
    superblock: &Superblock,
    vote: Vote,
) -> Result<Core<I>> {
    let routes = launch.routes.get_or_init(|| {
        Arc::new(Routes {
            slots: superblock.slots.clone(),
            cores: launch.cores(),
        })
    });
    let (shards, host) = (routes.slots.shards(), Rc::new(Host::of_core(index)));
    let reading = (0..shards)
        .filter(|&shard| routes.core_of(shard) == index)
        .map(|shard| ReadShard::read(io.clone(), shard_config(launch, superblock, &host, shard)));
    let (read, error) = split(join_all(reading).await);
    vote.agree(error.map_or(Ok(()), Err)).await?;
    let (hosted, failed) = split(join_all(read.into_iter().map(Shard::start)).await);
    let core = Core::new(
        io.clone(),
        index,
        Arc::clone(launch),
        Arc::clone(routes),
        host,
        hosted,
    );
    match failed {
        None => Ok(core),
        Some(error) => {
            // The error that kept the database from opening is the one to tell; a second one adds nothing.
            let _second = core.close_shards().await;
            Err(error)
        }
    }
}

/// What succeeded, and the first error.
fn split<T>(outcomes: Vec<Result<T>>) -> (Vec<T>, Option<Error>) {
    let mut first = None;
    let good = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.map_err(|error| first.get_or_insert(error).clone()).ok())
        .collect();
    (good, first)
}

fn shard_config(launch: &Launch, superblock: &Superblock, host: &Rc<Host>, shard: u16) -> ShardConfig {
    let mut tuning = launch.options.tuning.clone();
    tuning.cache_bytes = launch.options.cache_bytes / usize::from(superblock.slots.shards());
    let slots = superblock.slots.clone();
    ShardConfig {
        place: Place {
            database: superblock.database,
            shard,
            dir: launch.path.join(shard_dir_name(shard)),
        },
        tuning,
        commits: Arc::clone(&launch.commits),
        host: Rc::clone(host),
        owner: Owner::new(move |key| slots.shard_of_key(key)),
    }
}
