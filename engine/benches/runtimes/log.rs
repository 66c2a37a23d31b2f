//! Durable writes of many callers by a runtime alone: what it costs to gather groups, to write them and to wake the callers,
//! with none of what the engine has more to do (frames, memtable, flushes).
//!
//! Each caller leaves its bytes with one task, waits until that has written them with those of all others who came meanwhile,
//! and comes again: groups are as in the engine's log, and of the same size.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane::io::cores::available_cores;
use corelane::io::runtime::Runtime;
use corelane::io::{Class, File, Io, OpenOptions};

use crate::groups::{CALLERS, Groups};
use crate::latencies::Latencies;
use crate::raw_writes::{FILE_BYTES, segment};
use crate::{Job, callers, run_on};

const PAGE_BYTES: usize = 4096;
/// What a put of the engine's takes of a group.
const RECORD: [u8; 430] = [7; 430];

/// What was left for the next group.
#[derive(Default)]
struct Staging {
    bytes: RefCell<Vec<u8>>,
    answers: RefCell<Vec<oneshot::Sender<()>>>,
    log: Cell<Option<Waker>>,
}

impl Staging {
    /// Leaves a record, and completes when it is durable.
    async fn write(&self) {
        let (answer, answered) = oneshot::async_channel();
        self.bytes.borrow_mut().extend_from_slice(&RECORD);
        self.answers.borrow_mut().push(answer);
        if let Some(log) = self.log.take() {
            log.wake();
        }
        answered.await.unwrap();
    }

    /// Completes when something was left.
    async fn some(&self) {
        poll_fn(|cx| {
            if self.answers.borrow().is_empty() {
                self.log.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Groups by their pages.
type Sizes = BTreeMap<u64, u64>;

/// Writes one group after the other until its core ends.
async fn log<I: Io>(io: I, path: PathBuf, staging: Rc<Staging>, sizes: Rc<RefCell<Sizes>>) {
    let file = io.open(&path, OpenOptions::WRITE.dsync()).await.unwrap();
    let mut position = 0;
    let (mut records, mut answers) = (Vec::new(), Vec::new());
    loop {
        staging.some().await;
        records = staging.bytes.replace(records);
        answers = staging.answers.replace(answers);
        let mut buffer = io.alloc(records.len().next_multiple_of(PAGE_BYTES));
        let (used, padding) = buffer.split_at_mut(records.len());
        used.copy_from_slice(&records);
        padding.fill(0);
        let bytes = buffer.len();
        if position + bytes as u64 > FILE_BYTES {
            position = 0;
        }
        let (written, _buffer) = file.write_at(buffer, position).await;
        assert_eq!(written.unwrap(), bytes);
        position += bytes as u64;
        *sizes.borrow_mut().entry((bytes / PAGE_BYTES) as u64).or_default() += 1;
        records.clear();
        for answer in answers.drain(..) {
            answer.send(()).unwrap();
        }
    }
}

struct Writes {
    path: PathBuf,
    length: Duration,
    measured: Arc<Mutex<(Latencies, Sizes)>>,
}

impl Job for Writes {
    fn run<I: Io>(self: Arc<Self>, _core: usize, io: I) -> impl Future<Output = ()> + 'static {
        let (path, length, measured) = (self.path.clone(), self.length, Arc::clone(&self.measured));
        async move {
            let (staging, sizes) = (Rc::<Staging>::default(), Rc::default());
            let log = log(io.clone(), path, Rc::clone(&staging), Rc::clone(&sizes));
            io.spawn(Class::Foreground, log);
            let latencies = callers::run(&io, CALLERS, length, |_| {
                let staging = Rc::clone(&staging);
                async move || staging.write().await
            });
            let latencies = latencies.await;
            *measured.lock().unwrap() = (latencies, sizes.take());
        }
    }
}

/// Durable writes of [`CALLERS`] tasks on one core of a runtime; what they took, and the groups that they went out in.
pub fn alone(runtime: Runtime, dir: &Path, length: Duration) -> (Latencies, Groups) {
    let file = segment(dir);
    let measured = Arc::default();
    let writes = Writes {
        path: file.path().to_owned(),
        length,
        measured: Arc::clone(&measured),
    };
    run_on(runtime, &[available_cores()[0]], 0, writes);
    let (latencies, sizes) = std::mem::take(&mut *measured.lock().unwrap());
    let writes = latencies.count();
    (latencies, Groups::of_sizes(&sizes, writes))
}
