//! Start-up checks: what the machine must offer, looked at before the first file is made.
//!
//! Each check says, when it fails, what was found, what that means for the database, and the command that mends it.
//! Looking and judging are apart: the `judge_*` functions are pure and know nothing of this machine.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use rustix::process::Resource;

use super::cores::{available_cores, raise_memlock_limit};
use super::glommio::unnamed_file;
use crate::types::PAGE_BYTES;

/// The oldest kernel whose io_uring has every operation that the runtime uses.
const OLDEST_KERNEL: (u32, u32) = (5, 8);

/// Locked memory for the rings of one executor, in bytes.
const MEMLOCK_PER_CORE: u64 = 512 * 1024;

/// Descriptors for tables, segments and connections, below which a database of ordinary size may run out of them.
const FEWEST_FILES: u64 = 4096;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it will do.
    pub ok: bool,
    /// What was found.
    pub cause: String,
    /// What that means; empty if it will do.
    pub effect: &'static str,
    /// The command that mends it; empty if it will do.
    pub remedy: String,
}

impl Check {
    fn passed(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            cause: found.into(),
            effect: "",
            remedy: String::new(),
        }
    }

    fn failed(
        name: &'static str,
        cause: impl Into<String>,
        effect: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            ok: false,
            cause: cause.into(),
            effect,
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ok {
            return write!(f, "{}: {}", self.name, self.cause);
        }
        write!(
            f,
            "{}: {}; {}; to mend it: {}",
            self.name, self.cause, self.effect, self.remedy
        )
    }
}

/// Looks at this machine, for a database in `data_dir` on `cores` cores. `data_dir` may not be there yet; then its
/// nearest ancestor is looked at. It raises the soft limit on locked memory to the hard one, and leaves no file behind.
/// It blocks, so it is for before the executors start.
pub fn check_machine(data_dir: &Path, cores: usize) -> Vec<Check> {
    let uname = rustix::system::uname();
    let disabled = read_text(Path::new("/proc/sys/kernel/io_uring_disabled"));
    let ring = io_uring::IoUring::new(8).map(drop);
    let files = rustix::process::getrlimit(Resource::Nofile);
    let dir = data_dir
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("."));
    vec![
        judge_kernel(&uname.release().to_string_lossy()),
        judge_io_uring(&ring, disabled.as_deref().map(str::trim)),
        judge_memlock(raise_memlock_limit(), cores),
        judge_cores(available_cores().len(), cores),
        judge_direct_io(dir, &write_directly(dir)),
        judge_files(files.current, files.maximum),
    ]
}

#[expect(
    clippy::disallowed_methods,
    reason = "runs before any executor, and procfs never waits for a device"
)]
fn read_text(path: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(path).ok()?).ok()
}

/// Writes one page to the device of `dir` past the page cache.
fn write_directly(dir: &Path) -> io::Result<()> {
    let mut file = unnamed_file(dir, libc::O_DIRECT)?;
    let memory = vec![0; 2 * PAGE_BYTES];
    let from = memory.as_ptr().align_offset(PAGE_BYTES);
    file.write_all(&memory[from..from + PAGE_BYTES])
}

fn judge_kernel(release: &str) -> Check {
    let name = "kernel";
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => {
            Check::passed(name, format!("Linux {release}"))
        }
        _ => Check::failed(
            name,
            format!("this is Linux {release}, and 5.8 is the oldest that will do"),
            "the runtime cannot start",
            "install a newer kernel, such as your distribution's: apt-get install linux-image-generic",
        ),
    }
}

fn judge_io_uring(ring: &io::Result<()>, disabled: Option<&str>) -> Check {
    let name = "io_uring";
    let effect = "the runtime cannot start";
    let Err(error) = ring else {
        return Check::passed(name, "a ring can be made");
    };
    let refused = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    match disabled {
        Some("1" | "2") if refused => {
            let value = disabled.unwrap_or_default();
            let cause = format!("kernel.io_uring_disabled is {value}: {error}");
            Check::failed(name, cause, effect, "sysctl -w kernel.io_uring_disabled=0")
        }
        _ if refused => Check::failed(
            name,
            format!("a security policy refuses it: {error}"),
            effect,
            "in a container: docker run --security-opt seccomp=unconfined",
        ),
        _ if error.raw_os_error() == Some(libc::ENOMEM) => Check::failed(
            name,
            format!("there is not enough memory that may be locked: {error}"),
            effect,
            "ulimit -l unlimited",
        ),
        _ => Check::failed(
            name,
            format!("a ring cannot be made: {error}"),
            effect,
            "use a kernel built with CONFIG_IO_URING=y: grep IO_URING /boot/config-$(uname -r)",
        ),
    }
}

/// `limit` in bytes, `None` for no limit.
fn judge_memlock(limit: Option<u64>, cores: usize) -> Check {
    let name = "locked memory";
    let needed = MEMLOCK_PER_CORE.saturating_mul(cores as u64);
    match limit {
        None => Check::passed(name, "unlimited"),
        Some(limit) if limit >= needed => Check::passed(name, format!("{} KiB", limit / 1024)),
        Some(limit) => Check::failed(
            name,
            format!(
                "the limit is {} KiB, and {cores} cores need {} KiB",
                limit / 1024,
                needed / 1024
            ),
            "executors may not start, or run without registered buffers",
            "ulimit -l unlimited (or LimitMEMLOCK=infinity in the systemd unit)",
        ),
    }
}

