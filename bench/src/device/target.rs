//! The preconditioned file under a pattern: random bytes, written whole and synced, past the page cache.
//!
//! A device answers reads of what was never written without looking, and the first write into a fresh extent costs a
//! journal commit on top; so the file is written before anything is measured. What cannot be measured is refused here,
//! before any figure: a filesystem in memory, one without direct I/O, a full or read-only one, a block below the device's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::device::pattern::{Pattern, size};
use crate::device::ring::{Ask, Ring};
use crate::error::{BenchError, Kind};
use crate::workload::rng::Rng;

/// A preconditioned file is a multiple of this, and is written in such pieces.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Pieces under way while it is written.
const PIECES: usize = 4;
/// `f_type` of filesystems in memory (statfs(2)): there is no device under them.
const IN_MEMORY: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// A preconditioned file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
    bytes: u64,
    least_block: u32,
}

impl Target {
    /// Makes the file, at least `bytes` large; one that is there, large enough and not sparse is taken as it is.
    ///
    /// # Errors
    /// Naming the file: the directory is missing, read-only, full or in memory; direct I/O is not possible.
    pub fn make(path: &Path, bytes: u64) -> Result<Self, BenchError> {
        let bytes = bytes.max(1).next_multiple_of(PIECE_BYTES);
        let dir = path.parent().unwrap_or(Path::new("."));
        on_a_device(dir)?;
        if !whole(path, bytes) {
            has_room(dir, bytes)?;
            write(path, bytes).map_err(|e| {
                // Half a file would be taken for a whole one of its size, or fill the disk for nothing.
                let _gone = std::fs::remove_file(path);
                BenchError::file("preparing", path, e)
            })?;
        }
        Self::open(path)
    }

