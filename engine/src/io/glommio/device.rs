//! What must be known of a device before its files are used: whether it can be polled, and how long a transfer may be.
//!
//! **Polling.** glommio decides once per thread and device, when it first opens a file there: it reads a block of that
//! file on a polled ring, and takes any answer but EOPNOTSUPP for "can be polled". An empty file reads nothing without
//! asking the device, so it teaches "yes", and on a device that cannot poll every later transfer of that thread then
//! fails; a write-only file fails with EBADF and teaches "no" for ever. So a file that does hold a block, opened for
//! reading, is put before it first.
//!
//! **Length.** A polled transfer that the block layer has to split was seen to hang. It splits what exceeds the
//! device's `max_sectors_kb`, and what needs more than `max_segments` pieces of memory, at worst one for each page.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use glommio::io::OpenOptions;

use super::in_flight::Busy;
use super::{blocking, os_error};
use crate::types::PAGE_BYTES;

/// The longest single transfer on any device. A kernel I/O request holds 256 pieces of memory, so 1 MiB of scattered
/// pages is split whatever the device says; half of that is safe, streams at the device's full speed with a few in
/// flight, and does not keep a foreground read waiting behind it for long.
pub(super) const MAX_PART_BYTES: usize = 512 * 1024;

/// The longest single transfer on a device that does not say: one that every NVMe and virtio device takes.
const DEFAULT_PART_BYTES: usize = 128 * 1024;

/// The name of the probe on filesystems that have no unnamed files.
const PROBE_NAME: &str = ".corelane-probe";

/// The device number of the filesystem under `path`.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on the blocking thread, behind the seam"
)]
pub(super) fn device_of(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

/// A file in `dir` without a name, opened for reading and writing with `flags` besides. It is gone when it is closed.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on the blocking thread or before any executor"
)]
pub(in crate::io) fn unnamed_file(dir: &Path, flags: i32) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let unnamed = options.clone().custom_flags(libc::O_TMPFILE | flags).open(dir);
    match unnamed {
        // EISDIR where the kernel, and EOPNOTSUPP where the filesystem, does not know O_TMPFILE.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EOPNOTSUPP)) => {
            let path = dir.join(PROBE_NAME);
            let file = options.create(true).custom_flags(flags).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        other => other,
    }
}

/// Lets glommio open a file on the device of `dir` that holds a block, which is all that it takes.
pub(super) async fn probe_polling(dir: &Path, busy: Busy) -> io::Result<()> {
    let dir = dir.to_owned();
    let file = blocking::blocking(busy, move || {
        let mut file = unnamed_file(&dir, 0)?;
        file.write_all(&[0; PAGE_BYTES])?;
        // The block must have its place on the device, else there is nothing to poll for.
        file.sync_all()?;
        Ok(file)
    })
    .await?;
    // By process id and not by "self": the ring may resolve the path on a kernel thread.
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let probe = OpenOptions::new()
        .read(true)
        .dma_open(&path)
        .await
        .map_err(os_error)?;
    let close = probe.close().await.map_err(os_error);
    drop(file);
    close
}

/// The longest single transfer to or from this device, in bytes: whole pages, at least one.
pub(super) fn part_bytes(major: u32, minor: u32) -> usize {
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has no queue of its own; its parent directory is the whole device.
    let limits = |queue: &str| {
        Some((
            limit(&device, queue, "max_sectors_kb")?,
            limit(&device, queue, "max_segments")?,
        ))
    };
    part_bytes_of(limits("queue").or_else(|| limits("../queue")))
}

#[expect(clippy::disallowed_methods, reason = "sysfs never waits for a device")]
fn limit(device: &Path, queue: &str, name: &str) -> Option<usize> {
    let text = std::fs::read(device.join(queue).join(name)).ok()?;
    str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// The same from the device's `max_sectors_kb` and `max_segments`.
fn part_bytes_of(limits: Option<(usize, usize)>) -> usize {
    let Some((max_sectors_kb, max_segments)) = limits else {
        return DEFAULT_PART_BYTES;
    };
    let by_length = max_sectors_kb.saturating_mul(1024);
    let by_pieces = max_segments.saturating_mul(PAGE_BYTES);
    let bytes = by_length.min(by_pieces).min(MAX_PART_BYTES);
    (bytes - bytes % PAGE_BYTES).max(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_to_the_least_of_the_limits_in_whole_pages() {
        assert_eq!(part_bytes_of(None), DEFAULT_PART_BYTES);
        assert_eq!(
            part_bytes_of(Some((4096, 254))),
            MAX_PART_BYTES,
            "virtio: ours is the least"
        );
        assert_eq!(
            part_bytes_of(Some((128, 254))),
            128 * 1024,
            "a device with a short transfer"
        );
        assert_eq!(
            part_bytes_of(Some((1280, 33))),
            33 * PAGE_BYTES,
            "a device with few pieces"
        );
        assert_eq!(part_bytes_of(Some((127, 254))), 31 * PAGE_BYTES, "whole pages");
        assert_eq!(part_bytes_of(Some((0, 0))), PAGE_BYTES, "never nothing");
    }
}
