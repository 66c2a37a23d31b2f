//! The processors that the shards are pinned to: how fast they may run, whom they share a core with, how far their
//! memory is from the device, and who is interrupted for it.

use super::device::Device;
use super::finding::Finding;
use super::root::{Root, cpu_list, ranges};

/// What `/sys` and `/proc` tell of processors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cpus {
    /// Processors whose speed is governed, and by what.
    pub governors: Vec<(usize, String)>,
    /// For each processor those that share its core, itself included.
    pub siblings: Vec<(usize, Vec<usize>)>,
    /// Memory nodes and their processors.
    pub nodes: Vec<(usize, Vec<usize>)>,
    /// Interrupts of block devices: number, name, and the processors that take them.
    pub interrupts: Vec<(String, String, Vec<usize>)>,
}

/// What is known of these cores.
pub fn read(root: &Root, cores: &[usize]) -> Cpus {
    let cpu = |core: usize, file: &str| root.text(format!("/sys/devices/system/cpu/cpu{core}/{file}"));
    let nodes = root.names("/sys/devices/system/node");
    let nodes = nodes.iter().filter_map(|name| {
        let node = name.strip_prefix("node")?.parse().ok()?;
        let cpus = root.text(format!("/sys/devices/system/node/{name}/cpulist"))?;
        Some((node, cpu_list(&cpus)))
    });
    Cpus {
        governors: cores
            .iter()
            .filter_map(|&core| Some((core, cpu(core, "cpufreq/scaling_governor")?)))
            .collect(),
        siblings: cores
            .iter()
            .filter_map(|&core| Some((core, cpu_list(&cpu(core, "topology/thread_siblings_list")?))))
            .collect(),
        nodes: nodes.collect(),
        interrupts: interrupts(root),
    }
}

/// Interrupts by which NVMe and virtio disks tell that requests are done.
fn interrupts(root: &Root) -> Vec<(String, String, Vec<usize>)> {
    let text = root.text("/proc/interrupts").unwrap_or_default();
    let rows = text.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let name = rest.split_ascii_whitespace().last()?;
        let disk = name.contains("-req.")
            || (name.starts_with("nvme") && name.contains('q') && !name.ends_with("q0"));
        let cpus = root
            .text(format!("/proc/irq/{number}/effective_affinity_list"))
            .or_else(|| root.text(format!("/proc/irq/{number}/smp_affinity_list")))?;
        disk.then(|| (number.to_owned(), name.to_owned(), cpu_list(&cpus)))
    });
    rows.collect()
}

/// What it means for shards on these cores with data on these devices.
pub fn judge(cpus: &Cpus, cores: &[usize], devices: &[Device]) -> Vec<Finding> {
    vec![
        governor(&cpus.governors),
        siblings(&cpus.siblings, cores),
        nodes(&cpus.nodes, cores, devices),
        interrupted(&cpus.interrupts, cores),
    ]
}

fn governor(governors: &[(usize, String)]) -> Finding {
    let name = "CPU governor";
    if governors.is_empty() {
        return Finding::ok(name, "none: this machine does not let its speed be set");
    }
    let slow: Vec<_> = governors
        .iter()
        .filter(|(_, governor)| governor != "performance")
        .collect();
    let Some((_, governor)) = slow.first() else {
        return Finding::ok(name, "performance");
    };
    let cores: Vec<usize> = slow.iter().map(|(core, _)| *core).collect();
    Finding::warn(
        name,
        format!("{governor} on cores {}", ranges(&cores)),
        "cores slow down between requests, and latencies grow while they speed up again",
        "cpupower frequency-set -g performance",
    )
}

