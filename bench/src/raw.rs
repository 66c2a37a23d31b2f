//! The device itself: a plain io_uring loop over preconditioned files, as close to it as a program can get.
//!
//! - [`overwrite`]: `O_DIRECT|O_DSYNC` writes, depth 1, into a file that was zero-filled and synced before, one file and
//!   one pinned thread a shard. The sizes are those that the engine's groups had, so this is what the engine would reach
//!   if it did nothing but write its WAL.
//! - [`random_reads`]: 4 KiB `O_DIRECT` reads at a kept depth over a file of random bytes as large as the data.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::workload::{Phase, Tally, mix};

/// The unit of direct I/O, as the kernel is told it.
const PAGE: u32 = 4096;
/// The same, as lengths are counted here.
const PAGE_BYTES: usize = PAGE as usize;
/// Size of a file that is overwritten: as large as a WAL segment.
pub const LOG_BYTES: u64 = 64 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// How a preconditioned file is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Zeros, as a new WAL segment.
    Zeros,
    /// Random bytes.
    Random,
}

/// Makes a file of at least `bytes`, written and synced.
///
/// # Errors
/// The operating system's.
pub fn precondition(path: &Path, bytes: u64, fill: Fill) -> Result<(), String> {
    let make = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        let mut chunk = vec![0_u8; 1 << 20];
        for number in 0..bytes.div_ceil(1 << 20) {
            if fill == Fill::Random {
                for (at, word) in (number << 17..).zip(chunk.chunks_exact_mut(8)) {
                    word.copy_from_slice(&mix(at).to_le_bytes());
                }
            }
            file.write_all(&chunk)?;
        }
        file.sync_all()
    };
    make().map_err(|e| format!("preparing {}: {e}", path.display()))
}

/// Pages of each of a run of writes whose mean size is `bytes`, a page at least: sizes alternate around the mean.
fn write_pages(mean_bytes: f64, number: u64) -> usize {
    let mean = (mean_bytes / PAGE_BYTES as f64).max(1.0);
    let upto = |n: u64| (n as f64 * mean).floor();
    // Rounding could only ever make the difference a page more or less; it stays near the mean.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a group has far fewer pages than a usize counts"
    )]
    let pages = (upto(number + 1) - upto(number)) as usize;
    pages.max(1)
}

/// Overwrites one file a thread, thread `n` pinned on core `n`, one write under way in each, for `limit`.
///
/// # Errors
/// The operating system's, or a write that was cut short.
pub fn overwrite(files: &[PathBuf], mean_bytes: f64, limit: Duration) -> Result<Phase, String> {
    on_cores(files.len(), |core| overwrite_one(&files[core], mean_bytes, limit))
}

fn overwrite_one(path: &Path, mean_bytes: f64, limit: Duration) -> std::io::Result<Tally> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(path)?;
    let most = write_pages(mean_bytes, 0).max(write_pages(mean_bytes, 1)) + 1;
    let buffer: Vec<Page> = (0..most)
        .map(|page| {
            Page(std::array::from_fn(|at| {
                (mix((page * PAGE_BYTES + at) as u64) & 0xff) as u8
            }))
        })
        .collect();
    let mut ring = ring(1)?;
    let mut tally = Tally::new();
    let (start, mut position, mut number) = (Instant::now(), 0, 0);
    let mut last = start;
    while last - start < limit {
        let bytes = write_pages(mean_bytes, number).min(most) * PAGE_BYTES;
        if position + bytes as u64 > LOG_BYTES {
            position = 0;
        }
        let length = u32::try_from(bytes).expect("a group is far below 4 GiB");
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), buffer.as_ptr().cast(), length);
        push(&mut ring, &entry.offset(position).build())?;
        ring.submit_and_wait(1)?;
        let completion = ring.completion().next().expect("one was waited for");
        check(completion.result(), bytes)?;
        let now = Instant::now();
        tally.record(now - last);
        (last, position, number) = (now, position + bytes as u64, number + 1);
    }
    Ok(tally)
}

/// Random page reads over one file from `threads` pinned threads, `depth` under way in all of them together, for `limit`.
///
/// # Errors
/// The operating system's, or a read that was cut short.
pub fn random_reads(path: &Path, threads: usize, depth: usize, limit: Duration) -> Result<Phase, String> {
    let share = |core: usize| depth / threads + usize::from(core < depth % threads);
    on_cores(threads, |core| {
        random_reads_one(path, share(core), limit, core as u64)
    })
}

