//! What the admin plane looks up about the process and its machine. These are questions to the kernel about itself, not
//! to the device, and asked by no shard's core: they do not go through the engine's seam.

use std::path::Path;

use corelane::types::PAGE_BYTES;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

/// Numbers of one moment; 0 where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes free for us on the file system of the data.
    pub disk_free_bytes: u64,
    /// Bytes of that file system.
    pub disk_bytes: u64,
    /// Bytes of memory that the process holds.
    pub resident_bytes: u64,
    /// Descriptors that it holds.
    pub open_files: u64,
    /// Descriptors that it may hold.
    pub max_open_files: u64,
    /// Processor time that it has used, in milliseconds.
    pub cpu_ms: u64,
    /// Whether less memory may be locked than the rings' registered buffers need, as it was found at the start.
    pub memlock_falls_short: bool,
}

/// The kernel's ticks in `/proc`: 100 a second on every architecture that Linux still has.
const TICK_MS: u64 = 10;

impl Facts {
    /// Looks, with the data in `data_dir`.
    pub fn gather(data_dir: &Path, memlock_falls_short: bool) -> Self {
        let disk = statvfs(data_dir).ok();
        let files = getrlimit(Resource::Nofile).current;
        Self {
            disk_free_bytes: disk.as_ref().map_or(0, |disk| disk.f_bavail * disk.f_frsize),
            disk_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks * disk.f_frsize),
            resident_bytes: resident_pages().unwrap_or(0) * PAGE_BYTES as u64,
            open_files: open_files(),
            max_open_files: files.unwrap_or(u64::MAX),
            cpu_ms: cpu_ticks().unwrap_or(0) * TICK_MS,
            memlock_falls_short,
        }
    }
}

/// Field 2 of `/proc/self/statm` (proc(5)).
fn resident_pages() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Fields 14 and 15 of `/proc/self/stat`: the name in field 2 may hold spaces, and ends with the last parenthesis.
fn cpu_ticks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's list of our descriptors")]
fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// The clock, in milliseconds since the Unix epoch; 0 before it.
#[expect(
    clippy::disallowed_methods,
    reason = "the admin plane runs on no core, and has no seam to ask"
)]
pub fn wall_clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let facts = Facts::gather(Path::new("."), false);
        assert!(
            facts.disk_bytes > 0 && facts.disk_bytes >= facts.disk_free_bytes,
            "{facts:?}"
        );
        assert!(facts.resident_bytes > 0 && facts.open_files > 0, "{facts:?}");
        assert_eq!(Facts::gather(Path::new("/nowhere"), false).disk_bytes, 0);
    }
}
