//! The plain loop that the runtimes are measured against: one ring, a buffer for each read under way, no tasks.
#![allow(unsafe_code, reason = "the kernel is given raw buffers")]

use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::FILE_BYTES;
use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;
use crate::reads::next_page;

/// A page that direct I/O takes.
#[repr(C, align(4096))]
pub struct Page(pub [u8; 4096]);

/// Reads random pages, `depth` at a time, for `length`, on a thread pinned to the first core.
pub fn reads(path: &Path, depth: usize, length: Duration) -> Latencies {
    let path = path.to_owned();
    let first = corelane::io::cores::available_cores()[0];
    let reading = pinned::on(first, move || read_for(&path, depth, length));
    reading.join().unwrap()
}

fn read_for(path: &Path, depth: usize, length: Duration) -> Latencies {
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth as u32)
        .unwrap();
    let mut pages: Vec<Page> = (0..depth).map(|_| Page([0; 4096])).collect();
    let mut begun = vec![Instant::now(); depth];
    let (mut state, mut each) = (1_u64, Vec::new());
    let (cpu, start) = (thread_cpu(), Instant::now());
    let mut idle: Vec<usize> = (0..depth).collect();
    let mut under_way = 0;
    loop {
        let over = start.elapsed() >= length;
        if !over {
            for slot in idle.drain(..) {
                let offset = next_page(&mut state, FILE_BYTES);
                let read = opcode::Read::new(types::Fd(file.as_raw_fd()), pages[slot].0.as_mut_ptr(), 4096);
                let entry = read.offset(offset).build().user_data(slot as u64);
                begun[slot] = Instant::now();
                // SAFETY: file and pages live until the loop has ended, which it does when nothing is under way; a slot has
                // one read at a time.
                unsafe { ring.submission().push(&entry) }.unwrap();
                under_way += 1;
            }
        } else if under_way == 0 {
            break;
        }
        ring.submit_and_wait(1).unwrap();
        for completion in ring.completion() {
            assert_eq!(completion.result(), 4096);
            let slot = completion.user_data() as usize;
            each.push(begun[slot].elapsed().as_nanos() as u32);
            idle.push(slot);
            under_way -= 1;
        }
    }
    Latencies {
        each,
        took: start.elapsed(),
        cpu: thread_cpu() - cpu,
        ..Latencies::default()
    }
}
