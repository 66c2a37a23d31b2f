//! Has the calling thread give way to those it shares a core with: in how much of the core it gets, and in how long it goes on
//! once it has it.
//!
//! The first is its niceness. It does not help with the second: since Linux 6.6 a thread that runs is not interrupted before it
//! had its slice, some 3 ms, by one that wakes, and a shard's clients wait for that. Since 6.12 a thread may have a shorter
//! slice (`sched_runtime` in sched_setattr(2); "Improving interactivity" in the kernel's `scheduler/sched-eevdf.rst`). Kernels
//! before that take no notice of it.
#![expect(unsafe_code, reason = "the system calls that no library has for us")]

use std::io;

/// The slice: the shortest that the kernel grants.
const SLICE_NS: u64 = 100_000;

/// The nicest that a thread can be.
const NICEST: i32 = 19;

/// Policies that know niceness and slices (sched(7)); a thread of another is left as it is.
const FAIR: [libc::c_int; 3] = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE];

/// Makes this thread so much nicer, and its slices short; only nicer where a sandbox does not know how to ask for both.
///
/// # Errors
/// The operating system's.
pub(super) fn give_way(nicer: i32) -> io::Result<()> {
    // On Linux niceness is the calling thread's alone (setpriority(2), "C library/kernel differences").
    give_both(nicer).or_else(|_| rustix::process::nice(nicer).map(drop).map_err(io::Error::from))
}

fn give_both(nicer: i32) -> io::Result<()> {
    let mut attributes = attributes()?;
    if FAIR
        .iter()
        .all(|&fair| attributes.sched_policy != fair.unsigned_abs())
    {
        return Ok(());
    }
    attributes.sched_nice = (attributes.sched_nice + nicer).min(NICEST);
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: it reads so many bytes from the address as the structure says to have, and keeps nothing.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    ended(result)
}

/// Those of this thread.
fn attributes() -> io::Result<libc::sched_attr> {
    let bytes = u32::try_from(size_of::<libc::sched_attr>()).expect("some tens of bytes");
    let mut attributes = libc::sched_attr {
        size: bytes,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: it writes no more than so many bytes to the address, which are those of the structure: plain numbers all.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, bytes, 0) };
    ended(result).map(|()| attributes)
}

fn ended(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each check of a wrong password held up whoever shared its core for 3.4 ms.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is about a real thread")]
    fn a_thread_that_gives_way_is_nicer_and_has_short_slices() {
        let before = attributes().unwrap();
        let after = std::thread::spawn(|| {
            give_way(3).unwrap();
            attributes().unwrap()
        });
        let after = after.join().unwrap();
        assert_eq!(after.sched_nice, (before.sched_nice + 3).min(NICEST));
        assert_eq!(after.sched_policy, before.sched_policy);
        // Older kernels tell 0, whatever they were asked for.
        assert!(
            [0, SLICE_NS].contains(&after.sched_runtime),
            "{}",
            after.sched_runtime
        );
        assert_eq!(
            attributes().unwrap().sched_nice,
            before.sched_nice,
            "no other thread is"
        );
    }
}
