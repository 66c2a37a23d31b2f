//! What the run stands on: machine, filesystem, commit, and what the kernel counts for this process.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where and when a run was made.
#[derive(Debug, Clone)]
pub struct Environment {
    /// UTC, `YYYY-MM-DD HH:MM`.
    pub date: String,
    /// Processor and number of cores.
    pub processor: String,
    /// Kernel release.
    pub kernel: String,
    /// Type and device of the filesystem that holds the databases.
    pub filesystem: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Load averages when the run began: another program's load spoils figures.
    pub load: String,
    /// Commit of the checkout that the bench was built in, with `+` where files differ from it.
    pub commit: String,
    /// The command line.
    pub command: String,
}

impl Environment {
    /// Of this process, for databases in `dir`.
    pub fn here(dir: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpuinfo = text("/proc/cpuinfo");
        let model = after(&cpuinfo, "model name").unwrap_or("unknown processor");
        let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mut command = vec!["corelane-bench".to_owned()];
        command.extend(std::env::args().skip(1));
        Self {
            date: utc(since_epoch.as_secs()),
            processor: format!("{model}, {cores} cores"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            filesystem: filesystem_of(&text("/proc/self/mounts"), &real),
            memory_mib: number_after(&text("/proc/meminfo"), "MemTotal") / 1024,
            load: text("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            commit: commit(),
            command: command.join(" "),
        }
    }
}

/// What the text after `name` and a colon is, on the first such line.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn number_after(text: &str, name: &str) -> u64 {
    let number = after(text, name).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Type and device of the mount with the longest path above `dir`; of two at one path the later covers the earlier.
fn filesystem_of(mounts: &str, dir: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(point)
            .then(|| (point.len(), format!("{kind} on {device}")))
    });
    mounts
        .max_by_key(|(depth, _)| *depth)
        .map_or_else(|| "unknown".to_owned(), |(_, words)| words)
}

/// The day of a count of days since the epoch (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn utc(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let run = std::process::Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()?;
        run.status
            .success()
            .then(|| String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if clean { head } else { format!("{head}+") }
}

/// What the kernel has counted for this process so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time of all threads, to 10 ms.
    pub cpu: Duration,
    /// Bytes sent to the device, also those that the page cache still holds.
    pub written_bytes: u64,
    /// The most memory resident at once since [`reset_peak`], in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// Now.
    pub fn now() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/self/stat");
        // The name in parentheses may hold anything; user and system time are fields 14 and 15, counted from 1.
        let fields = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Self {
            cpu: Duration::from_millis(ticks * 10),
            written_bytes: number_after(&text("/proc/self/io"), "write_bytes"),
            peak_bytes: number_after(&text("/proc/self/status"), "VmHWM") * 1024,
        }
    }
}

/// Starts the peak of resident memory anew, where the kernel allows it (proc(5), `clear_refs`, value 5).
pub fn reset_peak() {
    // Where it does not, the peak of the whole process is reported: too high, never too low.
    let _kept = std::fs::write("/proc/self/clear_refs", "5");
}

/// Bytes that the files under `dir` occupy.
///
/// # Errors
/// The operating system's.
pub fn occupied_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            occupied_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(total)
}

/// A directory for one test, beside the test's program: on a real filesystem, where `/tmp` may be in memory.
#[cfg(test)]
pub fn test_dir() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(utc(0), "1970-01-01 00:00");
        assert_eq!(utc(951_782_400 - 60), "2000-02-28 23:59");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00");
        assert_eq!(utc(1_795_245_840), "2026-11-21 07:24");
    }

    #[test]
    fn the_filesystem_is_that_of_the_nearest_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /data xfs rw 0 0\n";
        assert_eq!(filesystem_of(mounts, Path::new("/data/x")), "xfs on /dev/b");
        assert_eq!(filesystem_of(mounts, Path::new("/database")), "ext4 on /dev/a");
        assert_eq!(filesystem_of("", Path::new("/")), "unknown");
    }

    #[test]
    fn the_kernels_counts_are_read() {
        let before = Usage::now();
        assert!(before.peak_bytes > 1 << 20);
        let mut word = 0_u64;
        while Usage::now().cpu <= before.cpu {
            word = word.wrapping_add(crate::workload::mix(word));
        }
    }

    #[test]
    fn occupied_bytes_counts_every_file_below() {
        let dir = crate::machine::test_dir();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/file"), vec![1; 10_000]).unwrap();
        let bytes = occupied_bytes(dir.path()).unwrap();
        assert!((10_000..100_000).contains(&bytes), "{bytes}");
    }
}