fn judge_cores(available: usize, wanted: usize) -> Check {
    let name = "cores";
    if available >= wanted {
        return Check::passed(name, format!("{available} available"));
    }
    Check::failed(
        name,
        format!("{wanted} are wanted and this process may use {available}"),
        "executors share cores and wait for each other",
        format!(
            "ask for {available} cores, or widen the affinity: taskset -c 0-{} ...",
            wanted.saturating_sub(1)
        ),
    )
}

fn judge_direct_io(dir: &Path, written: &io::Result<()>) -> Check {
    let name = "direct I/O";
    let shown = dir.display();
    match written {
        Ok(()) => Check::passed(name, format!("{shown} takes it")),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Check::failed(
            name,
            format!("the filesystem of {shown} does not do O_DIRECT: {error}"),
            "no file of the database can be opened",
            "put the data on ext4 or XFS; this tells what is there: findmnt -T ".to_owned()
                + &shown.to_string(),
        ),
        Err(error) => Check::failed(
            name,
            format!("a page could not be written in {shown}: {error}"),
            "the database cannot be written",
            format!("look at its owner, mode and space: ls -ld {shown}; df {shown}"),
        ),
    }
}

/// Limits in descriptors, `None` for no limit.
fn judge_files(soft: Option<u64>, hard: Option<u64>) -> Check {
    let name = "open files";
    match soft {
        None => Check::passed(name, "unlimited"),
        Some(soft) if soft >= FEWEST_FILES => Check::passed(name, format!("{soft}")),
        Some(soft) => {
            let remedy = if hard.is_none_or(|hard| hard >= FEWEST_FILES) {
                format!("ulimit -n {FEWEST_FILES}")
            } else {
                format!(
                    "as root: prlimit --pid $$ --nofile={FEWEST_FILES} (or LimitNOFILE= in the systemd unit)"
                )
            };
            let cause = format!("this process may open {soft}, and {FEWEST_FILES} are advisable");
            Check::failed(
                name,
                cause,
                "tables or connections may fail to open under load",
                remedy,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(code: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(code))
    }

    #[test]
    fn this_machine_is_looked_at_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let checks = check_machine(&dir.path().join("not/there/yet"), 1);
        assert_eq!(checks.len(), 6);
        for check in &checks {
            assert!(check.ok || !check.remedy.is_empty(), "{check}");
            assert!(!check.cause.is_empty(), "{check:?}");
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_kernel_is_judged_by_its_release() {
        for release in ["5.8.0-generic", "5.15.167.4-microsoft", "6.1", "10.0.0"] {
            assert!(judge_kernel(release).ok, "{release}");
        }
        for release in ["5.7.19", "4.18.0-553.el8", "", "next"] {
            assert!(!judge_kernel(release).ok, "{release}");
        }
    }

    #[test]
    fn a_refused_ring_names_who_refused_it() {
        assert!(judge_io_uring(&Ok(()), None).ok);
        assert!(
            judge_io_uring(&os(libc::EPERM), Some("2"))
                .remedy
                .contains("sysctl -w kernel.io_uring_disabled=0")
        );
        assert!(
            judge_io_uring(&os(libc::EPERM), Some("0"))
                .remedy
                .contains("seccomp")
        );
        assert!(judge_io_uring(&os(libc::EPERM), None).remedy.contains("seccomp"));
        assert!(
            judge_io_uring(&os(libc::ENOMEM), Some("0"))
                .remedy
                .contains("ulimit -l")
        );
        assert!(
            judge_io_uring(&os(libc::ENOSYS), None)
                .remedy
                .contains("CONFIG_IO_URING")
        );
    }

    #[test]
    fn limits_are_judged_at_their_edges() {
        assert!(judge_memlock(None, 64).ok);
        assert!(judge_memlock(Some(2 * MEMLOCK_PER_CORE), 2).ok);
        assert!(!judge_memlock(Some(2 * MEMLOCK_PER_CORE - 1), 2).ok);
        assert!(judge_files(Some(FEWEST_FILES), Some(FEWEST_FILES)).ok);
        assert!(
            judge_files(Some(1024), Some(1 << 20))
                .remedy
                .starts_with("ulimit -n")
        );
        assert!(judge_files(Some(1024), Some(2048)).remedy.contains("prlimit"));
        assert!(judge_cores(2, 2).ok);
        assert!(!judge_cores(2, 3).ok);
    }

    #[test]
    fn a_filesystem_without_direct_io_is_told_from_one_that_is_full() {
        let dir = Path::new("/data");
        assert!(judge_direct_io(dir, &Ok(())).ok);
        assert!(
            judge_direct_io(dir, &os(libc::EINVAL))
                .remedy
                .contains("findmnt -T /data")
        );
        assert!(
            judge_direct_io(dir, &os(libc::ENOSPC))
                .remedy
                .contains("df /data")
        );
    }

    #[test]
    fn a_failed_check_reads_as_cause_effect_and_remedy() {
        let text = judge_memlock(Some(65_536), 2).to_string();
        for part in ["64 KiB", "1024 KiB", "registered buffers", "ulimit -l unlimited"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
