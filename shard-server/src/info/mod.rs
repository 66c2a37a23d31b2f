//! The text of `INFO`, under the names that Redis's tools look for and beside them the engine's own.
//!
//! What Redis tells and this server has nothing of (replication, scripts, modules) is told as a Redis tells it that uses
//! none of it, where tools expect the line; else it is left out. The engine's own figures are in the section `Corelane`,
//! one line a shard.

mod commands;
pub mod memory;
mod page;
mod process;
mod shards;
mod traffic;

use std::time::Duration;

use corelane::api::Stats;

use crate::server::Server;
use page::Page;

/// One section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Section {
    /// The process.
    Server,
    /// Who is connected.
    Clients,
    /// What is held in memory.
    Memory,
    /// How writes reach the device.
    Persistence,
    /// Counts since the start.
    Stats,
    /// There is none.
    Replication,
    /// Processor time.
    Cpu,
    /// There are none.
    Modules,
    /// Each command's calls.
    CommandStats,
    /// Errors by code.
    ErrorStats,
    /// Each command's latencies.
    LatencyStats,
    /// Whether the server speaks the cluster protocol.
    Cluster,
    /// How many keys there are.
    Keyspace,
    /// The engine's shards.
    Corelane,
}

impl Section {
    /// All of them, in the order in which they are told.
    const ALL: [(Self, &str); 14] = [
        (Self::Server, "server"),
        (Self::Clients, "clients"),
        (Self::Memory, "memory"),
        (Self::Persistence, "persistence"),
        (Self::Stats, "stats"),
        (Self::Replication, "replication"),
        (Self::Cpu, "cpu"),
        (Self::Modules, "modules"),
        (Self::CommandStats, "commandstats"),
        (Self::ErrorStats, "errorstats"),
        (Self::LatencyStats, "latencystats"),
        (Self::Cluster, "cluster"),
        (Self::Keyspace, "keyspace"),
        (Self::Corelane, "corelane"),
    ];

    fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// Which sections are wanted: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sections(u16);

impl Sections {
    /// Those that a command line names; `default` where it names none. Unknown names ask for nothing. As in Redis 7
    /// `default` leaves out what is told command by command, and `all` the modules.
    pub fn named<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let everything = Section::ALL
            .iter()
            .fold(0, |all, (section, _)| all | section.bit());
        let all = everything & !Section::Modules.bit();
        let default = everything & !Section::CommandStats.bit() & !Section::LatencyStats.bit();
        let (mut wanted, mut any) = (0, false);
        for name in names {
            any = true;
            wanted |= match name.to_ascii_lowercase().as_slice() {
                b"everything" => everything,
                b"all" => all,
                b"default" => default,
                name => Section::ALL
                    .iter()
                    .filter(|(_, known)| known.as_bytes() == name)
                    .fold(0, |found, (section, _)| found | section.bit()),
            };
        }
        Self(if any { wanted } else { default })
    }

    /// Whether a section is among them.
    pub fn has(self, section: Section) -> bool {
        self.0 & section.bit() != 0
    }
}

/// What the text is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The process.
    pub server: &'a Server,
    /// The engine.
    pub stats: &'a Stats,
    /// How many keys there are, where they were counted; else their number is estimated from the tables' entries.
    pub keys: Option<u64>,
    /// The time since an arbitrary start.
    pub now: Duration,
    /// The time since the Unix epoch, in milliseconds.
    pub wall_clock_ms: u64,
}

