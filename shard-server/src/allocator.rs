//! How the C library's allocator gives memory back.
//!
//! By default it learns: once a large block was freed, blocks of that size, up to 32 MiB, come out of its heaps instead of
//! mappings of their own (mallopt(3), `M_MMAP_THRESHOLD`). Large values of many clients then lie in heaps among small blocks
//! that stay, and a server that once had them keeps their memory for ever. With a threshold of our own it learns nothing: what
//! is large is mapped, and is the kernel's again when it is freed. That costs a large value some µs for each 100 KiB, the
//! kernel's to zero its pages.
#![expect(
    unsafe_code,
    reason = "the allocator's options are set by a call of the C library"
)]

/// Blocks from here on are mapped: what the allocator itself begins with.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 << 10;

/// Free memory at a heap's end that is kept. It would learn this, too; what it begins with, as much as one large block, is given
/// back and taken again by each burst of small ones.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 4 << 20;

/// Has large blocks given back when they are freed, unless the environment says otherwise (`MALLOC_MMAP_THRESHOLD_`). To be
/// called before there is a second thread.
pub fn give_back_large() {
    #[cfg(target_env = "gnu")]
    if std::env::var_os("MALLOC_MMAP_THRESHOLD_").is_none() {
        // SAFETY: each takes two numbers and changes the allocator's options, which no other thread reads meanwhile.
        let _set = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES)
        };
    }
}