    /// A file that was preconditioned before.
    ///
    /// # Errors
    /// Naming the file: it is missing or too small, or direct I/O is not possible.
    pub fn open(path: &Path) -> Result<Self, BenchError> {
        let failed = |e: io::Error| BenchError::file("opening", path, e);
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes < PIECE_BYTES {
            let words = format!("it has {}, a target has 1 MiB at least", size(bytes));
            return Err(failed(io::Error::other(words)));
        }
        let least_block = least_block(path)
            .map_err(|e| BenchError::file("direct I/O, without which no device is measured, on", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            least_block,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How large it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The smallest block that direct I/O takes here.
    pub fn least_block(&self) -> u32 {
        self.least_block
    }

    /// Whether a pattern can run on it.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, pattern: &Pattern) -> Result<(), BenchError> {
        pattern.check()?;
        if !pattern.block_bytes.is_multiple_of(self.least_block) {
            return Err(BenchError::usage(format!(
                "the pattern `{pattern}`: direct I/O on {} takes blocks in multiples of {} B, the logical block of \
                 filesystem or device",
                self.path.display(),
                self.least_block
            )));
        }
        let least = u64::from(pattern.block_bytes) * u64::from(pattern.depth);
        if self.bytes / u64::from(pattern.threads) < least.max(PIECE_BYTES) {
            return Err(BenchError::usage(format!(
                "the pattern `{pattern}`: {} has {}, too little for it",
                self.path.display(),
                size(self.bytes)
            )));
        }
        Ok(())
    }

    /// Opens it for direct I/O, with more flags of open(2).
    ///
    /// # Errors
    /// The operating system's.
    pub fn direct(&self, write: bool, flags: i32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        options.custom_flags(libc::O_DIRECT | flags).open(&self.path)
    }
}

/// A new file of holes beside a target, removed when this is dropped.
#[derive(Debug)]
pub struct Fresh(PathBuf);

impl Fresh {
    /// Makes it beside `target`, `bytes` long without a written block, as fio lays out a file that it will write.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make(target: &Target, number: u32, bytes: u64, flags: i32) -> io::Result<(Self, File)> {
        let mut name = target.path.as_os_str().to_owned();
        name.push(format!(".fresh-{number}"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let fresh = Self(PathBuf::from(name));
        let file = options.custom_flags(libc::O_DIRECT | flags).open(&fresh.0)?;
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok((fresh, file))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // A file that stays is the user's to remove; the figures do not depend on it.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Refuses a directory that is missing or has no device under it.
///
/// # Errors
/// Naming the directory.
pub fn on_a_device(dir: &Path) -> Result<(), BenchError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let kind = rustix::fs::statfs(dir)
        .map_err(|e| BenchError::file("looking at", dir, io::Error::from(e)))?
        .f_type;
    match IN_MEMORY.iter().find(|(number, _)| *number == kind) {
        Some((_, name)) => Err(BenchError::new(
            Kind::Machine,
            format!(
                "{} is in memory ({name}): there is no device to measure",
                dir.display()
            ),
        )),
        None => Ok(()),
    }
}

/// Refuses a directory without this much free space.
///
/// # Errors
/// Naming the directory, what is needed and what is free.
pub fn has_room(dir: &Path, bytes: u64) -> Result<(), BenchError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let stat =
        rustix::fs::statvfs(dir).map_err(|e| BenchError::file("looking at", dir, io::Error::from(e)))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < bytes {
        return Err(BenchError::new(
            Kind::Machine,
            format!(
                "{} has {} free, {} are needed",
                dir.display(),
                size(free),
                size(bytes)
            ),
        ));
    }
    Ok(())
}

fn whole(path: &Path, bytes: u64) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.len() >= bytes && found.blocks() * 512 >= found.len())
}

fn write(path: &Path, bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.custom_flags(libc::O_DIRECT).open(path)?;
    let piece = usize::try_from(PIECE_BYTES).map_err(io::Error::other)?;
    let mut ring = Ring::new(file, PIECES, piece, bytes)?;
    let mut random = Rng::new(!bytes);
    let (mut idle, mut offset): (Vec<usize>, u64) = ((0..PIECES).collect(), 0);
    while offset < bytes || ring.under_way() > 0 {
        while offset < bytes
            && let Some(slot) = idle.pop()
        {
            ring.refill(slot, &mut random);
            let bytes = u32::try_from(piece).map_err(io::Error::other)?;
            ring.queue(slot, Ask::Write { offset, bytes })?;
            offset += PIECE_BYTES;
        }
        ring.wait(&mut idle)?;
    }
    ring.file().sync_all()?;
    File::open(
        path.parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )?
    .sync_all()
}

/// The smallest block of direct I/O, found by trying; statx(2) tells where direct I/O is only pretended.
fn least_block(path: &Path) -> io::Result<u32> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN)?;
    let told = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    if told && stat.stx_dio_offset_align == 0 {
        return Err(io::Error::other("this filesystem does not do it for this file"));
    }
    for block in [512, 1024, 2048] {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let mut ring = Ring::new(file, 1, 4096, 0)?;
        let offset = u64::from(block);
        ring.queue(0, Ask::Read { offset, bytes: block })?;
        match ring.wait(&mut Vec::new()) {
            Ok(()) => return Ok(block),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_whole_with_random_bytes_and_made_once() {
        let dir = crate::machine::test_dir();
        let path = dir.path().join("target");
        let target = Target::make(&path, (2 << 20) - 5).unwrap();
        assert_eq!(target.bytes(), 2 << 20);
        assert!(whole(&path, 2 << 20));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 << 20);
        let mut blocks: Vec<&[u8]> = bytes.chunks(512).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), (2 << 20) / 512, "no two blocks are equal");
        let made = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(Target::make(&path, 2 << 20).unwrap(), target);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), made);
    }

    #[test]
    fn a_sparse_file_is_not_taken_for_a_written_one() {
        let dir = crate::machine::test_dir();
        let path = dir.path().join("target");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        Target::make(&path, 1 << 20).unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn blocks_below_the_logical_block_are_refused_in_words() {
        let target = Target {
            path: PathBuf::from("/d/target"),
            bytes: 64 << 20,
            least_block: 4096,
        };
        let error = target
            .allows(&Pattern::random_reads(512, 1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/d/target takes blocks in multiples of 4096 B"),
            "{error}"
        );
        target.allows(&Pattern::random_reads(8192, 1)).unwrap();
        let error = target
            .allows(&Pattern::random_reads(1 << 20, 128))
            .unwrap_err()
            .to_string();
        assert!(error.contains("64 MiB, too little"), "{error}");
    }

    #[test]
    fn what_has_no_device_or_no_room_is_refused_before_any_figure() {
        let error = Target::make(Path::new("/dev/shm/corelane-target"), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("in memory (tmpfs)"), "{error}");
        let dir = crate::machine::test_dir();
        let error = Target::make(&dir.path().join("target"), 1 << 60)
            .unwrap_err()
            .to_string();
        assert!(error.contains("are needed"), "{error}");
        assert!(!dir.path().join("target").exists());
        let error = Target::make(&dir.path().join("none/target"), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("none: No such file"), "{error}");
        std::fs::write(dir.path().join("small"), "x").unwrap();
        let error = Target::open(&dir.path().join("small")).unwrap_err().to_string();
        assert!(error.contains("1 MiB at least"), "{error}");
    }

    #[test]
    fn a_fresh_file_is_long_without_a_block_and_goes() {
        let dir = crate::machine::test_dir();
        let target = Target::make(&dir.path().join("target"), 1 << 20).unwrap();
        let (fresh, file) = Fresh::make(&target, 0, 8 << 20, 0).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!(found.len(), 8 << 20);
        assert!(found.blocks() * 512 < 1 << 20);
        let path = fresh.0.clone();
        drop(fresh);
        assert!(!path.exists());
    }
}