fn siblings(siblings: &[(usize, Vec<usize>)], cores: &[usize]) -> Finding {
    let name = "SMT";
    // Of those that share a core the first keeps it.
    let doubled = |core: usize, shared: &[usize]| {
        cores.contains(&core) && shared.iter().any(|other| *other < core && cores.contains(other))
    };
    let second: Vec<usize> = siblings
        .iter()
        .filter(|(core, shared)| doubled(*core, shared))
        .map(|(core, _)| *core)
        .collect();
    if second.is_empty() {
        return Finding::ok(name, format!("cores {} are cores of their own", ranges(cores)));
    }
    let alone: Vec<usize> = cores
        .iter()
        .copied()
        .filter(|core| !second.contains(core))
        .collect();
    Finding::warn(
        name,
        format!(
            "{} are second threads of cores that run a shard already",
            ranges(&second)
        ),
        "two shards on one core slow each other down, more at the tail than at the median",
        format!("measure both: corelane serve --cores {}", ranges(&alone)),
    )
}

fn nodes(nodes: &[(usize, Vec<usize>)], cores: &[usize], devices: &[Device]) -> Finding {
    let name = "NUMA";
    if nodes.len() < 2 {
        return Finding::ok(name, "one memory node");
    }
    let near = devices.iter().find_map(|device| Some((device.node?, device)));
    let Some((node, device)) = near else {
        return Finding::ok(
            name,
            format!("{} memory nodes; the device belongs to none", nodes.len()),
        );
    };
    let local = nodes
        .iter()
        .find(|(number, _)| *number == node)
        .map_or(&[][..], |(_, cpus)| cpus);
    let far: Vec<usize> = cores
        .iter()
        .copied()
        .filter(|core| !local.contains(core))
        .collect();
    if far.is_empty() {
        return Finding::ok(name, format!("{} and all cores are on node {node}", device.name));
    }
    let usable: Vec<usize> = cores
        .iter()
        .copied()
        .filter(|core| local.contains(core))
        .collect();
    let usable = if usable.is_empty() { local.to_vec() } else { usable };
    Finding::warn(
        name,
        format!(
            "{} is on node {node}, cores {} are not",
            device.name,
            ranges(&far)
        ),
        "each of their requests crosses to the other node",
        format!("corelane serve --cores {}", ranges(&usable)),
    )
}

