//! Memory of large values goes back when they go. In a process of its own, whose memory nobody else uses.

#![cfg(target_env = "gnu")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "a thread of the test's own")]

use std::path::Path;

use corelane_server::admin::facts::Facts;
use corelane_server::allocator::give_back_large;

/// Bytes of this process that are resident.
fn resident_bytes() -> u64 {
    Facts::gather(Path::new("/"), false).resident_bytes
}

/// A server that clients had left large values with kept half a GiB after they had gone, where 40 MiB were in use: the
/// allocator had learnt from the first of them to take such blocks out of its heaps, and each lay between two small blocks
/// that stayed.
#[test]
fn what_large_values_took_is_given_back() {
    give_back_large();
    let on_another_thread = || {
        drop(vec![1_u8; 16 << 20]);
        let before = resident_bytes();
        let blocks: Vec<_> = (0..400)
            .map(|_| (vec![1_u8; 600 << 10], vec![1_u8; 2 << 10]))
            .collect();
        let most = resident_bytes() - before;
        let small: Vec<_> = blocks.into_iter().map(|(_large, small)| small).collect();
        let after = resident_bytes() - before;
        drop(small);
        (most, after)
    };
    // Not on the first thread, whose heap grows and shrinks otherwise.
    let (most, after) = std::thread::spawn(on_another_thread).join().unwrap();
    assert!(most > 200 << 20, "{most}");
    assert!(after < 20 << 20, "{after} of {most}");
}
