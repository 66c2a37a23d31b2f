//! What a server holds, as it says itself and as the kernel does; and what of it leaked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use redis::{Connection, cmd};
use serde::{Deserialize, Serialize};

use crate::cost::proc::Usage;
use crate::error::BenchError;

/// What a core counts that must be no more than before once all clients have gone.
const RETURN: [&str; 6] = [
    "tasks",
    "timers",
    "operations",
    "sockets",
    "receive_buffers",
    "file_buffers",
];

/// Rounds from which on memory can be judged: the first ones fill caches and the allocator's own stores.
const JUDGED_ROUNDS: usize = 4;
/// Memory by which a server may be larger than it was half-way, at least: the allocator keeps what the largest moments needed,
/// and those of some seconds are not all alike.
const ALLOWED_GROWTH_BYTES: u64 = 64 << 20;

/// What is wrong with the memory that was resident at rest after each round: in words, if anything is. At half of the rounds
/// it must have reached about what it will ever be, because keys, cache and memtables are bounded by then.
pub fn grown(resident: &[u64]) -> Option<String> {
    let (first, _) = resident.split_at(resident.len() / 2);
    let (most, last) = (*first.iter().max()?, *resident.last()?);
    let allowed = most + ALLOWED_GROWTH_BYTES.max(most / 4);
    (resident.len() >= JUDGED_ROUNDS && last > allowed).then(|| {
        format!(
            "memory at rest: {} MiB at most in the first half of the rounds, {} MiB after the last",
            most >> 20,
            last >> 20
        )
    })
}

/// What is held at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Clients that are connected, the one that asks included.
    pub clients: u64,
    /// What each core counts, by the core's and the count's names; empty where the runtime does not count.
    pub cores: BTreeMap<String, BTreeMap<String, u64>>,
    /// The process's descriptors.
    pub descriptors: Descriptors,
    /// Memory resident.
    pub resident_bytes: u64,
}

/// Descriptors of a process, by what they are of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// Sockets.
    pub sockets: u64,
    /// Files and directories of the database.
    pub data: u64,
    /// Of these, second and further ones of the same file.
    pub doubled: u64,
    /// Files that have no name any more.
    pub removed: u64,
    /// All others.
    pub others: u64,
}

impl Counts {
    /// Asks the server and the kernel.
    ///
    /// # Errors
    /// The server does not answer, or has ended.
    pub fn read(connection: &mut Connection, pid: u32, data: &Path) -> Result<Self, BenchError> {
        let info: String = cmd("INFO")
            .arg("clients")
            .arg("corelane")
            .query(connection)
            .map_err(|e| BenchError::engine("asking the server what it holds", e))?;
        let dir = PathBuf::from(format!("/proc/{pid}/fd"));
        let entries = std::fs::read_dir(&dir).map_err(|e| BenchError::file("listing", &dir, e))?;
        // One that is closed meanwhile is no descriptor any more.
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let (clients, cores) = told(&info);
        Ok(Self {
            clients,
            cores,
            descriptors: sorted(targets, data),
            resident_bytes: Usage::of(pid)?.resident_bytes,
        })
    }

    /// The sum of one count over all cores.
    fn total(&self, name: &str) -> u64 {
        let counts = self.cores.values();
        counts.filter_map(|core| core.get(name)).sum()
    }

    /// Whether a core reads or writes a file now. What it holds for that would hide a leak of as much.
    pub fn transfers(&self) -> bool {
        self.total("file_buffers") > 0
    }

    /// Whether the cores count at all.
    pub fn is_counted(&self) -> bool {
        !self.cores.is_empty()
    }

    /// What is held now that was not `before`, in words, one for each. Files of the database are no leak, but then the kernel
    /// must know as many as the cores do, and no more registered ones than open ones.
    pub fn leaked_since(&self, before: &Self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut compare = |what: String, then: u64, now: u64| {
            if now > then {
                leaks.push(format!("{what}: {then} before, {now} after"));
            }
        };
        let none = BTreeMap::new();
        for (core, counts) in &self.cores {
            let then = before.cores.get(core).unwrap_or(&none);
            for name in RETURN {
                let of = |counts: &BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
                compare(format!("{name} of {core}"), of(then), of(counts));
            }
        }
        let (then, now) = (&before.descriptors, &self.descriptors);
        compare("connected clients".to_owned(), before.clients, self.clients);
        compare("descriptors of sockets".to_owned(), then.sockets, now.sockets);
        compare("descriptors of one file".to_owned(), then.doubled, now.doubled);
        compare(
            "descriptors of removed files".to_owned(),
            then.removed,
            now.removed,
        );
        compare("other descriptors".to_owned(), then.others, now.others);
        if self.is_counted() {
            // The lock is open behind the cores' backs, from the start on.
            let uncounted = |counts: &Self| counts.descriptors.data.saturating_sub(counts.total("files"));
            compare(
                "descriptors of files that no core counts".to_owned(),
                uncounted(before),
                uncounted(self),
            );
            compare(
                "registered files beside open ones".to_owned(),
                self.total("files"),
                self.total("registered_files"),
            );
        }
        leaks
    }
}

