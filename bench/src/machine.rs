//! What the run stands on: machine, filesystem, commit. A figure without it means nothing to a reader.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cost::proc::{after, number_after};
use crate::result::Environment;

impl Environment {
    /// Of this process, for databases in `dir`; `memory_limit` in the words of
    /// [`MemoryLimit::enter_if`](crate::cost::MemoryLimit::enter_if).
    pub fn here(dir: &Path, memory_limit: impl Into<String>) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpuinfo = text("/proc/cpuinfo");
        let model = after(&cpuinfo, "model name").unwrap_or("unknown processor");
        let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mut command = vec!["corelane-bench".to_owned()];
        command.extend(
            std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned()),
        );
        Self {
            date: utc(since_epoch.as_secs()),
            processor: format!("{model}, {cores} cores"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            filesystem: filesystem_of(&text("/proc/self/mounts"), &real),
            memory_mib: number_after(&text("/proc/meminfo"), "MemTotal").unwrap_or(0) / 1024,
            load: text("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            commit: commit(),
            command: command.join(" "),
            memory_limit: memory_limit.into(),
        }
    }
}

/// Type and device of the mount with the longest path above `dir`; of two at one path the later covers the earlier.
fn filesystem_of(mounts: &str, dir: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // proc(5): spaces in mount points are written as octal escapes.
        let point = point.replace("\\040", " ");
        dir.starts_with(&point)
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

/// The checkout's commit; of an installed binary, whose sources are gone, its version.
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
        return concat!("unknown, version ", env!("CARGO_PKG_VERSION")).to_owned();
    };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if clean { head } else { format!("{head}+") }
}

/// A directory for one test, beside the test's program: on a real filesystem, where `/tmp` may be in memory.
#[cfg(test)]
pub(crate) fn test_dir() -> tempfile::TempDir {
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
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /my\\040data xfs rw 0 0\n";
        assert_eq!(filesystem_of(mounts, Path::new("/my data/x")), "xfs on /dev/b");
        assert_eq!(filesystem_of(mounts, Path::new("/my database")), "ext4 on /dev/a");
        assert_eq!(filesystem_of("", Path::new("/")), "unknown");
    }

    #[test]
    fn this_machine_is_told_in_every_field() {
        let dir = test_dir();
        let here = Environment::here(dir.path(), "none");
        assert!(here.memory_mib > 0 && here.processor.contains("cores"));
        for told in [here.kernel, here.filesystem, here.load, here.commit, here.date] {
            assert!(!told.is_empty() && told != "unknown");
        }
        assert_eq!(here.memory_limit, "none");
    }
}
