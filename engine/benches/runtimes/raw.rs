//! The plain loop that the runtimes are measured against: one ring, a buffer for each read under way, no tasks; on request with
//! long reads beside them, which are not told: what the device makes of a merge's reads without any runtime.
#![allow(unsafe_code, reason = "the kernel is given raw buffers")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use corelane::io::cores::StartOptions;
use io_uring::{IoUring, opcode, types};

use crate::FILE_BYTES;
use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;
use crate::reads::next_page;

/// A page that direct I/O takes.
#[repr(C, align(4096))]
pub struct Page(pub [u8; 4096]);

/// Bytes of a long read.
pub const LONG_BYTES: usize = 256 << 10;

/// Reads of random places, so many at a time.
pub struct Reader {
    ring: IoUring,
    file: File,
    /// A buffer for each read: first those of a page, then the long ones.
    buffers: Vec<Vec<Page>>,
    idle: Vec<usize>,
    state: u64,
}

impl Reader {
    /// Of this file; `depth` pages at a time, and `long` long reads.
    pub fn new(path: &Path, depth: usize, long: usize) -> Self {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_DIRECT).open(path);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // So that who does not wait is told by a look that something has completed: an entry must ask for it.
            .setup_taskrun_flag()
            .build((depth + long) as u32);
        let buffer = |slot| {
            let pages = if slot < depth {
                1
            } else {
                LONG_BYTES / size_of::<Page>()
            };
            (0..pages).map(|_| Page([0; 4096])).collect()
        };
        Self {
            ring: ring.unwrap(),
            file: file.unwrap(),
            buffers: (0..depth + long).map(buffer).collect(),
            idle: (0..depth + long).collect(),
            state: 1,
        }
    }

    fn bytes(&self, slot: usize) -> usize {
        self.buffers[slot].len() * size_of::<Page>()
    }

    /// Queues a read for each buffer that is idle, and tells which these are.
    pub fn begin(&mut self, mut begun: impl FnMut(usize)) {
        for slot in std::mem::take(&mut self.idle) {
            let bytes = self.bytes(slot);
            let offset = next_page(&mut self.state, FILE_BYTES - bytes as u64 + 1);
            let buffer = self.buffers[slot].as_mut_ptr().cast();
            let read = opcode::Read::new(types::Fd(self.file.as_raw_fd()), buffer, bytes as u32);
            let entry = read.offset(offset).build().user_data(slot as u64);
            begun(slot);
            // SAFETY: file and buffers live until nothing is under way, which `drop` waits for; a slot has one read at a time.
            unsafe { self.ring.submission().push(&entry) }.unwrap();
        }
    }

    /// Hands over what is queued, waits for so many reads, and tells which have ended.
    pub fn end(&mut self, wait: usize, mut ended: impl FnMut(usize)) {
        self.ring.submit_and_wait(wait).unwrap();
        let completed: Vec<(usize, i32)> = self
            .ring
            .completion()
            .map(|completion| (completion.user_data() as usize, completion.result()))
            .collect();
        for (slot, result) in completed {
            assert_eq!(result, self.bytes(slot) as i32);
            ended(slot);
            self.idle.push(slot);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        while self.idle.len() < self.buffers.len() {
            self.end(1, |_| {});
        }
    }
}

/// What the thread does while nothing has completed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// It sleeps.
    Sleeps,
    /// It looks, and wants its core all the time, as one does that computes: a virtual machine that is busy is stopped by others
    /// where one that sleeps is not, and that is no runtime's doing.
    Looks,
    /// It computes a slice at a time and looks in between: what a background that wants the whole core makes of a read where
    /// nothing but the processor and the machine come between.
    Computes,
}

/// Computes for as long as a task of a runtime does before it gives way.
fn compute() {
    let slice = Duration::from_micros(StartOptions::default().slice_us);
    let (begun, mut state) = (Instant::now(), 1_u64);
    while begun.elapsed() < slice {
        for _ in 0..100 {
            std::hint::black_box(next_page(&mut state, FILE_BYTES));
        }
    }
}

/// Reads random pages, `depth` at a time and beside so many long reads, for `length`, on a thread pinned to the first core.
pub fn reads(path: &Path, depth: usize, long: usize, meanwhile: Meanwhile, length: Duration) -> Latencies {
    let path = path.to_owned();
    let first = corelane::io::cores::available_cores()[0];
    let reading = pinned::on(first, move || read_for(&path, depth, long, meanwhile, length));
    reading.join().unwrap()
}

fn read_for(path: &Path, depth: usize, long: usize, meanwhile: Meanwhile, length: Duration) -> Latencies {
    let wait = usize::from(meanwhile == Meanwhile::Sleeps);
    let mut reader = Reader::new(path, depth, long);
    let mut begun = vec![Instant::now(); depth + long];
    let mut each = Vec::new();
    let (cpu, start) = (thread_cpu(), Instant::now());
    while start.elapsed() < length {
        reader.begin(|slot| begun[slot] = Instant::now());
        reader.end(wait, |slot| {
            if slot < depth {
                each.push(begun[slot].elapsed().as_nanos() as u32);
            }
        });
        if meanwhile == Meanwhile::Computes {
            compute();
        }
    }
    Latencies {
        each,
        took: start.elapsed(),
        cpu: thread_cpu() - cpu,
        ..Latencies::default()
    }
}
