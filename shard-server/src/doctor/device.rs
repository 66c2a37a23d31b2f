//! The block device under the filesystem, from `/sys`: how it makes writes durable, how requests reach it, what it is.
//!
//! A partition is looked at through its disk; a device made of others (LVM, RAID, encryption) through those below it too.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::root::Root;

/// Devices that one may be made of, all levels together: more than any stack has, so that damaged links end.
const MOST_DEVICES: usize = 64;

/// The smallest largest request, in KiB, that large reads and writes of compaction do not suffer from.
const SMALLEST_REQUEST_KIB: u64 = 128;

/// The page that the engine aligns its I/O to.
const PAGE_BYTES: u64 = corelane::types::PAGE_BYTES as u64;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Its name, such as `nvme0n1`.
    pub name: String,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// Of an NVMe controller: `live`, or why not.
    pub state: Option<String>,
    /// Whether it turns.
    pub rotational: Option<bool>,
    /// `write back` where its cache is volatile, else `write through`.
    pub write_cache: Option<String>,
    /// Whether one write can be made durable without flushing the whole cache.
    pub fua: Option<bool>,
    /// The schedulers, the one in force in brackets.
    pub scheduler: Option<String>,
    /// Largest request in KiB.
    pub max_sectors_kib: Option<u64>,
    /// Smallest unit of direct I/O in bytes.
    pub logical_bytes: Option<u64>,
    /// What it writes at once in bytes.
    pub physical_bytes: Option<u64>,
    /// Whether completions can be polled for.
    pub io_poll: Option<bool>,
    /// The memory node that it hangs on; `None` where there is but one.
    pub node: Option<usize>,
    /// Whether it is made of other devices.
    pub stacked: bool,
}

/// The device of a mount's numbers, and those it is made of, the outermost first; none for a filesystem without one.
pub fn read(root: &Root, numbers: &str) -> Vec<Device> {
    let Some(first) = root.follow(Path::new("/sys/dev/block").join(numbers)) else {
        return Vec::new();
    };
    let (mut found, mut waiting) = (Vec::new(), vec![whole(root, first)]);
    while let Some(path) = waiting.pop() {
        if found.len() == MOST_DEVICES {
            break;
        }
        let below = root.names(path.join("slaves"));
        found.push(one(root, &path, !below.is_empty()));
        let paths = below
            .iter()
            .filter_map(|name| root.follow(path.join("slaves").join(name)));
        waiting.extend(paths.map(|path| whole(root, path)));
    }
    found
}

/// The disk of a partition; any other device itself.
fn whole(root: &Root, path: PathBuf) -> PathBuf {
    match path.parent() {
        Some(disk) if root.has(path.join("partition")) => disk.to_owned(),
        _ => path,
    }
}

