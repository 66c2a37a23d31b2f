//! What the device under a directory did, by `/proc/diskstats` (Linux, Documentation/admin-guide/iostats.rst), whoever
//! asked for it: anyone else's work on the device counts too.
//!
//! A filesystem names its device by number (`st_dev`). That may be a partition or a mapped device; the kernel counts for
//! those as well, so the line with that very number is taken. Filesystems that are on no single block device (btrfs,
//! overlay, tmpfs, network) have a number of their own that no line has: then there is no figure, and it is said why.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::BenchError;

/// Fields of diskstats count sectors of this size, whatever the device's.
const SECTOR_BYTES: u64 = 512;

/// A block device, by number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    major: u32,
    minor: u32,
    name: String,
}

/// What a device had done at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Reads that it completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes that it completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Milliseconds in which it had something to do.
    pub busy_ms: u64,
}

impl Disk {
    /// The device under a directory.
    ///
    /// # Errors
    /// Naming the directory: it cannot be looked at, or its filesystem is on no single block device.
    pub fn under(dir: &Path) -> Result<Self, BenchError> {
        let number = std::fs::metadata(dir)
            .map_err(|e| BenchError::file("looking for the device under", dir, e))?
            .dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let found = diskstats(&table()?, major, minor);
        let Some((name, _)) = found else {
            let words = format!("its filesystem ({major}:{minor}) is on no single block device");
            return Err(BenchError::file("looking for the device under", dir, words));
        };
        Ok(Self { major, minor, name })
    }

    /// Its name, such as `nvme0n1p2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has done so far.
    ///
    /// # Errors
    /// `/proc/diskstats` cannot be read, or the device is gone.
    pub fn usage(&self) -> Result<DiskUsage, BenchError> {
        let found = diskstats(&table()?, self.major, self.minor);
        found
            .map(|(_, usage)| usage)
            .ok_or_else(|| BenchError::file("finding the device", Path::new(&self.name), "it is gone"))
    }
}

impl DiskUsage {
    /// What was done since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            reads: self.reads.wrapping_sub(before.reads),
            read_bytes: self.read_bytes.wrapping_sub(before.read_bytes),
            writes: self.writes.wrapping_sub(before.writes),
            written_bytes: self.written_bytes.wrapping_sub(before.written_bytes),
            busy_ms: self.busy_ms.wrapping_sub(before.busy_ms),
        }
    }

    /// The share of so many seconds in which it had something to do, 0 to 1: of what [`DiskUsage::since`] gave. A device
    /// that works on many things at once can be at 1 and still take more.
    pub fn utilisation(&self, seconds: f64) -> f64 {
        (self.busy_ms as f64 / 1000.0 / seconds).clamp(0.0, 1.0)
    }
}

fn table() -> Result<String, BenchError> {
    let path = Path::new("/proc/diskstats");
    std::fs::read_to_string(path).map_err(|e| BenchError::file("reading", path, e))
}

/// The name and counts of a device: fields 3, 4, 6, 8, 10 and 13, counted from 1.
fn diskstats(table: &str, major: u32, minor: u32) -> Option<(String, DiskUsage)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        if (number(0)?, number(1)?) != (u64::from(major), u64::from(minor)) {
            return None;
        }
        let usage = DiskUsage {
            reads: number(3)?,
            read_bytes: number(5)?.wrapping_mul(SECTOR_BYTES),
            writes: number(7)?,
            written_bytes: number(9)?.wrapping_mul(SECTOR_BYTES),
            busy_ms: number(12)?,
        };
        Some(((*fields.get(2)?).to_owned(), usage))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   7       0 loop0 2211 0 63926 176 16861 2772 18141838 27246 0 10872 35307\n \
        259       1 nvme0n1p1 10 1 80 4 20 2 160 5 0 700 9 1 0 8 1 2 3\n\
        254       0 dm-0 1 2 3\n";

    #[test]
    fn a_partitions_own_line_is_taken_and_sectors_are_512_bytes() {
        let (name, usage) = diskstats(TABLE, 259, 1).unwrap();
        assert_eq!(name, "nvme0n1p1");
        let expected = DiskUsage {
            reads: 10,
            read_bytes: 80 * 512,
            writes: 20,
            written_bytes: 160 * 512,
            busy_ms: 700,
        };
        assert_eq!(usage, expected);
        assert!(
            (usage
                .since(&DiskUsage {
                    busy_ms: 200,
                    ..usage
                })
                .utilisation(2.0)
                - 0.25)
                .abs()
                < 1e-9
        );
        assert_eq!(diskstats(TABLE, 259, 2), None);
        assert_eq!(
            diskstats(TABLE, 254, 0),
            None,
            "a line of another shape is no figure"
        );
    }

    #[test]
    fn what_is_written_here_is_counted_by_the_device_under_it() {
        let dir = crate::machine::test_dir();
        let disk = match Disk::under(dir.path()) {
            Ok(disk) => disk,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let before = disk.usage().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        std::fs::File::open(&path).unwrap().sync_all().unwrap();
        let did = disk.usage().unwrap().since(&before);
        assert!(did.writes > 0 && did.written_bytes >= 1 << 20, "{did:?}");
        assert!(!disk.name().is_empty());
    }

    #[test]
    fn a_directory_on_no_device_is_named() {
        let error = Disk::under(Path::new("/proc")).unwrap_err().to_string();
        assert!(
            error.contains("/proc") && error.contains("no single block device"),
            "{error}"
        );
    }
}
