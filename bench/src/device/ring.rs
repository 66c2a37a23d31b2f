//! One io_uring ring with one file and a buffer for each operation that may be under way: the bench's only memory that the
//! kernel touches.
//!
//! A slot is a buffer and at most one operation. The ring owns file and buffers, so that neither can end before the
//! kernel is done with them: [`Ring`]'s drop waits for what is under way, and leaks the buffers if even that fails.
//!
//! `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1, io_uring_setup(2)) keep completions on the thread that waits for them,
//! as the engine's rings do; a kernel without them gets a plain ring.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

use crate::workload::rng::Rng;

/// What buffers are aligned to: enough for the direct I/O of every device.
pub const ALIGNMENT: usize = 4096;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; ALIGNMENT]);

const _: () = assert!(size_of::<Page>() == ALIGNMENT && align_of::<Page>() == ALIGNMENT);

/// What a slot asks of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Fill the slot's buffer from `offset` on.
    Read {
        /// Where in the file.
        offset: u64,
        /// How much.
        bytes: u32,
    },
    /// Write the slot's buffer.
    Write {
        /// Where in the file.
        offset: u64,
        /// How much.
        bytes: u32,
    },
    /// `fdatasync` of the whole file.
    Sync,
}

impl Ask {
    /// Bytes that a complete answer transfers.
    fn transfers(self) -> u32 {
        match self {
            Self::Read { bytes, .. } | Self::Write { bytes, .. } => bytes,
            Self::Sync => 0,
        }
    }
}

/// A ring, its file and its slots.
pub struct Ring {
    ring: IoUring,
    file: File,
    /// `None` only once it was leaked.
    pages: Option<Vec<Page>>,
    slot_pages: usize,
    /// What each slot has under way.
    asked: Vec<Option<Ask>>,
    under_way: usize,
}

impl Ring {
    /// Of `slots` slots of `slot_bytes` each, filled with random bytes, for `file`.
    ///
    /// # Errors
    /// The operating system's.
    ///
    /// # Panics
    /// Without slots.
    pub fn new(file: File, slots: usize, slot_bytes: usize, seed: u64) -> io::Result<Self> {
        assert!(slots > 0 && slot_bytes > 0, "a ring has something to do");
        let entries = u32::try_from(slots).map_err(io::Error::other)?;
        let slot_pages = slot_bytes.div_ceil(ALIGNMENT);
        let mut this = Self {
            ring: build(entries)?,
            file,
            pages: Some(vec![Page([0; ALIGNMENT]); slots * slot_pages]),
            slot_pages,
            asked: vec![None; slots],
            under_way: 0,
        };
        let mut random = Rng::new(seed);
        (0..slots).for_each(|slot| this.refill(slot, &mut random));
        Ok(this)
    }

    /// Slots.
    pub fn slots(&self) -> usize {
        self.asked.len()
    }