fn one(root: &Root, path: &Path, stacked: bool) -> Device {
    let queue = |name: &str| root.text(path.join("queue").join(name));
    let number = |name: &str| queue(name).and_then(|text| text.parse::<u64>().ok());
    let flag = |name: &str| number(name).map(|value| value != 0);
    let about = |name: &str| {
        root.text(path.join("device").join(name))
            .filter(|text| !text.is_empty())
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Device {
        model: about("model"),
        firmware: about("firmware_rev"),
        // Other buses have a state there too, with words of their own.
        state: about("state").filter(|_| name.as_ref().is_some_and(|name| name.starts_with("nvme"))),
        name: name.unwrap_or_default(),
        rotational: flag("rotational"),
        write_cache: queue("write_cache"),
        fua: flag("fua"),
        scheduler: queue("scheduler"),
        max_sectors_kib: number("max_sectors_kb"),
        logical_bytes: number("logical_block_size"),
        physical_bytes: number("physical_block_size"),
        io_poll: flag("io_poll"),
        // The bus above the device knows the node; -1, which is no number here, means that there is but one.
        node: path
            .ancestors()
            .find_map(|above| root.text(above.join("numa_node")))
            .and_then(|text| text.parse().ok()),
        stacked,
    }
}

/// What each device means for the database.
pub fn judge(devices: &[Device]) -> Vec<Finding> {
    if devices.is_empty() {
        return vec![Finding::warn(
            "device",
            "the filesystem has no block device that /sys knows",
            "nothing can be said about its cache, its scheduler or its speed",
            "findmnt -T DATA-DIR; lsblk",
        )];
    }
    let mut findings = Vec::new();
    for device in devices {
        findings.push(kind(device));
        findings.push(cache(device));
        findings.push(alignment(device));
        // What lies above other devices hands requests down as they are.
        if !device.stacked {
            findings.push(scheduler(device));
            findings.push(request_size(device));
        }
    }
    findings
}

fn kind(device: &Device) -> Finding {
    let name = "device";
    let mut found = device.name.clone();
    for (label, fact) in [
        ("model", &device.model),
        ("firmware", &device.firmware),
        ("state", &device.state),
    ] {
        if let Some(fact) = fact {
            found += &format!(", {label} {fact}");
        }
    }
    if device.io_poll == Some(true) {
        found += ", completions can be polled";
    }
    let virtual_disk = device.name.starts_with("vd");
    match device.state.as_deref() {
        Some(state) if state != "live" => {
            return Finding::fail(
                name,
                found,
                format!("the controller is {state}: I/O waits or fails"),
                "look for its reason, then reset it: dmesg | grep -i nvme; nvme list",
            );
        }
        _ => {}
    }
    if device.rotational != Some(true) {
        return Finding::ok(name, found);
    }
    let flag = format!("/sys/block/{}/queue/rotational", device.name);
    if virtual_disk {
        return Finding::warn(
            name,
            format!("{found}, said to be rotational"),
            "a virtual disk often says so without being it; the kernel then adds to its entropy and sorts for a disk's arm",
            format!("if it is none: echo 0 > {flag}"),
        );
    }
    Finding::warn(
        name,
        format!("{found}, rotational"),
        "each read that misses memory takes milliseconds; the engine is made for NVMe",
        "move the data to an SSD: corelane serve --data-dir DIR-ON-SSD",
    )
}

fn cache(device: &Device) -> Finding {
    let name = "write cache";
    let found = |how: &str| format!("{}: {how}", device.name);
    match (device.write_cache.as_deref(), device.fua) {
        (Some("write through"), _) => {
            Finding::ok(name, found("write through: a write that ended is durable"))
        }
        (Some("write back"), Some(true)) => Finding::ok(
            name,
            found("volatile, with FUA: a write can be made durable by itself"),
        ),
        (Some("write back"), _) => Finding::warn(
            name,
            found("volatile, without FUA"),
            "each durable write makes the device flush its whole cache, so that it costs about twice as much",
            format!(
                "a drive with power-loss protection needs no flush and says so by itself. Only if this one has it: echo \
                 'write through' > /sys/block/{}/queue/write_cache (else acknowledged writes are lost when the power \
                 goes)",
                device.name
            ),
        ),
        _ => Finding::warn(
            name,
            found("the kernel does not say what its cache is"),
            "whether a durable write is durable cannot be told",
            format!("cat /sys/block/{}/queue/write_cache", device.name),
        ),
    }
}

fn alignment(device: &Device) -> Finding {
    let name = "block size";
    let (Some(logical), Some(physical)) = (device.logical_bytes, device.physical_bytes) else {
        return Finding::ok(name, format!("{}: not told", device.name));
    };
    let found = format!("{}: logical {logical} B, physical {physical} B", device.name);
    if logical > PAGE_BYTES {
        return Finding::fail(
            name,
            found,
            format!("direct I/O must be aligned to {logical} B, and the engine aligns to {PAGE_BYTES} B"),
            format!(
                "format the device with blocks of 4 KiB: nvme format --block-size=4096 /dev/{}",
                device.name
            ),
        );
    }
    if physical > PAGE_BYTES {
        return Finding::warn(
            name,
            found,
            format!("the device reads and writes back {physical} B for each write of {PAGE_BYTES} B"),
            "use a device whose physical blocks are 4 KiB",
        );
    }
    Finding::ok(name, found)
}

fn scheduler(device: &Device) -> Finding {
    let name = "I/O scheduler";
    let Some(schedulers) = &device.scheduler else {
        return Finding::ok(name, format!("{}: none", device.name));
    };
    let current = schedulers
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(schedulers.as_str(), |(current, _)| current);
    let found = format!("{}: {current}", device.name);
    let turns = device.rotational == Some(true) && !device.name.starts_with("vd");
    if current == "none" || (turns && current == "mq-deadline") {
        return Finding::ok(name, found);
    }
    let better = if turns { "mq-deadline" } else { "none" };
    Finding::warn(
        name,
        found,
        "requests are sorted and held back on their way, which a fast device only waits for",
        format!("echo {better} > /sys/block/{}/queue/scheduler", device.name),
    )
}

fn request_size(device: &Device) -> Finding {
    let name = "request size";
    match device.max_sectors_kib {
        Some(most) if most < SMALLEST_REQUEST_KIB => Finding::warn(
            name,
            format!("{}: {most} KiB at most", device.name),
            "large reads and writes of compaction are cut into many",
            format!(
                "cat /sys/block/{0}/queue/max_hw_sectors_kb > /sys/block/{0}/queue/max_sectors_kb",
                device.name
            ),
        ),
        Some(most) => Finding::ok(name, format!("{}: {most} KiB at most", device.name)),
        None => Finding::ok(name, format!("{}: not told", device.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Ok, Warn};
    use super::super::root::tests::tree;
    use super::*;

    const NVME: &str = "sys/devices/pci0000:00/0000:00:05.0";

    fn machine() -> (tempfile::TempDir, Root) {
        let disk = format!("{NVME}/nvme/nvme0/nvme0n1");
        let files = [
            (
                "sys/dev/block/259:2".to_owned(),
                "-> ../../devices/pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1/nvme0n1p2",
            ),
            (
                "sys/dev/block/252:0".to_owned(),
                "-> ../../devices/virtual/block/dm-0",
            ),
            (
                "sys/devices/virtual/block/dm-0/queue/write_cache".to_owned(),
                "write back",
            ),
            (
                "sys/devices/virtual/block/dm-0/slaves/nvme0n1p2".to_owned(),
                "-> ../../../../pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1/nvme0n1p2",
            ),
            (format!("{disk}/nvme0n1p2/partition"), "2\n"),
            (format!("{disk}/queue/write_cache"), "write back\n"),
            (format!("{disk}/queue/fua"), "1\n"),
            (format!("{disk}/queue/rotational"), "0\n"),
            (format!("{disk}/queue/scheduler"), "[none] mq-deadline\n"),
            (format!("{disk}/queue/max_sectors_kb"), "1280\n"),
            (format!("{disk}/queue/logical_block_size"), "512\n"),
            (format!("{disk}/queue/physical_block_size"), "4096\n"),
            (format!("{disk}/device/model"), "Fast 3000   \n"),
            (format!("{disk}/device/state"), "live\n"),
            (format!("{NVME}/numa_node"), "1\n"),
        ];
        tree(
            &files
                .iter()
                .map(|(path, text)| (path.as_str(), *text))
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_partition_is_looked_at_through_its_disk() {
        let (_dir, root) = machine();
        let [disk] = read(&root, "259:2").try_into().unwrap();
        assert_eq!(
            (disk.name.as_str(), disk.model.as_deref()),
            ("nvme0n1", Some("Fast 3000"))
        );
        assert_eq!((disk.fua, disk.node, disk.stacked), (Some(true), Some(1), false));
        assert!(judge(&[disk]).iter().all(|finding| finding.verdict == Ok));
    }

    #[test]
    fn a_volume_is_looked_at_together_with_what_it_is_made_of() {
        let (_dir, root) = machine();
        let devices = read(&root, "252:0");
        let names: Vec<_> = devices
            .iter()
            .map(|device| (device.name.as_str(), device.stacked))
            .collect();
        assert_eq!(names, [("dm-0", true), ("nvme0n1", false)]);
        assert_eq!(judge(&read(&root, "9:9"))[0].verdict, Warn);
    }

    fn verdict(judge: fn(&Device) -> Finding, change: fn(&mut Device)) -> Verdict {
        let mut device = Device {
            name: "nvme0n1".to_owned(),
            write_cache: Some("write back".to_owned()),
            fua: Some(true),
            ..Device::default()
        };
        change(&mut device);
        let finding = judge(&device);
        assert_eq!(finding.verdict == Ok, finding.mend.is_empty(), "{finding:?}");
        finding.verdict
    }

    #[test]
    fn each_fact_is_judged() {
        assert_eq!(verdict(cache, |_| ()), Ok);
        assert_eq!(verdict(cache, |d| d.fua = Some(false)), Warn);
        assert_eq!(
            verdict(cache, |d| d.write_cache = Some("write through".to_owned())),
            Ok
        );
        assert_eq!(verdict(cache, |d| d.write_cache = None), Warn);
        assert_eq!(verdict(kind, |_| ()), Ok);
        assert_eq!(verdict(kind, |d| d.rotational = Some(true)), Warn);
        assert_eq!(verdict(kind, |d| d.state = Some("dead".to_owned())), Fail);
        assert_eq!(verdict(scheduler, |_| ()), Ok);
        assert_eq!(
            verdict(scheduler, |d| d.scheduler = Some("none [bfq]".to_owned())),
            Warn
        );
        assert_eq!(
            verdict(scheduler, |d| {
                d.scheduler = Some("none [mq-deadline]".to_owned());
                d.rotational = Some(true);
            }),
            Verdict::Ok
        );
        assert_eq!(verdict(request_size, |d| d.max_sectors_kib = Some(127)), Warn);
        assert_eq!(verdict(request_size, |d| d.max_sectors_kib = Some(128)), Ok);
        assert_eq!(
            verdict(alignment, |d| (d.logical_bytes, d.physical_bytes) =
                (Some(4096), Some(4096))),
            Ok
        );
        assert_eq!(
            verdict(alignment, |d| (d.logical_bytes, d.physical_bytes) =
                (Some(512), Some(16384))),
            Warn
        );
        assert_eq!(
            verdict(alignment, |d| (d.logical_bytes, d.physical_bytes) =
                (Some(8192), Some(8192))),
            Fail
        );
    }
}
