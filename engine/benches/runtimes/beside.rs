//! The foreground beside a background that wants the whole core: reads of 4 KiB that memory answers, asked by another core,
//! and reads from the device, one at a time. The background's part of the core is told with them. What the machine itself makes
//! of long reads is measured by plain rings, which keep as many of them with the device as the runtime does.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corelane::io::cores::available_cores;
use corelane::io::mailbox::{Receiver, mailbox};
use corelane::io::runtime::Runtime;
use corelane::io::{Class, File, Io, OpenOptions};
use futures_util::future::join_all;

use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;
use crate::raw::{LONG_BYTES, Reader};
use crate::reads::next_page;
use crate::{FILE_BYTES, Job, run_on};

/// What the background does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Background {
    Nothing,
    /// Computes whenever it is let.
    Computes,
    /// The same, and keeps many long reads asked for.
    ComputesAndReads,
}

/// Long reads that the background keeps asked for.
const READS: usize = 64;
/// How many of them the uring runtime has with the device at most (`io/uring/depth.rs`).
pub const AT_DEVICE: usize = 4;
/// The memory that is read from: more than the processor's caches hold.
const CACHE_BYTES: usize = 64 << 20;
/// Time between an answer and the next question, so that the background has something to take.
const PAUSE: Duration = Duration::from_micros(100);

/// Computes in slices, as a well-behaved task does, and adds up the time that it had. Ends with its core.
async fn compute<I: Io>(io: I, ran: Rc<Cell<Duration>>) {
    loop {
        let begun = Instant::now();
        while !io.should_yield() {
            for _ in 0..100 {
                std::hint::black_box(io.random_u64());
            }
        }
        ran.set(ran.get() + begun.elapsed());
        io.yield_now().await;
    }
}

/// Reads without end, and gives way in between, as a merge does: there may be memory to make for each read.
async fn read_for_ever<I: Io>(io: I, file: I::File, mut state: u64) {
    loop {
        let position = next_page(&mut state, FILE_BYTES - LONG_BYTES as u64);
        file.read_at(position, LONG_BYTES).await.unwrap();
        if io.should_yield() {
            io.yield_now().await;
        }
    }
}

impl Background {
    /// Begins it; what is returned adds up the time that it has of the core.
    async fn begin<I: Io>(self, io: &I, path: &Path) -> Rc<Cell<Duration>> {
        let ran = Rc::new(Cell::new(Duration::ZERO));
        if self != Self::Nothing {
            io.spawn(Class::Compaction, compute(io.clone(), Rc::clone(&ran)));
        }
        if self == Self::ComputesAndReads {
            let file = io.open(path, OpenOptions::READ).await.unwrap();
            let reads: Vec<_> = (1..=READS as u64)
                .map(|seed| read_for_ever(io.clone(), file.clone(), seed))
                .collect();
            io.spawn(Class::Compaction, async move {
                join_all(reads).await;
            });
        }
        ran
    }
}

struct DeviceReads {
    path: PathBuf,
    background: Background,
    length: Duration,
    measured: Arc<Mutex<Latencies>>,
}

impl Job for DeviceReads {
    async fn run<I: Io>(self: Arc<Self>, _core: usize, io: I) {
        let ran = self.background.begin(&io, &self.path).await;
        let file = io.open(&self.path, OpenOptions::READ).await.unwrap();
        let (mut state, mut each) = (7_u64, Vec::new());
        let (cpu, start) = (thread_cpu(), Instant::now());
        while start.elapsed() < self.length {
            let begun = Instant::now();
            let position = next_page(&mut state, FILE_BYTES);
            file.read_at(position, 4096).await.unwrap();
            each.push(begun.elapsed().as_nanos() as u32);
        }
        *self.measured.lock().unwrap() = Latencies {
            each,
            took: start.elapsed(),
            cpu: thread_cpu() - cpu,
            background: ran.get(),
            ..Latencies::default()
        };
    }
}

/// Reads of a page from the device, one at a time.
pub fn device_reads(runtime: Runtime, path: &Path, background: Background, length: Duration) -> Latencies {
    let measured = Arc::default();
    let job = DeviceReads {
        path: path.to_owned(),
        background,
        length,
        measured: Arc::clone(&measured),
    };
    run_on(runtime, &[available_cores()[0]], 0, job);
    std::mem::take(&mut *measured.lock().unwrap())
}

/// The memory that is read from, and where its pages are copied to.
struct Pages {
    memory: Vec<u8>,
    copy: Vec<u8>,
    answered: Arc<AtomicU64>,
}

