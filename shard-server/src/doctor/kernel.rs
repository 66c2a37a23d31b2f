//! Settings of the kernel that hold for the whole machine: its clock, huge pages, who may use io_uring.

use super::finding::Finding;
use super::root::Root;

/// Clocks that a process reads without asking the kernel.
const FAST_CLOCKS: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "pvclock",
];

/// Where the clock is chosen.
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

/// What the kernel is set to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The clock in use.
    pub clock: Option<String>,
    /// The clocks that there are.
    pub clocks: Vec<String>,
    /// Huge pages, the choice in force in brackets.
    pub huge_pages: Option<String>,
    /// `kernel.io_uring_disabled`: 0 for everybody, 1 for a group, 2 for nobody; not there before Linux 6.6.
    pub io_uring_disabled: Option<u8>,
    /// The process's `Seccomp`: 2 for a filter.
    pub seccomp: Option<u8>,
}

/// What is set on this machine.
pub fn read(root: &Root) -> Settings {
    let status = root.text("/proc/self/status").unwrap_or_default();
    let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    Settings {
        clock: root.text(format!("{CLOCK}/current_clocksource")),
        clocks: root
            .text(format!("{CLOCK}/available_clocksource"))
            .map(|text| text.split_ascii_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        huge_pages: root.text("/sys/kernel/mm/transparent_hugepage/enabled"),
        io_uring_disabled: root.number("/proc/sys/kernel/io_uring_disabled"),
        seccomp: seccomp.and_then(|text| text.trim().parse().ok()),
    }
}

/// What that means.
pub fn judge(settings: &Settings) -> Vec<Finding> {
    vec![
        clock(settings),
        huge_pages(settings.huge_pages.as_deref()),
        io_uring(settings.io_uring_disabled),
        seccomp(settings.seccomp),
    ]
}

fn clock(settings: &Settings) -> Finding {
    let name = "clock source";
    let Some(clock) = &settings.clock else {
        return Finding::ok(name, "not told");
    };
    if FAST_CLOCKS.contains(&clock.as_str()) {
        return Finding::ok(name, clock);
    }
    let better = FAST_CLOCKS
        .iter()
        .find(|fast| settings.clocks.iter().any(|clock| clock == *fast));
    Finding::warn(
        name,
        clock,
        "each look at the clock asks the kernel, some twenty times slower, and the server looks at it for every batch",
        match better {
            Some(better) => format!("echo {better} > {CLOCK}/current_clocksource"),
            None => "see why the kernel distrusts the TSC: dmesg | grep -i tsc".to_owned(),
        },
    )
}

fn huge_pages(setting: Option<&str>) -> Finding {
    let name = "huge pages";
    match setting {
        Some(setting) if setting.contains("[always]") => Finding::warn(
            name,
            "transparent huge pages are always on",
            "the kernel stops a core to make them, and the process holds memory that it does not use",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(setting) => Finding::ok(name, setting),
        None => Finding::ok(name, "the kernel has none"),
    }
}

fn io_uring(disabled: Option<u8>) -> Finding {
    let name = "io_uring for all";
    match disabled {
        None | Some(0) => Finding::ok(name, "the kernel lets every process have rings"),
        Some(value) => Finding::warn(
            name,
            format!("kernel.io_uring_disabled is {value}"),
            match value {
                1 => {
                    "only processes of the group kernel.io_uring_group, or with CAP_SYS_ADMIN, can run the server"
                }
                _ => "nobody can run the server",
            },
            "sysctl -w kernel.io_uring_disabled=0",
        ),
    }
}

fn seccomp(mode: Option<u8>) -> Finding {
    let name = "seccomp";
    Finding::ok(
        name,
        match mode {
            Some(2) => "a filter is in force; whether io_uring passes it is told above",
            _ => "no filter",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Ok, Warn};
    use super::super::root::tests::tree;
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_not_there_is_no_worry() {
        let (_dir, root) = tree(&[
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet\n",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/available_clocksource",
                "tsc hpet acpi_pm \n",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "[always] madvise never\n",
            ),
            ("proc/sys/kernel/io_uring_disabled", "1\n"),
            ("proc/self/status", "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
        ]);
        let settings = read(&root);
        assert_eq!((settings.io_uring_disabled, settings.seccomp), (Some(1), Some(2)));
        let verdicts: Vec<_> = judge(&settings).iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Warn, Warn, Warn, Ok]);
        assert!(judge(&settings)[0].mend.starts_with("echo tsc > /sys/"));
        assert!(
            judge(&Settings::default())
                .iter()
                .all(|finding| finding.verdict == Ok)
        );
    }

    #[test]
    fn a_clock_that_needs_the_kernel_is_told_even_where_there_is_no_better_one() {
        let with = |clock: &str| Settings {
            clock: Some(clock.to_owned()),
            ..Settings::default()
        };
        for fast in FAST_CLOCKS {
            assert_eq!(clock(&with(fast)).verdict, Ok);
        }
        assert!(clock(&with("acpi_pm")).mend.contains("dmesg"));
        assert_eq!(huge_pages(Some("always [madvise] never")).verdict, Ok);
    }
}