/// The text of the sections that are wanted.
pub fn render(wanted: Sections, facts: &Facts<'_>) -> String {
    let mut page = Page::default();
    let sections = Section::ALL.iter().map(|(section, _)| *section);
    for section in sections.filter(|section| wanted.has(*section)) {
        match section {
            Section::Server => process::server(&mut page, facts),
            Section::Clients => process::clients(&mut page, facts),
            Section::Memory => memory::memory(&mut page, facts),
            Section::Persistence => traffic::persistence(&mut page, facts),
            Section::Stats => traffic::stats(&mut page, facts),
            Section::Replication => process::replication(&mut page),
            Section::Cpu => process::cpu(&mut page),
            Section::Modules => page.heading("Modules"),
            Section::CommandStats => commands::calls(&mut page, facts),
            Section::ErrorStats => commands::errors(&mut page, facts),
            Section::LatencyStats => commands::latencies(&mut page, facts),
            Section::Cluster => process::cluster(&mut page, facts),
            Section::Keyspace => shards::keyspace(&mut page, facts),
            Section::Corelane => shards::corelane(&mut page, facts),
        }
    }
    page.text()
}

/// A number of bytes for people, as Redis writes it.
#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T", "P"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{value:.2}{}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use corelane::api::{ClassTimes, Held, ShardStats};
    use corelane::io::Class;

    use super::*;
    use crate::testing::server;

    fn named(names: &[&str]) -> Sections {
        Sections::named(names.iter().map(|name| name.as_bytes()))
    }

    fn list(wanted: Sections) -> Vec<&'static str> {
        let all = Section::ALL.iter();
        all.filter(|(section, _)| wanted.has(*section))
            .map(|(_, name)| *name)
            .collect()
    }

    #[test]
    fn sections_are_chosen_by_name() {
        assert_eq!(named(&[]), named(&["default"]));
        assert_eq!(list(named(&["EVERYTHING"])).len(), Section::ALL.len());
        let all = list(named(&["all"]));
        assert!(all.contains(&"commandstats") && !all.contains(&"modules"));
        let default = list(named(&[]));
        assert!(!default.contains(&"commandstats") && !default.contains(&"latencystats"));
        assert_eq!(list(named(&["Server"])), ["server"]);
        assert_eq!(
            list(named(&["cpu", "nope", "clients", "cpu"])),
            ["clients", "cpu"]
        );
        assert_eq!(named(&["nope"]), Sections::default());
    }

    #[test]
    fn every_line_is_a_heading_a_gap_or_a_pair() {
        let mut times = ClassTimes::default();
        times.add(Class::Flush, Duration::from_millis(3), Duration::ZERO);
        let stats = Stats {
            shards: vec![ShardStats {
                table_entries: 9,
                core: 1,
                held: Some(Held {
                    tasks: 7,
                    ..Held::default()
                }),
                class_times: Some(times),
                ..ShardStats::default()
            }],
        };
        let server = server();
        server
            .telemetry()
            .core(0)
            .round(&[(0, true)], Duration::from_micros(5));
        let facts = |keys| Facts {
            server: &server,
            stats: &stats,
            keys,
            now: Duration::from_secs(1),
            wall_clock_ms: 1,
        };
        let text = render(named(&["everything"]), &facts(None));
        for line in text.split("\r\n") {
            assert!(
                line.is_empty() || line.starts_with("# ") || line.contains(':'),
                "{line:?}"
            );
        }
        for part in [
            "# Server",
            "# Clients",
            "# Memory",
            "# Persistence",
            "# Stats",
            "role:master\r\nconnected_slaves:0\r\n",
            "# CPU",
            "calls=1,usec=5,usec_per_call=5.00,rejected_calls=0,failed_calls=1\r\n",
            ":p50=5.000,p99=5.000,p99.9=5.000\r\n",
            "cluster_enabled:0\r\n",
            "db0:keys=9,",
            "exact=0",
            "# Corelane\r\nshard0:health=",
            "core1:tasks=7,timers=0,operations=0,files=0,",
            "core1_classes:foreground_us=0,foreground_stalls=0,foreground_longest_us=0,flush_us=3000,flush_stalls=1,\
             flush_longest_us=3000,",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert_eq!(render(Sections::default(), &facts(Some(3))), "");
        assert!(render(named(&["keyspace"]), &facts(Some(3))).contains("keys=3,expires=0,avg_ttl=0,exact=1"));
    }

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_536_000, "1.46M")] {
            assert_eq!(human(bytes), text);
        }
    }
}
