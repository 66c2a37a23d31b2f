//! Memory that the kernel reads and writes for us: one region, and the buffers cut from it or from the heap.
//!
//! A core has one region for its files ([`Arena`]), which the ring may have registered: then the kernel keeps its pages at
//! hand instead of looking each of them up for each transfer. Buffers that do not fit it come from the heap; they work as
//! well, slower. A [`Buf`] owns its bytes alone, wherever they are, until it is dropped, and it never moves them: so one that
//! is held by an operation may be given to the kernel by address.
//!
//! The region is 2 MiB aligned and the kernel is asked for huge pages, which it gives where it is allowed to
//! (`transparent_hugepage` is `always` or `madvise`).
#![expect(
    unsafe_code,
    reason = "memory that is shared with the kernel is addressed by hand"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use super::buddy::{Buddy, LONGEST_PAGES};
use crate::types::PAGE_BYTES;

/// What regions are aligned to, so that huge pages fit them.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory of its own, page-aligned at least, freed when it is dropped.
pub(super) struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

impl Region {
    /// `bytes` bytes, at a multiple of `alignment`, a power of two.
    pub(super) fn new(bytes: usize, alignment: usize) -> Self {
        let layout = Layout::from_size_align(bytes, alignment).expect("a region has a sound size");
        assert!(bytes > 0, "a region is not empty");
        // SAFETY: the layout's size is not zero, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    /// Its first byte. Whoever uses it keeps to the region's bytes, and shares them with nobody who does not expect it.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Asks for huge pages; whether the kernel has heard of them.
    fn ask_for_huge_pages(&self) -> bool {
        // SAFETY: the range is this region's own. The advice changes how its pages are kept and not what is in them.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes(), libc::MADV_HUGEPAGE) == 0 }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this very layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A core's memory for transfers to and from files. Clones share it.
#[derive(Clone)]
pub(super) struct Arena(Rc<Shared>);

struct Shared {
    region: Option<Region>,
    huge_pages: bool,
    pieces: RefCell<Buddy>,
    /// Buffers that are out, those from the heap included.
    out: std::cell::Cell<usize>,
    /// The ring has registered the region.
    registered: std::cell::Cell<bool>,
}

impl Arena {
    /// Of `bytes` bytes, rounded down to whole longest pieces; with less than one, every buffer comes from the heap.
    pub(super) fn new(bytes: usize) -> Self {
        let pages = bytes / PAGE_BYTES / LONGEST_PAGES * LONGEST_PAGES;
        let region = (pages > 0).then(|| Region::new(pages * PAGE_BYTES, HUGE_PAGE_BYTES));
        Self(Rc::new(Shared {
            huge_pages: region.as_ref().is_some_and(Region::ask_for_huge_pages),
            region,
            pieces: RefCell::new(Buddy::new(pages)),
            out: std::cell::Cell::new(0),
            registered: std::cell::Cell::new(false),
        }))
    }

    /// Where it is, for the ring to register; `None` where it has no memory. It must outlive that ring, or what is under way
    /// on it at least.
    pub(super) fn region(&self) -> Option<(NonNull<u8>, usize)> {
        let region = self.0.region.as_ref()?;
        Some((region.start(), region.bytes()))
    }

    /// Says that the ring has registered the region.
    pub(super) fn set_registered(&self) {
        self.0.registered.set(true);
    }

    /// Whether huge pages were asked for and not refused.
    pub(super) fn has_huge_pages(&self) -> bool {
        self.0.huge_pages
    }

    /// Buffers that are out, from wherever they come.
    pub(super) fn out(&self) -> usize {
        self.0.out.get()
    }

    /// Pages not in use.
    #[cfg(test)]
    pub(super) fn free_pages(&self) -> usize {
        self.0.pieces.borrow().free_pages()
    }

    /// A buffer of `bytes` bytes, which must be whole pages and not none. Its bytes are what was there before.
    pub(super) fn take(&self, bytes: usize) -> Buf {
        assert!(
            bytes > 0 && bytes.is_multiple_of(PAGE_BYTES),
            "a buffer of {bytes} bytes is not whole pages"
        );
        self.0.out.set(self.0.out.get() + 1);
        let arena = self.clone();
        if let Some(region) = &self.0.region
            && let Some(page) = self.0.pieces.borrow_mut().take(bytes / PAGE_BYTES)
        {
            // SAFETY: the allocator gave out these pages, which lie within the region.
            let start = unsafe { region.start().add(page * PAGE_BYTES) };
            return Buf {
                start,
                bytes,
                arena,
                home: Home::Arena { page },
            };
        }
        let region = Region::new(bytes, PAGE_BYTES);
        Buf {
            start: region.start(),
            bytes,
            arena,
            home: Home::Heap { _region: region },
        }
    }
}

/// Where a buffer's bytes are given back.
enum Home {
    Arena { page: usize },
    Heap { _region: Region },
}

/// Bytes for one transfer, in whole pages, page-aligned. They stay where they are when it is moved.
pub(super) struct Buf {
    start: NonNull<u8>,
    bytes: usize,
    /// Where it was taken, and is counted.
    arena: Arena,
    home: Home,
}

impl Buf {
    /// Where its bytes are.
    pub(super) fn address(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Whether they are in memory that the ring has registered.
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.home, Home::Arena { .. }) && self.arena.0.registered.get()
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `bytes` bytes from `start` on are this buffer's alone: a piece that the allocator gives to nobody else
        // before `drop`, or a region of its own. They were zeroed when the region was made. The kernel writes to them only
        // while an operation owns the buffer, and then nobody can call this.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed by this caller alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let shared = &self.arena.0;
        shared.out.set(shared.out.get() - 1);
        if let Home::Arena { page } = self.home {
            let mut pieces = shared.pieces.borrow_mut();
            pieces.give_back(page, self.bytes / PAGE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart_aligned_and_given_back() {
        let arena = Arena::new(2 << 20);
        let mut bufs: Vec<Buf> = (0..600).map(|i| arena.take((i % 3 + 1) * PAGE_BYTES)).collect();
        assert!(
            arena.free_pages() < 4,
            "the arena is used up, and the heap took over"
        );
        for (byte, buf) in (0_u8..=255).cycle().zip(&mut bufs) {
            assert!(buf.address().addr().is_multiple_of(PAGE_BYTES));
            assert!(buf.iter().all(|&b| b == 0), "new memory is zeroed");
            buf.fill(byte);
        }
        for (byte, buf) in (0_u8..=255).cycle().zip(&bufs) {
            assert!(buf.iter().all(|&b| b == byte), "nobody else wrote to it");
        }
        let moved = bufs.pop().expect("there are many");
        let at = moved.as_ptr();
        let elsewhere = [moved];
        assert_eq!(
            elsewhere[0].as_ptr(),
            at,
            "a buffer that is moved leaves its bytes in place"
        );
        assert_eq!(arena.out(), 600, "those from the heap are counted, too");
        drop(bufs);
        drop(elsewhere);
        assert_eq!((arena.free_pages(), arena.out()), (512, 0));
    }

    #[test]
    fn an_arena_without_memory_takes_from_the_heap() {
        let arena = Arena::new(0);
        assert!(arena.region().is_none());
        assert_eq!(arena.take(PAGE_BYTES).len(), PAGE_BYTES);
        assert!(!arena.take(PAGE_BYTES).is_registered());
    }
}