fn random_reads_one(path: &Path, depth: usize, limit: Duration, seed: u64) -> std::io::Result<Tally> {
    if depth == 0 {
        return Ok(Tally::new());
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let pages = file.metadata()?.len() / PAGE_BYTES as u64;
    let mut buffers = vec![Page([0; PAGE_BYTES]); depth];
    let mut ring = ring(u32::try_from(depth).expect("a depth is small"))?;
    let mut begun = vec![Instant::now(); depth];
    let mut random = mix(seed) >> 1;
    let mut submit = |ring: &mut IoUring, slot: usize, begun: &mut [Instant]| {
        random += 1;
        let position = mix(random) % pages * PAGE_BYTES as u64;
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), buffers[slot].0.as_mut_ptr(), PAGE);
        begun[slot] = Instant::now();
        push(ring, &entry.offset(position).build().user_data(slot as u64))
    };
    for slot in 0..depth {
        submit(&mut ring, slot, &mut begun)?;
    }
    let mut tally = Tally::new();
    let (start, mut under_way, mut done) = (Instant::now(), depth, Vec::new());
    while under_way > 0 {
        ring.submit_and_wait(1)?;
        done.extend(
            ring.completion()
                .map(|completion| (completion.user_data(), completion.result())),
        );
        for (slot, result) in done.drain(..) {
            check(result, PAGE_BYTES)?;
            let slot = usize::try_from(slot).expect("it was a slot when it was submitted");
            let now = Instant::now();
            under_way -= 1;
            // What was still under way at the end is waited for, and not counted.
            if now - start < limit {
                tally.record(now - begun[slot]);
                submit(&mut ring, slot, &mut begun)?;
                under_way += 1;
            }
        }
    }
    Ok(tally)
}

fn ring(depth: u32) -> std::io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth)
}

#[expect(unsafe_code, reason = "the kernel is given raw buffers")]
fn push(ring: &mut IoUring, entry: &squeue::Entry) -> std::io::Result<()> {
    // SAFETY: both callers' buffers and file outlive the ring's work: every entry's completion is awaited before they
    // go out of scope, but for an early return on an error, after which the process ends without touching them again.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|_| std::io::Error::other("the submission queue is full"))
}

fn check(result: i32, wanted: usize) -> std::io::Result<()> {
    let got = usize::try_from(result).map_err(|_| std::io::Error::from_raw_os_error(-result))?;
    if got == wanted {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "{got} bytes were transferred, {wanted} were asked for"
    )))
}

/// Runs `body` on pinned threads and adds up what they did.
fn on_cores(threads: usize, body: impl Fn(usize) -> std::io::Result<Tally> + Sync) -> Result<Phase, String> {
    let cores = core_affinity::get_core_ids().ok_or("the machine's cores are not known")?;
    let start = Instant::now();
    let tallies: Vec<std::io::Result<Tally>> = std::thread::scope(|scope| {
        let body = &body;
        let threads: Vec<_> = cores
            .iter()
            .take(threads)
            .enumerate()
            .map(|(number, &core)| {
                scope.spawn(move || {
                    core_affinity::set_for_current(core);
                    body(number)
                })
            })
            .collect();
        let panicked = || Err(std::io::Error::other("a thread panicked"));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| panicked()))
            .collect()
    });
    let elapsed = start.elapsed();
    let mut tally = Tally::new();
    for part in tallies {
        tally.merge(&part.map_err(|e| format!("the raw device loop: {e}"))?);
    }
    Ok(Phase { tally, elapsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_sizes_keep_to_their_mean() {
        for mean in [1.0, 4096.0, 5000.0, 28_672.0, 30_001.5] {
            let pages: usize = (0..1000).map(|number| write_pages(mean, number)).sum();
            let expected = (mean / 4096.0).max(1.0) * 1000.0;
            assert!((pages as f64 - expected).abs() <= 1.0, "{mean}: {pages}");
        }
    }

    #[test]
    fn the_raw_loop_runs_on_a_real_file() {
        let dir = crate::machine::test_dir();
        let path = dir.path().join("log");
        precondition(&path, LOG_BYTES, Fill::Zeros).unwrap();
        assert_eq!(path.metadata().unwrap().len(), LOG_BYTES);
        let limit = Duration::from_millis(30);
        let writes = overwrite(std::slice::from_ref(&path), 6000.0, limit).unwrap();
        let reads = random_reads(&path, 1, 4, limit).unwrap();
        assert!(writes.tally.ops > 0 && reads.tally.ops > 0);
        assert!(random_reads(&dir.path().join("none"), 1, 1, limit).is_err());
    }
}
