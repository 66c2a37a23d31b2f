//! Buffers that the kernel receives into by itself: a ring of them, provided in advance, one for each receive that yields.
//!
//! The ring is memory shared with the kernel (io_uring_register_buf_ring(3)): entries of 16 bytes, each an address, a length
//! and a number, and a tail in what would be the first entry's last two bytes. We write an entry and then the tail; the
//! kernel takes entries in order and tells the number of the buffer that it has filled. That buffer is then a [`Lent`]:
//! whoever holds it reads it in place, and dropping it provides it again. So a buffer is the kernel's or one holder's, never
//! both.
//!
//! The memory is touched only as far as it is filled: a core without connections pays for addresses alone.
#![expect(
    unsafe_code,
    reason = "the ring of buffers is written by us and read by the kernel"
)]

use std::cell::Cell;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::memory::Region;
use crate::types::PAGE_BYTES;

/// Room for one receive: a pipeline of 32 requests of some 500 bytes fits twice.
pub(super) const RECV_BYTES: usize = 32 * 1024;

/// Buffers of a core, 8 MiB together: as many connections as may have sent something that is not read yet, before others
/// receive into memory of their own. A power of two, as the kernel wants it.
pub(super) const RECV_BUFFERS: u16 = 256;

const _: () = assert!(RECV_BUFFERS.is_power_of_two() && size_of::<BufRingEntry>() == 16);

/// See the module's head. Clones share it.
#[derive(Clone)]
pub(super) struct BufferRing(Rc<Shared>);

struct Shared {
    entries: Region,
    data: Region,
    /// Where the next buffer is provided; wraps around.
    tail: Cell<u16>,
    lent: Cell<u16>,
}

impl BufferRing {
    /// A ring with every buffer provided. It must be registered with the kernel to be of use.
    pub(super) fn new() -> Self {
        let this = Self(Rc::new(Shared {
            entries: Region::new(usize::from(RECV_BUFFERS) * size_of::<BufRingEntry>(), PAGE_BYTES),
            data: Region::new(usize::from(RECV_BUFFERS) * RECV_BYTES, PAGE_BYTES),
            tail: Cell::new(0),
            lent: Cell::new(RECV_BUFFERS),
        }));
        (0..RECV_BUFFERS).for_each(|number| this.0.provide(number));
        this
    }

    /// Where its entries are, for the kernel to be told.
    pub(super) fn address(&self) -> u64 {
        self.0.entries.start().addr().get() as u64
    }

    /// Buffers that are not the kernel's.
    pub(super) fn lent(&self) -> u16 {
        self.0.lent.get()
    }

    /// The buffer that the kernel says to have filled with `bytes` bytes.
    ///
    /// # Safety
    /// A completion of an operation that receives into this ring said so, and is turned into a buffer only here and once.
    pub(super) unsafe fn take(&self, number: u16, bytes: usize) -> Lent {
        assert!(
            number < RECV_BUFFERS && bytes <= RECV_BYTES,
            "the kernel fills buffers that it was provided with"
        );
        self.0.lent.set(self.0.lent.get() + 1);
        Lent {
            ring: self.clone(),
            number,
            bytes,
        }
    }
}

impl Shared {
    fn buffer(&self, number: u16) -> NonNull<u8> {
        // SAFETY: the region holds `RECV_BUFFERS` buffers, and numbers are below that (asserted in `take`).
        unsafe { self.data.start().add(usize::from(number) * RECV_BYTES) }
    }

    /// Gives a buffer to the kernel.
    fn provide(&self, number: u16) {
        let tail = self.tail.get();
        let first = self.entries.start().cast::<BufRingEntry>();
        let place = usize::from(tail % RECV_BUFFERS);
        let address = self.buffer(number).addr().get() as u64;
        // SAFETY: the region holds `RECV_BUFFERS` entries, zeroed when made, and is aligned to a page. Only this thread
        // writes to it. The kernel reads entries below the tail alone, and this one is not: there are as many places as
        // buffers, so what stood here was taken. The first entry's last bytes, the tail, are not touched by these setters.
        // The tail is read and written as an atomic by both sides.
        unsafe {
            let entry = &mut *first.as_ptr().add(place);
            entry.set_addr(address);
            #[expect(clippy::cast_possible_truncation, reason = "32 KiB")]
            entry.set_len(RECV_BYTES as u32);
            entry.set_bid(number);
            let shared_tail = BufRingEntry::tail(first.as_ptr()).cast_mut();
            AtomicU16::from_ptr(shared_tail).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
        self.lent.set(self.lent.get() - 1);
    }
}

/// A buffer that the kernel has filled, until it is dropped.
pub(super) struct Lent {
    ring: BufferRing,
    number: u16,
    bytes: usize,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer lies within the region, whose memory was initialised when it was made, and the kernel does not
        // write to it before it is provided again, which only `drop` does.
        unsafe { std::slice::from_raw_parts(self.ring.0.buffer(self.number).as_ptr(), self.bytes) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.ring.0.provide(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_provided_again_when_it_is_dropped() {
        let ring = BufferRing::new();
        assert_eq!(ring.lent(), 0);
        // SAFETY: no kernel knows this ring, so nobody else has its buffers.
        let held: Vec<Lent> = (0..RECV_BUFFERS).map(|n| unsafe { ring.take(n, 10) }).collect();
        assert_eq!(ring.lent(), RECV_BUFFERS);
        assert!(held.iter().all(|lent| **lent == [0; 10]));
        drop(held);
        assert_eq!((ring.lent(), ring.0.tail.get()), (0, 2 * RECV_BUFFERS));
    }
}
