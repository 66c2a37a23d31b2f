//! Memory that the kernel reads and writes for us: one region, and the buffers cut from it or from the heap.
//!
//! A core has one region for its files ([`Arena`]), of which the ring may have registered the first part or all: then the
//! kernel keeps its pages at hand instead of looking each of them up for each transfer. Buffers that do not fit the region come
//! from the heap; they work as well, slower. Long ones of those are kept for the next of their length, as far as [`KEPT_BYTES`]
//! go: the allocator would have the kernel map and zero each page of each anew, 200 us for 256 KiB on a virtual machine. A
//! [`Buf`] owns its bytes alone, wherever they are, until it is dropped, and it never moves them: so one that is held by an
//! operation may be given to the kernel by address.
//!
//! Regions are mapped, not allocated: a page of theirs is there once it is used. The allocator would write zeros to all of
//! them at the start. The arena is 2 MiB aligned and the kernel is asked for huge pages before it is used, which it gives
//! where it is allowed to (`transparent_hugepage` is `always` or `madvise`). What is registered is used at once, because the
//! kernel holds on to its pages.
#![expect(
    unsafe_code,
    reason = "memory that is shared with the kernel is addressed by hand"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use super::buddy::{Buddy, LONGEST_PAGES};
use crate::types::PAGE_BYTES;

/// What the arena is aligned to, so that huge pages fit it.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The longest piece of the arena.
const LONGEST_BYTES: usize = LONGEST_PAGES * PAGE_BYTES;

/// What is kept of long buffers from the heap, on each core: a merge's long reads beyond the arena, sixteen of 256 KiB.
const KEPT_BYTES: usize = 4 << 20;

/// A shorter buffer is not kept. What is as long as this glibc takes from the kernel and gives back, unless it has learnt to keep
/// it (mallopt(3), `M_MMAP_THRESHOLD`); of shorter ones it keeps some itself.
const LONG_BYTES: usize = 128 << 10;

/// Zeroed memory of its own, mapped and given back when it is dropped. Pages that nobody used take no room.
pub(super) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// At least `bytes` bytes in whole pages, at a multiple of `alignment`, a power of two and whole pages too.
    pub(super) fn new(bytes: usize, alignment: usize) -> Self {
        assert!(bytes > 0, "a region is not empty");
        assert!(
            alignment.is_power_of_two() && alignment.is_multiple_of(PAGE_BYTES),
            "a region is aligned to whole pages"
        );
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        // So much that an aligned part of it is long enough; what is before and after goes back at once.
        let mapped_bytes = bytes + alignment - PAGE_BYTES;
        let mapped = map(mapped_bytes);
        let before = mapped.addr().get().next_multiple_of(alignment) - mapped.addr().get();
        // SAFETY: what was just mapped is `before` bytes and the region and what is left, all whole pages of ours that nobody
        // has seen. The region's own part stays.
        unsafe {
            unmap(mapped, before);
            let start = mapped.add(before);
            unmap(start.add(bytes), mapped_bytes - before - bytes);
            Self { start, bytes }
        }
    }

    /// Its first byte. Whoever uses it keeps to the region's bytes, and shares them with nobody who does not expect it.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for huge pages; whether the kernel has heard of them.
    fn ask_for_huge_pages(&self) -> bool {
        // SAFETY: the range is this region's own. The advice changes how its pages are kept and not what is in them.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) == 0 }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and given back only here.
        unsafe { unmap(self.start, self.bytes) };
    }
}

/// Private zeroed pages. Where there are none the process ends, as it does where the allocator has none.
fn map(bytes: usize) -> NonNull<u8> {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: no address is given, so that the pages are where nothing was.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        handle_alloc_error(layout(bytes));
    }
    NonNull::new(start.cast()).expect("the kernel maps nothing at zero unless it is asked to")
}

/// # Safety
/// The pages were mapped by [`map`], and nobody uses them again.
unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller's promise. It can only fail where a mapping would be cut in two and there are too many.
        let _unmapped = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a buffer has a sound size")
}

/// One buffer from the allocator, zeroed as it is made.
struct Piece {
    start: NonNull<u8>,
    bytes: usize,
}

impl Piece {
    fn new(bytes: usize) -> Self {
        let layout = layout(bytes);
        assert!(bytes > 0, "a buffer is not empty");
        // SAFETY: the layout's size is not zero, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, bytes }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this very layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), layout(self.bytes)) };
    }
}