fn interrupted(interrupts: &[(String, String, Vec<usize>)], cores: &[usize]) -> Finding {
    let name = "interrupts";
    let mut takers: Vec<usize> = interrupts.iter().flat_map(|(_, _, cpus)| cpus.clone()).collect();
    takers.sort_unstable();
    takers.dedup();
    let [taker] = takers.as_slice() else {
        return Finding::ok(
            name,
            match takers.is_empty() {
                true => "none of a disk is told".to_owned(),
                false => format!(
                    "of {} disk queues, taken by cores {}",
                    interrupts.len(),
                    ranges(&takers)
                ),
            },
        );
    };
    if cores.len() < 2 {
        return Finding::ok(name, format!("those of the disk are taken by core {taker}"));
    }
    let cause = format!(
        "those of all disk queues, {}, are taken by core {taker}",
        interrupts.len()
    );
    let effect = format!("core {taker} works for the others' I/O, and its own shard waits");
    let mend = match interrupts {
        [(_, queue, _)] => format!(
            "the disk has one queue ({queue}); give it one a core where the machine is made: queues={} (QEMU's \
             num-queues)",
            cores.len()
        ),
        _ => {
            let each = interrupts.iter().zip(cores.iter().cycle());
            let commands = each
                .map(|((number, ..), core)| format!("echo {core} > /proc/irq/{number}/smp_affinity_list"));
            commands.collect::<Vec<_>>().join("; ")
        }
    };
    Finding::warn(name, cause, effect, mend)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Warn};
    use super::super::root::tests::tree;
    use super::*;

    #[test]
    fn facts_are_read_where_the_kernel_keeps_them() {
        let (_dir, root) = tree(&[
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
                "0,2\n",
            ),
            ("sys/devices/system/node/node0/cpulist", "0-1\n"),
            ("sys/devices/system/node/node1/cpulist", "2-3\n"),
            ("sys/devices/system/node/online", "0-1\n"),
            (
                "proc/interrupts",
                "           CPU0       CPU1\n 36:          0    9961039 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n 40:  1  2 PCI-MSIX 0-edge nvme0q0\n 41:  1  2 PCI-MSIX 1-edge nvme0q1\n 43:  1  2 PCI-MSIX eth0-rx\nNMI:  0  0 Non-maskable interrupts\n",
            ),
            ("proc/irq/36/effective_affinity_list", "1\n"),
            ("proc/irq/40/effective_affinity_list", "0\n"),
            ("proc/irq/41/smp_affinity_list", "0-1\n"),
            ("proc/irq/43/smp_affinity_list", "0\n"),
        ]);
        let cpus = read(&root, &[0, 1]);
        assert_eq!(cpus.governors, [(0, "powersave".to_owned())]);
        assert_eq!(cpus.siblings, [(0, vec![0, 2])]);
        assert_eq!(cpus.nodes, [(0, vec![0, 1]), (1, vec![2, 3])]);
        let expected = [("36", "virtio1-req.0", vec![1]), ("41", "nvme0q1", vec![0, 1])];
        assert_eq!(
            cpus.interrupts,
            expected.map(|(n, name, cpus)| (n.to_owned(), name.to_owned(), cpus))
        );
    }

    #[test]
    fn governors_other_than_performance_are_told() {
        assert_eq!(governor(&[]).verdict, Ok);
        assert_eq!(governor(&[(0, "performance".to_owned())]).verdict, Ok);
        let slow = governor(&[
            (0, "performance".to_owned()),
            (1, "powersave".to_owned()),
            (2, "powersave".to_owned()),
        ]);
        assert_eq!(slow.verdict, Warn);
        assert!(slow.cause.contains("powersave on cores 1-2"), "{}", slow.cause);
    }

    #[test]
    fn second_threads_are_left_out_of_the_advice() {
        let shared = [(0, vec![0, 2]), (1, vec![1, 3]), (2, vec![0, 2]), (3, vec![1, 3])];
        let warned = siblings(&shared, &[0, 1, 2, 3]);
        assert_eq!(warned.verdict, Warn);
        assert!(
            warned.cause.starts_with("2-3 ") && warned.mend.ends_with("--cores 0-1"),
            "{warned:?}"
        );
        assert_eq!(siblings(&shared, &[0, 1]).verdict, Ok);
        assert_eq!(siblings(&shared[2..], &[2, 3]).verdict, Ok);
    }

    #[test]
    fn cores_far_from_the_device_are_told() {
        let two = [(0, vec![0, 1]), (1, vec![2, 3])];
        let device = Device {
            name: "nvme0n1".to_owned(),
            node: Some(1),
            ..Device::default()
        };
        assert_eq!(nodes(&two[..1], &[0], std::slice::from_ref(&device)).verdict, Ok);
        assert_eq!(nodes(&two, &[2, 3], std::slice::from_ref(&device)).verdict, Ok);
        assert_eq!(nodes(&two, &[0], &[Device::default()]).verdict, Ok);
        let far = nodes(&two, &[0, 1, 2], std::slice::from_ref(&device));
        assert_eq!(
            (far.verdict, far.mend.as_str()),
            (Warn, "corelane serve --cores 2")
        );
        assert_eq!(nodes(&two, &[0], &[device]).mend, "corelane serve --cores 2-3");
    }

    #[test]
    fn one_core_that_takes_all_interrupts_is_told() {
        let irq =
            |number: &str, cpus: &[usize]| (number.to_owned(), format!("nvme0q{number}"), cpus.to_vec());
        assert_eq!(interrupted(&[], &[0, 1]).verdict, Ok);
        assert_eq!(
            interrupted(&[irq("1", &[0]), irq("2", &[1])], &[0, 1]).verdict,
            Ok
        );
        assert_eq!(interrupted(&[irq("1", &[0])], &[0]).verdict, Ok);
        let one = interrupted(&[irq("1", &[0]), irq("2", &[0])], &[0, 1]);
        assert_eq!(one.verdict, Warn);
        assert_eq!(
            one.mend,
            "echo 0 > /proc/irq/1/smp_affinity_list; echo 1 > /proc/irq/2/smp_affinity_list"
        );
        assert!(interrupted(&[irq("1", &[0])], &[0, 1]).mend.contains("queues=2"));
    }
}