    /// Slots that have an operation under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills the buffer of an idle slot with other random bytes: a device may store equal blocks once.
    ///
    /// # Panics
    /// When the slot has something under way.
    pub fn refill(&mut self, slot: usize, random: &mut Rng) {
        assert!(self.asked[slot].is_none(), "the kernel has this buffer");
        let pages = self.pages.as_mut().expect("only drop leaks them");
        for page in &mut pages[slot * self.slot_pages..(slot + 1) * self.slot_pages] {
            for word in page.0.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next_u64().to_le_bytes());
            }
        }
    }

    /// Queues an operation; the next [`Ring::submit`] or [`Ring::wait`] hands it to the kernel.
    ///
    /// # Errors
    /// The queue is full, which its size rules out.
    ///
    /// # Panics
    /// When the slot has something under way, or its buffer is smaller than what is asked.
    #[expect(unsafe_code, reason = "the kernel is given raw buffers")]
    pub fn queue(&mut self, slot: usize, ask: Ask) -> io::Result<()> {
        assert!(self.asked[slot].is_none(), "a slot does one thing at a time");
        assert!(
            ask.transfers() as usize <= self.slot_pages * ALIGNMENT,
            "it fits the slot's buffer"
        );
        let pages = self.pages.as_mut().expect("only drop leaks them");
        let buffer = pages[slot * self.slot_pages].0.as_mut_ptr();
        let file = types::Fd(self.file.as_raw_fd());
        let entry: squeue::Entry = match ask {
            Ask::Read { offset, bytes } => opcode::Read::new(file, buffer, bytes).offset(offset).build(),
            Ask::Write { offset, bytes } => opcode::Write::new(file, buffer, bytes).offset(offset).build(),
            Ask::Sync => opcode::Fsync::new(file)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: buffer and file are owned by this ring. The buffer is `slot_pages` pages of one vector that is never
        // grown; it is not read, written or given out again until the slot's completion was taken (`asked` is asserted
        // above and in `refill`). Drop frees neither before every completion has come, or leaks the buffers.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(|_full| io::Error::other("the submission queue is full"))?;
        self.asked[slot] = Some(ask);
        self.under_way += 1;
        Ok(())
    }

    /// Hands what is queued to the kernel without waiting.
    ///
    /// # Errors
    /// The operating system's.
    pub fn submit(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            // What was not taken is handed over again by the next call.
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Submits what is queued, waits for one completion at least, and puts the slots that are done into `done`.
    ///
    /// # Errors
    /// The first failed operation's, or a short one: then what else completed is not told, and the ring is of no more use.
    pub fn wait(&mut self, done: &mut Vec<usize>) -> io::Result<()> {
        assert!(self.under_way > 0, "something must be under way to be waited for");
        while let Err(error) = self.ring.submit_and_wait(1) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.take(done)
    }

    fn take(&mut self, done: &mut Vec<usize>) -> io::Result<()> {
        let mut first_error = Ok(());
        for completion in self.ring.completion() {
            let slot = usize::try_from(completion.user_data()).expect("it was a usize when it was queued");
            let ask = self.asked[slot].take().expect("a slot completes once");
            self.under_way -= 1;
            match check(completion.result(), ask) {
                Ok(()) => done.push(slot),
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        first_error
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.under_way > 0 {
            let waited = self.ring.submit_and_wait(1);
            if waited.is_err_and(|e| e.kind() != io::ErrorKind::Interrupted) {
                // The kernel may still write into the buffers: they are never freed.
                std::mem::forget(self.pages.take());
                return;
            }
            // Whether it failed does not matter any more; that it ended does.
            let _ended = self.take(&mut done);
        }
    }
}

fn build(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        .or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => IoUring::new(entries),
            _ => Err(error),
        })
}

/// A failed operation is an error, and so is a short one: a figure of half-done work is no figure.
fn check(result: i32, ask: Ask) -> io::Result<()> {
    let got = u32::try_from(result).map_err(|_negative| io::Error::from_raw_os_error(-result))?;
    if got == ask.transfers() {
        return Ok(());
    }
    let wanted = ask.transfers();
    Err(io::Error::other(format!(
        "{ask:?}: {got} bytes were transferred, {wanted} were asked for"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn file(dir: &tempfile::TempDir) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(dir.path().join("file")).unwrap()
    }

    fn wait_all(ring: &mut Ring) -> io::Result<Vec<usize>> {
        let mut done = Vec::new();
        while ring.under_way() > 0 {
            ring.wait(&mut done)?;
        }
        Ok(done)
    }

    #[test]
    fn what_was_written_is_read_and_every_slot_completes_once() {
        let dir = crate::machine::test_dir();
        let mut ring = Ring::new(file(&dir), 3, 5000, 1).unwrap();
        for slot in 0..3 {
            let offset = slot as u64 * 8192;
            ring.queue(slot, Ask::Write { offset, bytes: 8192 }).unwrap();
        }
        let mut done = wait_all(&mut ring).unwrap();
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2]);
        ring.queue(1, Ask::Sync).unwrap();
        assert_eq!(wait_all(&mut ring).unwrap(), [1]);
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap().len(), 3 * 8192);
        ring.queue(
            0,
            Ask::Read {
                offset: 16384,
                bytes: 8192,
            },
        )
        .unwrap();
        wait_all(&mut ring).unwrap();
        let pages = ring.pages.as_ref().unwrap();
        assert!(pages[0].0 == pages[4].0 && pages[0].0 != pages[2].0);
    }

    #[test]
    fn a_read_beyond_the_end_is_an_error_and_not_a_short_figure() {
        let dir = crate::machine::test_dir();
        std::fs::write(dir.path().join("file"), [1; 6000]).unwrap();
        let mut ring = Ring::new(file(&dir), 2, 4096, 1).unwrap();
        ring.queue(
            0,
            Ask::Read {
                offset: 4096,
                bytes: 4096,
            },
        )
        .unwrap();
        let error = wait_all(&mut ring).unwrap_err().to_string();
        assert!(error.contains("1904 bytes were transferred, 4096"), "{error}");
    }

    #[test]
    fn an_error_leaves_nothing_under_way_behind() {
        let dir = crate::machine::test_dir();
        std::fs::write(dir.path().join("file"), [1; 1 << 20]).unwrap();
        let read_only = File::open(dir.path().join("file")).unwrap();
        let mut ring = Ring::new(read_only, 8, 4096, 1).unwrap();
        for slot in 1..8 {
            let offset = slot as u64 * 4096;
            ring.queue(slot, Ask::Read { offset, bytes: 4096 }).unwrap();
        }
        ring.queue(
            0,
            Ask::Write {
                offset: 0,
                bytes: 4096,
            },
        )
        .unwrap();
        let error = wait_all(&mut ring).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        drop(ring);
    }

    #[test]
    #[should_panic(expected = "a slot does one thing at a time")]
    fn a_buffer_is_never_given_to_the_kernel_twice() {
        let dir = crate::machine::test_dir();
        std::fs::write(dir.path().join("file"), [1; 8192]).unwrap();
        let mut ring = Ring::new(file(&dir), 1, 4096, 1).unwrap();
        let ask = Ask::Read {
            offset: 0,
            bytes: 4096,
        };
        ring.queue(0, ask).unwrap();
        ring.queue(0, ask).unwrap();
    }
}