/// The clients and each core's counts, of `INFO`'s lines `connected_clients:1` and `core0:tasks=1,timers=2`.
fn told(info: &str) -> (u64, BTreeMap<String, BTreeMap<String, u64>>) {
    let (mut clients, mut cores) = (0, BTreeMap::new());
    for (name, value) in info.lines().filter_map(|line| line.trim().split_once(':')) {
        if name == "connected_clients" {
            clients = value.parse().unwrap_or(0);
        } else if is_core(name) {
            let fields = value.split(',').filter_map(|field| field.split_once('='));
            let counts = fields.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
            cores.insert(name.to_owned(), counts.collect());
        }
    }
    (clients, cores)
}

/// Whether a line is of what a core holds; others that begin so tell what it has done, which grows for ever.
fn is_core(name: &str) -> bool {
    let number = name.strip_prefix("core");
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Descriptors by what `/proc/PID/fd` says that they are of; the database lies in `data`.
fn sorted(targets: impl Iterator<Item = PathBuf>, data: &Path) -> Descriptors {
    let (mut found, mut seen) = (Descriptors::default(), BTreeSet::new());
    for target in targets {
        let text = target.to_string_lossy();
        if text.starts_with("socket:") {
            found.sockets += 1;
        } else if !target.starts_with(data) {
            found.others += 1;
        } else if text.ends_with(" (deleted)") {
            found.removed += 1;
        } else {
            found.data += 1;
            found.doubled += u64::from(!seen.insert(target));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let info = [
            "# Clients\r\nconnected_clients:3\r\nmaxclients:9\r\n\r\n",
            "# Corelane\r\nshard0:health=ok,wal_writes=1,stall=none\r\n",
            "core0:tasks=4,files=2\r\ncore1:tasks=5\r\ncore0_classes:flush_us=9\r\n",
        ]
        .concat();
        let (clients, cores) = told(&info);
        assert_eq!((clients, cores.len()), (3, 2));
        assert_eq!((cores["core0"]["files"], cores["core1"]["tasks"]), (2, 5));
    }

    #[test]
    fn descriptors_are_sorted_by_what_they_are_of() {
        let targets = [
            "socket:[1]",
            "anon_inode:[io_uring]",
            "/d/LOCK",
            "/d/shard-0000/1.sst",
            "/d/shard-0000/1.sst",
            "/d/shard-0000/2.sst (deleted)",
            "/dev/null",
        ];
        let found = sorted(targets.iter().map(PathBuf::from), Path::new("/d"));
        let wanted = Descriptors {
            sockets: 1,
            data: 3,
            doubled: 1,
            removed: 1,
            others: 2,
        };
        assert_eq!(found, wanted);
    }

    #[test]
    fn memory_that_grows_from_round_to_round_is_told() {
        let rounds = |mib: &[u64]| mib.iter().map(|mib| mib << 20).collect::<Vec<_>>();
        for fine in [
            &[][..],
            &[100],
            &[100, 900],
            &[100, 400, 410, 420, 400, 470],
            &[10, 20, 30, 80],
        ] {
            assert_eq!(grown(&rounds(fine)), None, "{fine:?}");
        }
        let told = grown(&rounds(&[100, 400, 450, 500, 550, 600])).expect("it grows");
        assert!(told.contains("450 MiB") && told.contains("600 MiB"), "{told}");
    }

    fn counts(core: &[(&str, u64)], descriptors: Descriptors) -> Counts {
        let core = core.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Counts {
            clients: 1,
            cores: BTreeMap::from([("core0".to_owned(), core)]),
            descriptors,
            resident_bytes: 0,
        }
    }

    #[test]
    fn whatever_is_more_than_before_has_leaked_but_for_files_that_are_counted() {
        let data = |data| Descriptors {
            data,
            ..Descriptors::default()
        };
        let before = counts(&[("tasks", 5), ("files", 2), ("registered_files", 2)], data(3));
        let more_files = counts(&[("tasks", 4), ("files", 9), ("registered_files", 8)], data(10));
        assert!(more_files.leaked_since(&before).is_empty());
        let leaks = |core: &[(&str, u64)], descriptors| counts(core, descriptors).leaked_since(&before);
        let whole = [("files", 2), ("registered_files", 2)];
        for name in RETURN {
            let leaked = leaks(&[&whole[..], &[(name, 9)]].concat(), data(3));
            assert!(leaked.len() == 1 && leaked[0].contains(name), "{leaked:?}");
        }
        assert_eq!(leaks(&whole, data(4)).len(), 1, "a file that no core knows of");
        assert_eq!(leaks(&[("files", 2), ("registered_files", 3)], data(3)).len(), 1);
        let of = Descriptors {
            sockets: 1,
            data: 3,
            doubled: 1,
            removed: 1,
            others: 1,
        };
        assert_eq!(leaks(&whole, of).len(), 4);
        let mut stays = before.clone();
        stays.clients = 2;
        assert_eq!(stays.leaked_since(&before).len(), 1);
    }
}