/// A core's memory for transfers to and from files. Clones share it.
#[derive(Clone)]
pub(super) struct Arena(Rc<Shared>);

struct Shared {
    region: Option<Region>,
    huge_pages: bool,
    pieces: RefCell<Buddy>,
    /// Long buffers from the heap that nobody has now, the oldest first; no more than [`KEPT_BYTES`] hold, so a search among
    /// them is short.
    kept: RefCell<VecDeque<Piece>>,
    /// Buffers that are out, those from the heap included.
    out: Cell<usize>,
    /// Bytes from the region's start on that the ring has registered.
    registered_bytes: Cell<usize>,
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
            kept: RefCell::default(),
            out: Cell::new(0),
            registered_bytes: Cell::new(0),
        }))
    }

    /// Where it is; `None` where it has no memory. It must outlive a ring that has registered it, or what is under way there at
    /// least.
    fn region(&self) -> Option<(NonNull<u8>, usize)> {
        let region = self.0.region.as_ref()?;
        Some((region.start(), region.bytes()))
    }

    /// Has the region registered by `register`, all of it or as much from its start as the kernel takes: half of it while the
    /// limit on locked memory refuses, down to the longest piece. Returns how much it was.
    pub(super) fn register_most(
        &self,
        mut register: impl FnMut(NonNull<u8>, usize) -> io::Result<()>,
    ) -> usize {
        let Some((start, mut bytes)) = self.region() else {
            return 0;
        };
        while bytes >= LONGEST_BYTES {
            match register(start, bytes) {
                Ok(()) => {
                    self.0.registered_bytes.set(bytes);
                    return bytes;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                    bytes = bytes / 2 / LONGEST_BYTES * LONGEST_BYTES;
                }
                // No matter of size: less would be refused as well.
                Err(_) => break,
            }
        }
        0
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.0.region.as_ref().map_or(0, Region::bytes)
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

    /// A buffer of `bytes` bytes, which must be whole pages and not none. Its bytes are what was there before, or zeros.
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
        let piece = self.0.take_kept(bytes).unwrap_or_else(|| Piece::new(bytes));
        Buf {
            start: piece.start,
            bytes,
            arena,
            home: Home::Heap { piece: Some(piece) },
        }
    }
}

impl Shared {
    /// A kept piece of exactly this length.
    fn take_kept(&self, bytes: usize) -> Option<Piece> {
        let mut kept = self.kept.borrow_mut();
        let place = kept.iter().position(|piece| piece.bytes == bytes)?;
        kept.remove(place)
    }

    /// Keeps a long piece for later, for which the oldest go; or frees it.
    fn keep(&self, piece: Piece) {
        if piece.bytes < LONG_BYTES || piece.bytes > KEPT_BYTES {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        let mut kept_bytes = kept.iter().map(|piece| piece.bytes).sum::<usize>() + piece.bytes;
        while kept_bytes > KEPT_BYTES
            && let Some(oldest) = kept.pop_front()
        {
            kept_bytes -= oldest.bytes;
        }
        kept.push_back(piece);
    }
}

/// Where a buffer's bytes are given back.
enum Home {
    Arena {
        page: usize,
    },
    /// Here until the buffer is dropped.
    Heap {
        piece: Option<Piece>,
    },
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
        match self.home {
            Home::Arena { page } => page * PAGE_BYTES + self.bytes <= self.arena.0.registered_bytes.get(),
            Home::Heap { .. } => false,
        }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `bytes` bytes from `start` on are this buffer's alone: a piece that the allocator gives to nobody else
        // before `drop`, or a region of its own. They were zeros when they were mapped or allocated. The kernel writes to them only
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
        match &mut self.home {
            Home::Arena { page } => {
                let mut pieces = shared.pieces.borrow_mut();
                pieces.give_back(*page, self.bytes / PAGE_BYTES);
            }
            Home::Heap { piece } => {
                if let Some(piece) = piece.take() {
                    shared.keep(piece);
                }
            }
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

    /// Pages of a region that the kernel has given room to.
    fn resident_pages(region: &Region) -> usize {
        let mut resident = vec![0_u8; region.bytes() / PAGE_BYTES];
        // SAFETY: the range is the region's, whole pages, and there is a byte for each of them.
        let asked = unsafe {
            libc::mincore(
                region.start().as_ptr().cast(),
                region.bytes(),
                resident.as_mut_ptr(),
            )
        };
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        resident.iter().filter(|&&page| page & 1 == 1).count()
    }

    /// The allocator wrote zeros to the whole of a region as it was made: a core took 18 MiB before it had done anything.
    #[test]
    fn a_region_takes_no_room_before_it_is_used() {
        for (bytes, alignment) in [
            (8 << 20, PAGE_BYTES),
            (10 << 20, HUGE_PAGE_BYTES),
            (100, PAGE_BYTES),
        ] {
            let region = Region::new(bytes, alignment);
            assert!(region.start().addr().get().is_multiple_of(alignment));
            assert_eq!(region.bytes(), bytes.next_multiple_of(PAGE_BYTES));
            assert_eq!(resident_pages(&region), 0, "{bytes} bytes");
            // SAFETY: the region's last byte, which nobody else knows of.
            unsafe { region.start().add(region.bytes() - 1).write(7) };
            // One page, or a huge one where the kernel gives these unasked.
            assert!(resident_pages(&region) >= 1);
        }
    }

    fn refuses(most: usize) -> impl FnMut(NonNull<u8>, usize) -> io::Result<()> {
        move |_, bytes| {
            if bytes <= most {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ENOMEM))
            }
        }
    }