impl Pages {
    fn new(answered: Arc<AtomicU64>) -> Self {
        Self {
            memory: vec![7; CACHE_BYTES],
            copy: vec![0; 4096],
            answered,
        }
    }

    fn answer(&mut self, position: u64) {
        self.copy
            .copy_from_slice(&self.memory[position as usize..][..4096]);
        std::hint::black_box(&self.copy);
        self.answered.fetch_add(1, Ordering::Release);
    }
}

struct CachedReads {
    asked: Mutex<Option<Receiver<u64>>>,
    /// Answers given.
    answered: Arc<AtomicU64>,
    path: PathBuf,
    background: Background,
    /// What the background had of the core, and the processor time of all.
    spent: Arc<Mutex<(Duration, Duration)>>,
}

impl Job for CachedReads {
    async fn run<I: Io>(self: Arc<Self>, _core: usize, io: I) {
        let mut asked = self.asked.lock().unwrap().take().unwrap();
        let mut pages = Pages::new(Arc::clone(&self.answered));
        let ran = self.background.begin(&io, &self.path).await;
        let mut batch = Vec::new();
        asked.recv_batch(&mut batch, 1).await;
        // The question before the first one that is measured: the core runs.
        let (ran_before, cpu) = (ran.get(), thread_cpu());
        self.answered.fetch_add(1, Ordering::Release);
        batch.clear();
        while asked.recv_batch(&mut batch, 64).await > 0 {
            batch.drain(..).for_each(|position| pages.answer(position));
        }
        *self.spent.lock().unwrap() = (ran.get() - ran_before, thread_cpu() - cpu);
    }
}

/// A thread on the last core that asks for pages one at a time and looks for each answer without sleeping.
fn asking(
    answered: Arc<AtomicU64>,
    length: Duration,
    ask: impl Fn(u64) + Send + 'static,
) -> JoinHandle<(Vec<u32>, Duration)> {
    let cores = available_cores();
    pinned::on(cores[cores.len() - 1], move || {
        let (mut state, mut each) = (7_u64, Vec::new());
        ask(0);
        while answered.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        while start.elapsed() < length {
            let pause = Instant::now();
            while pause.elapsed() < PAUSE {
                std::hint::spin_loop();
            }
            let (begun, before) = (Instant::now(), answered.load(Ordering::Acquire));
            ask(next_page(&mut state, CACHE_BYTES as u64));
            while answered.load(Ordering::Acquire) == before {
                std::hint::spin_loop();
            }
            each.push(begun.elapsed().as_nanos() as u32);
        }
        (each, start.elapsed())
    })
}

/// The same of a plain loop that looks for questions and for the ends of its long reads by turns, and never sleeps.
pub fn plain_cached_reads(path: &Path, length: Duration) -> Latencies {
    const NOTHING: u64 = u64::MAX;
    let (question, answered) = (Arc::new(AtomicU64::new(NOTHING)), Arc::<AtomicU64>::default());
    let asked = Arc::clone(&question);
    let asking = asking(Arc::clone(&answered), length, move |position| {
        asked.store(position, Ordering::Release);
    });
    let (path, mut pages) = (path.to_owned(), Pages::new(answered));
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let answering = pinned::on(available_cores()[0], move || {
        let mut reader = Reader::new(&path, 0, AT_DEVICE);
        let cpu = thread_cpu();
        while !until.load(Ordering::Acquire) {
            let position = question.swap(NOTHING, Ordering::AcqRel);
            if position != NOTHING {
                pages.answer(position);
            }
            reader.begin(|_| {});
            reader.end(0, |_| {});
        }
        thread_cpu() - cpu
    });
    let (each, took) = asking.join().unwrap();
    over.store(true, Ordering::Release);
    Latencies {
        each,
        took,
        cpu: answering.join().unwrap(),
        ..Latencies::default()
    }
}

/// Reads of a page that memory answers, asked by a thread on the last core that looks for the answer without sleeping.
pub fn cached_reads(runtime: Runtime, path: &Path, background: Background, length: Duration) -> Latencies {
    let (ask, asked) = mailbox(64);
    let (answered, spent) = (Arc::new(AtomicU64::new(0)), Arc::default());
    let job = CachedReads {
        asked: Mutex::new(Some(asked)),
        answered: Arc::clone(&answered),
        path: path.to_owned(),
        background,
        spent: Arc::clone(&spent),
    };
    let asking = asking(answered, length, move |position| ask.try_send(position).unwrap());
    run_on(runtime, &[available_cores()[0]], 0, job);
    let (each, took) = asking.join().unwrap();
    let (background, cpu) = *spent.lock().unwrap();
    Latencies {
        each,
        took,
        cpu,
        background,
        ..Latencies::default()
    }
}
