//! What the kernel counts for a process: this one, or a server that is measured over its socket.

use std::io;
use std::path::PathBuf;

use crate::cost::clock;
use crate::error::BenchError;

/// What the kernel has counted for a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor seconds, user and system, of all its threads, also those that have ended.
    pub cpu_seconds: f64,
    /// The most memory resident at once since it began or since [`reset_peak`], in bytes.
    pub peak_bytes: u64,
    /// Memory resident now, in bytes.
    pub resident_bytes: u64,
    /// Bytes that it made the device read; `None` where the kernel does not tell.
    pub read_bytes: Option<u64>,
    /// Bytes that it caused to be written to the device, also those that the page cache still holds.
    pub written_bytes: Option<u64>,
}

impl Usage {
    /// Of this process.
    ///
    /// # Panics
    /// Where the kernel has no clock of a process, or `/proc` is not mounted.
    pub fn now() -> Self {
        Self::read(None).expect("Linux counts for a process that runs, and /proc is mounted")
    }

    /// Of another process.
    ///
    /// # Errors
    /// Naming the process: it is not there.
    pub fn of(pid: u32) -> Result<Self, BenchError> {
        Self::read(Some(pid)).map_err(|e| BenchError::file("reading what is counted in", &dir(Some(pid)), e))
    }

    fn read(pid: Option<u32>) -> io::Result<Self> {
        let status = std::fs::read_to_string(dir(pid).join("status"))?;
        // Of another user's process the kernel does not tell it.
        let io = std::fs::read_to_string(dir(pid).join("io")).unwrap_or_default();
        Ok(Self {
            cpu_seconds: clock::process_time(pid)?.as_secs_f64(),
            peak_bytes: number_after(&status, "VmHWM").unwrap_or(0) * 1024,
            resident_bytes: number_after(&status, "VmRSS").unwrap_or(0) * 1024,
            read_bytes: number_after(&io, "read_bytes"),
            written_bytes: number_after(&io, "write_bytes"),
        })
    }

    /// What was counted since `before`; memory is not a count and stays as it is.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            cpu_seconds: (self.cpu_seconds - before.cpu_seconds).max(0.0),
            read_bytes: less(self.read_bytes, before.read_bytes),
            written_bytes: less(self.written_bytes, before.written_bytes),
            ..*self
        }
    }

    /// Both together: the bench and the server that it measures.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            read_bytes: sum(self.read_bytes, other.read_bytes),
            written_bytes: sum(self.written_bytes, other.written_bytes),
        }
    }
}

/// Starts the peak of resident memory anew (proc(5), `clear_refs`, value 5); `None`: of this process. Says whether the
/// kernel did: where it does not, the peak of the whole life is told, which is too high and never too low.
pub fn reset_peak(pid: Option<u32>) -> bool {
    std::fs::write(dir(pid).join("clear_refs"), "5").is_ok()
}

fn dir(pid: Option<u32>) -> PathBuf {
    PathBuf::from("/proc").join(pid.map_or("self".to_owned(), |pid| pid.to_string()))
}

/// What the text after `name` and a colon is, on the first line that begins so.
pub(crate) fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, rest) = line.split_once(':')?;
        (found.trim() == name).then(|| rest.trim())
    })
}

/// The number that stands there.
pub(crate) fn number_after(text: &str, name: &str) -> Option<u64> {
    after(text, name)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let text = "rchar: 1\nread_bytes: 22\nwrite_bytes: 333\ncancelled_write_bytes: 4\nVmHWM:\t  5 kB\n";
        assert_eq!(number_after(text, "write_bytes"), Some(333));
        assert_eq!(number_after(text, "bytes"), None);
        assert_eq!(number_after(text, "VmHWM"), Some(5));
    }

    #[test]
    fn the_kernels_counts_of_this_process_rise_with_what_it_does() {
        let before = Usage::now();
        assert!(before.peak_bytes > 1 << 20 && before.resident_bytes > 1 << 20);
        let dir = crate::machine::test_dir();
        std::fs::write(dir.path().join("file"), vec![1; 3 << 20]).unwrap();
        let used = Usage::now().since(&before);
        assert!(used.cpu_seconds > 0.0);
        assert!(
            used.written_bytes.is_none_or(|bytes| bytes >= 3 << 20),
            "{used:?}"
        );
        let both = used.with(&used);
        assert!((both.cpu_seconds - 2.0 * used.cpu_seconds).abs() < 1e-9);
    }

    #[test]
    fn the_peak_can_be_started_anew_where_the_kernel_allows() {
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with = Usage::now().peak_bytes;
        drop(block);
        if !reset_peak(None) {
            eprintln!("skipped: this kernel does not reset the peak");
            return;
        }
        // Other tests run in this process; none holds 64 MiB for long, and the peak was above all of them.
        assert!(Usage::now().peak_bytes <= with, "{with}");
    }

    #[test]
    fn another_process_is_counted_and_one_that_is_gone_is_named() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let usage = Usage::of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.unwrap().cpu_seconds < 10.0);
        let error = Usage::of(child.id()).unwrap_err().to_string();
        assert!(error.contains(&child.id().to_string()), "{error}");
    }
}