    /// Registration was all or nothing: where 8 MiB may be locked, as is usual, a region of 10 MiB was not registered at all.
    #[test]
    fn as_much_is_registered_as_the_limit_on_locked_memory_lets() {
        const MIB: usize = 1 << 20;
        for (most, registered) in [
            (10 * MIB, 10 * MIB),
            (8 * MIB, 5 * MIB),
            (3 * MIB, 2 * MIB),
            (MIB, MIB),
            (MIB - 1, 0),
        ] {
            let arena = Arena::new(10 * MIB);
            assert_eq!(arena.register_most(refuses(most)), registered, "of {most}");
            let bufs: Vec<Buf> = (0..10).map(|_| arena.take(MIB)).collect();
            let ones = bufs.iter().filter(|buf| buf.is_registered()).count();
            assert_eq!(ones, registered / MIB, "the first ones are");
        }
        let arena = Arena::new(10 * MIB);
        let mut asked = 0;
        let never = arena.register_most(|_, _| {
            asked += 1;
            Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
        });
        assert_eq!((never, asked), (0, 1), "less would not help");
    }

    /// Each read of 256 KiB beyond the arena had its pages mapped, zeroed and unmapped: 64 of them at once held a core for 800 us.
    #[test]
    fn a_long_buffer_of_the_heap_is_kept_for_the_next_of_its_length() {
        let arena = Arena::new(0);
        let mut buf = arena.take(2 * LONG_BYTES);
        let at = buf.address();
        buf.fill(7);
        drop(buf);
        assert_ne!(arena.take(LONG_BYTES).address(), at, "another length");
        let mut again = arena.take(2 * LONG_BYTES);
        assert_eq!(again.address(), at);
        assert!(
            arena.take(2 * LONG_BYTES).iter().all(|&byte| byte == 0),
            "nobody else has it"
        );
        drop(again);
        drop(arena.take(LONG_BYTES - PAGE_BYTES));
        let long = arena.0.kept.borrow().len();
        assert_eq!(long, 3, "a short one is not kept");
        drop((0..100).map(|_| arena.take(LONG_BYTES)).collect::<Vec<_>>());
        let kept: usize = arena.0.kept.borrow().iter().map(|piece| piece.bytes).sum();
        assert_eq!(kept, KEPT_BYTES, "no more is kept");
        drop(arena.take(KEPT_BYTES + PAGE_BYTES));
        assert_eq!(arena.0.kept.borrow().len(), KEPT_BYTES / LONG_BYTES);
        assert_eq!(arena.out(), 0);
    }

    /// What came first stayed: the windows that recovery reads the log by took all the room, and nobody asks for these again.
    #[test]
    fn a_kept_buffer_that_nobody_asks_for_makes_room() {
        let arena = Arena::new(0);
        drop([arena.take(KEPT_BYTES / 2), arena.take(KEPT_BYTES / 2)]);
        let mut buf = arena.take(LONG_BYTES);
        let at = buf.address();
        drop(buf);
        assert_eq!(arena.take(LONG_BYTES).address(), at);
    }

    #[test]
    fn an_arena_without_memory_takes_from_the_heap() {
        let arena = Arena::new(0);
        assert!(arena.region().is_none());
        assert_eq!(arena.take(PAGE_BYTES).len(), PAGE_BYTES);
        assert!(!arena.take(PAGE_BYTES).is_registered());
    }
}
