//! Names, directories, space and the lock, as plain blocking calls: what a ring has no good operation for.
//!
//! Each runtime carries them to a thread of its own for such calls, and their results back.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::DirEntry;

#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn create_dir(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn list_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => {
                let is_dir = metadata.is_dir();
                let bytes = if is_dir { 0 } else { metadata.len() };
                entries.push(DirEntry { name, is_dir, bytes });
            }
            // Removed since its name was read: it is not in the directory any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort();
    Ok(entries)
}

/// The length of what `path` leads to.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn bytes(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

/// What an unprivileged writer may still take: `f_bavail`, which leaves out the blocks reserved for root.
pub(in crate::io) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Keeps other openers of a lock file out. Released when it is dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct FileLock {
    /// The lock belongs to this open file.
    _file: std::fs::File,
}

/// Longest process id read from a lock file: ten digits are `u32::MAX`.
const PID_DIGITS: u64 = 10;

/// Takes the lock by `flock`, which tells apart two openers in one process as well as in two.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread, behind the seam"
)]
pub(in crate::io) fn lock(path: &Path) -> io::Result<FileLock> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Whatever cannot be read or understood leaves the holder unknown.
            let _unread = Read::take(&mut file, PID_DIGITS)
                .read_to_string(&mut pid)
                .is_err();
            let message = format!(
                "{} is locked by {}",
                path.display(),
                holder(&pid, std::process::id())
            );
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(error),
    }
    // For the one who is kept out to name us; the lock itself does not depend on it, and a full device must not keep a
    // database from being read.
    let _unnamed = write_pid(&mut file).is_err();
    Ok(FileLock { _file: file })
}

fn write_pid(file: &mut std::fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// Who holds a lock, by what stands in its file.
fn holder(written: &str, own_pid: u32) -> String {
    match written.trim().parse::<u32>() {
        Ok(pid) if pid == own_pid => "this process".to_owned(),
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock was refused where its holder's number could not be written, so that a database on a full device could not
    /// even be read.
    #[test]
    fn r14_a_lock_is_taken_on_a_device_that_takes_no_bytes() {
        assert!(lock(Path::new("/dev/full")).is_ok());
    }

    #[test]
    fn r12_the_holder_of_a_lock_is_named_as_far_as_it_is_known() {
        assert_eq!(holder("42\n", 7), "process 42");
        assert_eq!(holder("7", 7), "this process");
        assert_eq!(holder("", 7), "another process");
        assert_eq!(holder("-1", 7), "another process");
    }
}
