//! Hints to the processor: memory that will be read soon. Where there is no such instruction in the standard library, or Miri runs the
//! code, nothing.
#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(
        unsafe_code,
        reason = "the instruction takes an address; it reads nothing of it"
    )
)]

/// Bytes of a cache line on all processors this runs on; on one with longer lines some hints are given twice.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LINE_BYTES: usize = 64;

/// Has the cache lines of these bytes brought near, all at once.
pub(super) fn fetch(bytes: &[u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in bytes.chunks(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint reads nothing that the program could see and faults nowhere, and this address is in a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _no_hint = bytes;
}
