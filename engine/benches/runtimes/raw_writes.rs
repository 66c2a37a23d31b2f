//! The plain loop that durable writes are measured against: one ring, one group at a time, into a file as the log's are.
#![allow(unsafe_code, reason = "the kernel is given raw buffers")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::groups::Groups;
use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;
use crate::raw::Page;

/// As long as a segment of the log.
pub const FILE_BYTES: u64 = 64 << 20;
/// No group is longer: the log cuts at 1 MiB.
const LONGEST_PAGES: u64 = 512;

/// Writes groups one after the other, for `length`, on a thread pinned to the first core. Each write in a group counts as an
/// operation that took as long as the group.
pub fn groups(dir: &Path, groups: &Groups, length: Duration) -> Latencies {
    let (dir, groups) = (dir.to_owned(), groups.clone());
    let first = corelane::io::cores::available_cores()[0];
    let writing = pinned::on(first, move || {
        let file = segment(&dir);
        write_for(file.as_file(), &groups, length)
    });
    writing.join().unwrap()
}

/// A file of zeros on stable storage, opened as the log opens its segments.
pub fn segment(dir: &Path) -> tempfile::NamedTempFile {
    let mut zeros = tempfile::NamedTempFile::new_in(dir).unwrap();
    for _ in 0..FILE_BYTES >> 20 {
        zeros.write_all(&[0; 1 << 20]).unwrap();
    }
    zeros.as_file().sync_all().unwrap();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    let (_buffered, path) = zeros.into_parts();
    tempfile::NamedTempFile::from_parts(options.open(&path).unwrap(), path)
}

fn write_for(file: &std::fs::File, groups: &Groups, length: Duration) -> Latencies {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .unwrap();
    let pages: Vec<Page> = (0..LONGEST_PAGES).map(|_| Page([7; 4096])).collect();
    let (mut state, mut position, mut owed, mut each) = (1_u64, 0, 0.0, Vec::new());
    let (cpu, start) = (thread_cpu(), Instant::now());
    while start.elapsed() < length {
        let begun = Instant::now();
        let bytes = groups.next_pages(&mut state).min(LONGEST_PAGES) * 4096;
        if position + bytes > FILE_BYTES {
            position = 0;
        }
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), pages.as_ptr().cast(), bytes as u32);
        // SAFETY: file and pages live until the loop has ended, and each turn of it waits for its write.
        unsafe { ring.submission().push(&write.offset(position).build()) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        let written = ring.completion().next().unwrap().result();
        assert_eq!(i64::from(written), bytes as i64);
        position += bytes;
        owed += groups.writes;
        while owed >= 1.0 {
            each.push(begun.elapsed().as_nanos() as u32);
            owed -= 1.0;
        }
    }
    Latencies {
        each,
        took: start.elapsed(),
        cpu: thread_cpu() - cpu,
        ..Latencies::default()
    }
}
