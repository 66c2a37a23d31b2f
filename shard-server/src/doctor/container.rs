//! The limits that a container or service has put on this process, from its control groups, v2 and v1.
//!
//! A limit holds for everything below it, so that the group's own and those of all groups above it are read, and the
//! tightest counts. Inside a container the mount usually shows the container's group as the topmost one.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::root::Root;

/// v1 writes "no limit" as the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Lines of `io.max` that limit a device: its numbers and the limits.
    pub io: Vec<(String, String)>,
}

/// The limits on this process.
pub fn read(root: &Root) -> Limits {
    let (groups, mounts) = (root.text("/proc/self/cgroup"), root.text("/proc/self/mountinfo"));
    let (groups, mounts) = (groups.unwrap_or_default(), mounts.unwrap_or_default());
    let mut limits = Limits::default();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some(mount) = mount_of(&mounts, controllers) else {
            continue;
        };
        for dir in upwards(&mount, group) {
            limits.tighten(root, &dir);
        }
    }
    limits
}

/// Where the hierarchy of these controllers is mounted; no controllers are v2's.
fn mount_of(mounts: &str, controllers: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (kind, options) = right.split_once(' ')?;
        let mounted = options.rsplit(' ').next()?;
        let fits = match kind {
            "cgroup2" => controllers.is_empty(),
            "cgroup" => controllers
                .split(',')
                .any(|controller| mounted.split(',').any(|option| option == controller)),
            _ => false,
        };
        fits.then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// The group's directory and those above it, down to the mount.
fn upwards(mount: &Path, group: &str) -> Vec<PathBuf> {
    let group = Path::new(group.trim_start_matches('/'));
    group.ancestors().map(|above| mount.join(above)).collect()
}

impl Limits {
    fn tighten(&mut self, root: &Root, dir: &Path) {
        let text = |file: &str| root.text(dir.join(file));
        let number = |file: &str| root.number::<f64>(dir.join(file));
        let v2 = text("cpu.max").and_then(|line| {
            let (quota, period) = line.split_once(' ')?;
            Some((quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?))
        });
        let v1 = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
        if let Some((quota, period)) = v2.or(v1)
            && quota > 0.0
            && period > 0.0
        {
            let cpus = quota / period;
            self.cpus = Some(self.cpus.map_or(cpus, |tightest| tightest.min(cpus)));
        }
        let memory = ["memory.max", "memory.high", "memory.limit_in_bytes"]
            .iter()
            .filter_map(|file| root.number::<u64>(dir.join(file)))
            .filter(|&bytes| bytes < NO_LIMIT)
            .min();
        self.memory_bytes = [self.memory_bytes, memory].into_iter().flatten().min();
        for line in text("io.max").unwrap_or_default().lines() {
            if let Some((device, limits)) = line.split_once(' ')
                && limits.split(' ').any(|limit| !limit.ends_with("=max"))
            {
                self.io.push((device.to_owned(), limits.to_owned()));
            }
        }
    }
}

/// What the limits mean for so many cores and so much memory, in bytes.
pub fn judge(limits: &Limits, cores: usize, needed_bytes: u64) -> Vec<Finding> {
    vec![
        cpu(limits.cpus, cores),
        memory(limits.memory_bytes, needed_bytes),
        io(&limits.io),
    ]
}

fn cpu(cpus: Option<f64>, cores: usize) -> Finding {
    let name = "CPU limit";
    match cpus {
        None => Finding::ok(name, "none"),
        #[expect(clippy::cast_precision_loss, reason = "no machine has so many cores")]
        Some(cpus) if cpus + 1e-9 < cores as f64 => Finding::warn(
            name,
            format!("{cpus:.2} processors' worth of time for {cores} cores"),
            "once it is used up all shards stand still for the rest of the period, up to 100 ms",
            "pin whole cores instead: docker run --cpuset-cpus LIST (Kubernetes: whole cores, request = limit, and the \
             static CPU manager), or corelane serve --cores with fewer of them",
        ),
        Some(cpus) => Finding::ok(name, format!("{cpus:.2} processors' worth of time")),
    }
}

fn memory(limit: Option<u64>, needed: u64) -> Finding {
    let name = "memory limit";
    let mib = |bytes: u64| bytes >> 20;
    match limit {
        None => Finding::ok(name, "none"),
        Some(limit) if limit < needed => Finding::warn(
            name,
            format!(
                "{} MiB, and caches, memtables and rings may take {} MiB",
                mib(limit),
                mib(needed)
            ),
            "the kernel ends the server when the limit is reached (nothing acknowledged is lost)",
            format!(
                "docker run --memory {}m, or smaller --cache-mib and --memtable-mib",
                mib(needed)
            ),
        ),
        Some(limit) => Finding::ok(name, format!("{} MiB", mib(limit))),
    }
}

fn io(limits: &[(String, String)]) -> Finding {
    let name = "I/O limit";
    if limits.is_empty() {
        return Finding::ok(name, "none");
    }
    let lines = limits.iter().map(|(device, limits)| format!("{device} {limits}"));
    let lift = limits
        .iter()
        .map(|(device, _)| device.as_str())
        .collect::<Vec<_>>();
    Finding::warn(
        name,
        lines.collect::<Vec<_>>().join("; "),
        "the kernel holds requests back beyond it: durable writes and reads of the device wait",
        format!(
            "in the group's directory below /sys/fs/cgroup: echo '{} rbps=max wbps=max riops=max wiops=max' > io.max",
            lift.first().copied().unwrap_or_default()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Warn};
    use super::super::root::tests::tree;
    use super::*;

    #[test]
    fn the_tightest_limit_of_all_groups_above_counts() {
        let (_dir, root) = tree(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            (
                "proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            ),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.high", "1048576\n"),
            ("sys/fs/cgroup/a/b/memory.max", "2097152\n"),
            (
                "sys/fs/cgroup/a/b/io.max",
                "259:0 rbps=max wbps=1000 riops=max wiops=max\n8:0 rbps=max wbps=max\n",
            ),
        ]);
        let limits = read(&root);
        assert_eq!((limits.cpus, limits.memory_bytes), (Some(1.5), Some(1 << 20)));
        assert_eq!(
            limits.io,
            [(
                "259:0".to_owned(),
                "rbps=max wbps=1000 riops=max wiops=max".to_owned()
            )]
        );
    }

    #[test]
    fn the_first_version_is_read_too_and_its_no_limit_is_none() {
        let (_dir, root) = tree(&[
            ("proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/\n0::/\n"),
            (
                "proc/self/mountinfo",
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096\n"),
        ]);
        let limits = read(&root);
        assert_eq!((limits.cpus, limits.memory_bytes), (Some(0.5), Some(4096)));
        assert_eq!(read(&Root::new("/nowhere")), Limits::default());
    }

    #[test]
    fn limits_are_judged_at_their_edges() {
        assert!(
            judge(&Limits::default(), 8, 1 << 40)
                .iter()
                .all(|finding| finding.verdict == Ok)
        );
        assert_eq!(cpu(Some(2.0), 2).verdict, Ok);
        assert_eq!(cpu(Some(1.99), 2).verdict, Warn);
        assert_eq!(memory(Some(1 << 30), 1 << 30).verdict, Ok);
        let tight = memory(Some((1 << 30) - 1), 1 << 30);
        assert_eq!(tight.verdict, Warn);
        assert!(tight.mend.contains("--memory 1024m"), "{}", tight.mend);
        let slow = io(&[("259:0".to_owned(), "wbps=1000".to_owned())]);
        assert!(
            slow.verdict == Warn && slow.mend.contains("259:0 rbps=max"),
            "{slow:?}"
        );
    }
}
