//! The plain loop that durable writes are measured against: one ring, one group at a time, into a file as the log's are. What
//! the engine writes goes to the device twice, to the log and to a table: so the loop may write as many bytes to a table as
//! well, in pieces as the engine's and no more of them at once, behind the groups and without waiting for them. What has no
//! place there goes out later; the table is a file that has its blocks, and is not synced.
#![allow(unsafe_code, reason = "the kernel is given raw buffers")]

use std::fs::File;
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
/// No group is longer; 64 callers' are seven pages. So none is as long as a piece of a table.
const LONGEST_PAGES: u64 = PIECE_BYTES / 4096 - 1;

/// Bytes of a write to a table (`sstable/writer.rs`), and how many of them the runtime has with the device (`io/uring/depth.rs`).
const PIECE_BYTES: u64 = 512 << 10;
const PIECES: usize = 4;

/// Whether a table is written beside the groups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    None,
    Beside,
}

/// Writes groups one after the other, for `length`, on a thread pinned to the first core. Each write in a group counts as an
/// operation that took as long as the group.
pub fn groups(dir: &Path, groups: &Groups, table: Table, length: Duration) -> Latencies {
    let (dir, groups) = (dir.to_owned(), groups.clone());
    let first = corelane::io::cores::available_cores()[0];
    let writing = pinned::on(first, move || {
        let log = segment(&dir);
        let pieces = (table == Table::Beside).then(|| opened(filled(&dir), libc::O_DIRECT));
        let mut writes = Writes::new(
            log.as_file(),
            pieces.as_ref().map(tempfile::NamedTempFile::as_file),
        );
        writes.run(&groups, length)
    });
    writing.join().unwrap()
}

/// A file of zeros on stable storage, opened as the log opens its segments.
pub fn segment(dir: &Path) -> tempfile::NamedTempFile {
    opened(filled(dir), libc::O_DIRECT | libc::O_DSYNC)
}

/// A file of zeros on stable storage.
fn filled(dir: &Path) -> tempfile::NamedTempFile {
    let mut zeros = tempfile::NamedTempFile::new_in(dir).unwrap();
    for _ in 0..FILE_BYTES >> 20 {
        zeros.write_all(&[0; 1 << 20]).unwrap();
    }
    zeros.as_file().sync_all().unwrap();
    zeros
}

/// The same, opened for writes with these flags.
fn opened(file: tempfile::NamedTempFile, flags: i32) -> tempfile::NamedTempFile {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).custom_flags(flags);
    let (_buffered, path) = file.into_parts();
    tempfile::NamedTempFile::from_parts(options.open(&path).unwrap(), path)
}

/// The place of the next write in a file that is written over and over.
#[derive(Default)]
struct Place(u64);

impl Place {
    fn take(&mut self, bytes: u64) -> u64 {
        if self.0 + bytes > FILE_BYTES {
            self.0 = 0;
        }
        self.0 += bytes;
        self.0 - bytes
    }
}

/// The loop's ring, and what it writes to.
struct Writes<'a> {
    ring: IoUring,
    pages: Vec<Page>,
    log: (&'a File, Place),
    table: Option<(&'a File, Place)>,
    /// Bytes of groups that are not yet in a piece of the table.
    unflushed: u64,
    /// Writes under way, and how many of them are pieces of the table.
    under_way: usize,
    pieces: usize,
}

impl<'a> Writes<'a> {
    fn new(log: &'a File, table: Option<&'a File>) -> Self {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        Self {
            ring: builder.build(8).unwrap(),
            pages: (0..PIECE_BYTES / 4096).map(|_| Page([7; 4096])).collect(),
            log: (log, Place::default()),
            table: table.map(|file| (file, Place::default())),
            unflushed: 0,
            under_way: 0,
            pieces: 0,
        }
    }

    fn run(&mut self, groups: &Groups, length: Duration) -> Latencies {
        let (mut state, mut owed, mut each) = (1_u64, 0.0, Vec::new());
        let (cpu, start) = (thread_cpu(), Instant::now());
        while start.elapsed() < length {
            let begun = Instant::now();
            let bytes = groups.next_pages(&mut state).min(LONGEST_PAGES) * 4096;
            let position = self.log.1.take(bytes);
            self.push(self.log.0, position, bytes);
            self.flush(bytes);
            while !self.completed() {}
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

    /// A group of so many bytes was written: once that fills a piece of the table, it is written too.
    fn flush(&mut self, bytes: u64) {
        let Some((file, place)) = &mut self.table else {
            return;
        };
        self.unflushed += bytes;
        if self.unflushed < PIECE_BYTES || self.pieces == PIECES {
            return;
        }
        let (file, position) = (*file, place.take(PIECE_BYTES));
        self.unflushed -= PIECE_BYTES;
        self.pieces += 1;
        self.push(file, position, PIECE_BYTES);
    }

    fn push(&mut self, file: &File, position: u64, bytes: u64) {
        assert!(
            bytes <= self.pages.len() as u64 * 4096,
            "what is written is there"
        );
        let write = opcode::Write::new(
            types::Fd(file.as_raw_fd()),
            self.pages.as_ptr().cast(),
            bytes as u32,
        );
        let entry = write.offset(position).build().user_data(bytes);
        // SAFETY: the entry names no more than the pages are, asserted above; pages and files are there until the ring has
        // nothing under way (`drop`).
        unsafe { self.ring.submission().push(&entry) }.unwrap();
        self.under_way += 1;
    }

    /// Waits for writes; whether a group's was among them, which is known by its length: no group is as long as a piece.
    fn completed(&mut self) -> bool {
        self.ring.submit_and_wait(1).unwrap();
        let mut group = false;
        for written in self.ring.completion() {
            self.under_way -= 1;
            assert_eq!(i64::from(written.result()), written.user_data() as i64);
            if written.user_data() == PIECE_BYTES {
                self.pieces -= 1;
            } else {
                group = true;
            }
        }
        group
    }
}

/// The kernel reads the pages until its last write has ended.
impl Drop for Writes<'_> {
    fn drop(&mut self) {
        while self.under_way > 0 {
            self.completed();
        }
    }
}
