//! The filesystem under the data: its kind and the options it is mounted with, from `/proc/self/mountinfo`.
//!
//! A line there: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS TAGS… - KIND SOURCE SUPER-OPTIONS` (proc(5)).

use std::path::Path;

use super::finding::Finding;
use super::root::Root;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// `ext4`, `xfs`, …
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Major and minor number of the device.
    pub device: String,
    /// Options of the mount and of the filesystem.
    pub options: Vec<String>,
}

/// The mount that `dir`, an absolute path, lies on.
pub fn read(root: &Root, dir: &Path) -> Option<Mount> {
    let text = root.text("/proc/self/mountinfo")?;
    // Of two at one point the later covers the earlier; `max_by_key` gives the last of equals.
    text.lines()
        .filter_map(parse)
        .filter(|mount| dir.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.len())
}

fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let options = [*left.get(5)?, right.get(2).copied().unwrap_or("")];
    Some(Mount {
        point: unescape(left.get(4)?),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        device: (*left.get(2)?).to_owned(),
        options: options
            .iter()
            .flat_map(|options| options.split(','))
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// Spaces and their like are written in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What the filesystem and its options mean for a database.
pub fn judge(mount: Option<&Mount>) -> Vec<Finding> {
    let Some(mount) = mount else {
        return vec![Finding::warn(
            "filesystem",
            "the mount of the data directory is not in /proc/self/mountinfo",
            "it cannot be judged",
            "findmnt -T DATA-DIR",
        )];
    };
    vec![kind(mount), options(mount)]
}

fn kind(mount: &Mount) -> Finding {
    let name = "filesystem";
    let found = format!("{} on {} at {}", mount.kind, mount.source, mount.point);
    let elsewhere =
        "put the data on ext4 or XFS: mkfs.xfs DEVICE; mount DEVICE DIR; corelane serve --data-dir DIR";
    match mount.kind.as_str() {
        "ext4" | "xfs" => Finding::ok(name, found),
        "tmpfs" | "ramfs" => Finding::fail(
            name,
            found,
            "the data is gone after a restart of the machine",
            elsewhere,
        ),
        "overlay" | "aufs" => Finding::warn(
            name,
            found,
            "the data is in a container's own layer: slow, and gone with the container",
            "give it a volume: docker run -v corelane-data:/var/lib/corelane …",
        ),
        "btrfs" => Finding::warn(
            name,
            found,
            "copy on write: what is written in place elsewhere, as the log is, is moved here each time, and fragments",
            format!("before the data is created: chattr +C {}", mount.point),
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" => Finding::warn(
            name,
            found,
            "a network is between the server and its device: each durable write waits for it, and locks may not hold",
            elsewhere,
        ),
        kind if kind.starts_with("fuse") => Finding::warn(
            name,
            found,
            "each operation goes through a process of its own",
            elsewhere,
        ),
        _ => Finding::warn(
            name,
            found,
            "it was never tested here; ext4 and XFS were",
            elsewhere,
        ),
    }
}

/// Options that hurt: the option, whether it is fatal, what it does, and what to mount with instead.
const HARMFUL: &[(&str, bool, &str, &str)] = &[
    ("ro", true, "nothing can be written", "rw"),
    (
        "nobarrier",
        true,
        "acknowledged writes are lost when the power goes, unless the device's cache is not volatile",
        "barrier",
    ),
    (
        "barrier=0",
        true,
        "acknowledged writes are lost when the power goes, unless the device's cache is not volatile",
        "barrier=1",
    ),
    ("data=journal", true, "direct I/O is switched off", "data=ordered"),
    (
        "sync",
        false,
        "writes that need not be durable wait as if they had to",
        "async",
    ),
    (
        "dirsync",
        false,
        "each file made or removed waits for the device",
        "defaults",
    ),
    (
        "strictatime",
        false,
        "each read of a file writes its time",
        "relatime",
    ),
    (
        "discard",
        false,
        "each removed table makes the device discard at once, in the way of reads and writes",
        "nodiscard",
    ),
];

fn options(mount: &Mount) -> Finding {
    let name = "mount options";
    let has = |option: &str| mount.options.iter().any(|found| found == option);
    let harm: Vec<_> = HARMFUL.iter().filter(|(option, ..)| has(option)).collect();
    if harm.is_empty() {
        return Finding::ok(name, mount.options.join(","));
    }
    let list = |part: fn(&(&'static str, bool, &'static str, &'static str)) -> &'static str, by: &str| {
        harm.iter().map(|row| part(row)).collect::<Vec<_>>().join(by)
    };
    let mut mend = format!("mount -o remount,{} {}", list(|row| row.3, ","), mount.point);
    if has("discard") {
        mend += " && systemctl enable --now fstrim.timer";
    }
    let cause = format!("mounted with {}", list(|row| row.0, ","));
    let effect = list(|row| row.2, "; ");
    if harm.iter().any(|(_, fatal, ..)| *fatal) {
        Finding::fail(name, cause, effect, mend)
    } else {
        Finding::warn(name, cause, effect, mend)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Warn};
    use super::super::root::tests::tree;
    use super::*;

    const TABLE: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        30 27 259:2 / /my\\040data rw,noatime - xfs /dev/nvme0n1p2 rw,attr2\n";

    #[test]
    fn the_nearest_mount_is_read() {
        let (_dir, root) = tree(&[("proc/self/mountinfo", TABLE)]);
        let mount = read(&root, Path::new("/my data/db")).unwrap();
        assert_eq!((mount.kind.as_str(), mount.device.as_str()), ("xfs", "259:2"));
        assert_eq!(mount.options, ["rw", "noatime", "rw", "attr2"]);
        assert_eq!(read(&root, Path::new("/my database")).unwrap().source, "/dev/vda");
        assert!(read(&Root::new("/nowhere"), Path::new("/")).is_none());
    }

    fn with(kind: &str, options: &str) -> Mount {
        Mount {
            point: "/data".to_owned(),
            kind: kind.to_owned(),
            source: "/dev/x".to_owned(),
            device: "8:1".to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        }
    }

    #[test]
    fn kinds_are_judged() {
        let cases = [
            ("ext4", Ok),
            ("xfs", Ok),
            ("tmpfs", Fail),
            ("overlay", Warn),
            ("btrfs", Warn),
            ("nfs4", Warn),
            ("fuse.sshfs", Warn),
            ("zfs", Warn),
        ];
        for (name, verdict) in cases {
            assert_eq!(kind(&with(name, "rw")).verdict, verdict, "{name}");
        }
    }

    #[test]
    fn options_that_hurt_are_told_with_the_remount_that_mends_them() {
        assert_eq!(options(&with("ext4", "rw,relatime")).verdict, Ok);
        let slow = options(&with("ext4", "rw,discard,strictatime"));
        assert_eq!(slow.verdict, Warn);
        assert_eq!(
            slow.mend,
            "mount -o remount,relatime,nodiscard /data && systemctl enable --now fstrim.timer"
        );
        let unsafe_ = options(&with("ext4", "rw,nobarrier,sync"));
        assert_eq!(unsafe_.verdict, Fail);
        assert!(unsafe_.effect.contains("power") && unsafe_.mend.contains("barrier,async"));
        assert_eq!(options(&with("ext4", "rw,data=journal")).verdict, Fail);
    }

    #[test]
    fn no_mount_is_a_warning() {
        assert_eq!(judge(None)[0].verdict, Warn);
        assert_eq!(judge(Some(&with("xfs", "rw"))).len(), 2);
    }
}
