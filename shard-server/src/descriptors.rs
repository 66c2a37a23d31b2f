//! How many clients the limit on open files allows: each holds a descriptor, and so does much else.
//!
//! What else there is is counted here, generously, before anything is opened: a client that is refused at the door can be
//! told so, a flush that finds no descriptor cannot wait for long.

use std::fs::DirEntry;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::listen::MAX_CONNECTIONS as ADMIN_CONNECTIONS;
use crate::serve::say;

/// Standard streams, the log, the pipes of signals, the database's lock, the admin plane's runtime and listener, looks at
/// `/proc`, certificates while they are read: some 20 at once.
const OF_THE_PROCESS: u64 = 64;

/// Three rings, an eventfd, up to three listeners, and clients that are turned away while they are told so.
const OF_A_CORE: u64 = 32;

/// The manifest, the log's segment in use and its spare, and, while they are made, the next of each, a flush's table and
/// those of merges, whose inputs live as long as somebody reads them.
const OF_A_SHARD: u64 = 16;

/// Every table holds one. There may be twice as many as were found at the start, and this many at least: 64 GiB in tables
/// of the usual 64 MiB.
const FEWEST_TABLES: u64 = 1024;

/// What there is beside clients that holds descriptors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// Cores.
    pub cores: u64,
    /// Shards.
    pub shards: u64,
    /// Tables that are there already.
    pub tables: u64,
    /// Whether there is an admin plane.
    pub admin: bool,
}

impl Others {
    /// Looks: at the shards of the database in `data_dir`, or as many as are `wanted` where there is none yet.
    pub fn look(data_dir: &Path, wanted: usize, cores: usize, admin: bool) -> Self {
        let shards: Vec<_> = entries(data_dir)
            .filter(|entry| named(entry, "shard-", ""))
            .collect();
        let tables = shards.iter().flat_map(|shard| entries(&shard.path()));
        Self {
            cores: cores as u64,
            shards: if shards.is_empty() { wanted } else { shards.len() } as u64,
            tables: tables.filter(|entry| named(entry, "", ".sst")).count() as u64,
            admin,
        }
    }

    /// Descriptors that they hold without any client, as things are.
    fn files_now(&self) -> u64 {
        OF_THE_PROCESS + self.cores * OF_A_CORE + self.shards * OF_A_SHARD + self.tables
    }

    /// Descriptors that they hold at most, tables to come and clients of the admin plane included.
    pub fn files(&self) -> u64 {
        let tables_to_come = self.tables.max(FEWEST_TABLES.saturating_sub(self.tables));
        let admin = if self.admin { ADMIN_CONNECTIONS as u64 } else { 0 };
        self.files_now() + tables_to_come + admin
    }
}

/// What is in a directory; nothing where it cannot be read: whoever opens it says why.
#[expect(
    clippy::disallowed_methods,
    reason = "names alone are looked at, before any executor is there that could be asked"
)]
fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten()
}

fn named(entry: &DirEntry, start: &str, end: &str) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    name.starts_with(start) && name.ends_with(end)
}

/// Raises the soft limit on open files to the hard one: every client and every table holds a descriptor. Returns how
/// many there may be; `None` for as many as wanted.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    if raised.is_ok() { maximum } else { current }
}

/// How many of `wanted` clients there can be with so many descriptors beside `others`. Fewer than wanted is said, none is
/// refused. Where the limit leaves nothing beside what may come, clients get a quarter of what is left today: a database that
/// has grown, or moved to a larger machine, must not stay closed for what it may need one day.
///
/// # Errors
/// There can be none, in words for an operator.
pub fn clients_that_fit(wanted: usize, descriptors: Option<u64>, others: &Others) -> Result<usize, String> {
    let Some(descriptors) = descriptors else {
        return Ok(wanted);
    };
    let files = others.files();
    let today = descriptors.saturating_sub(others.files_now()) / 4;
    let fit = usize::try_from(descriptors.saturating_sub(files).max(today)).unwrap_or(usize::MAX);
    if fit >= wanted {
        return Ok(wanted);
    }
    let needed = wanted as u64 + files;
    let mend = format!("to mend it: ulimit -n {needed} (LimitNOFILE={needed} in the systemd unit)");
    if fit == 0 {
        return Err(format!(
            "open files: the limit is {descriptors}, and tables, logs and rings hold {}; {mend}",
            others.files_now()
        ));
    }
    say(format_args!(
        "warning: open files: the limit is {descriptors}, so that {fit} clients are let in rather than {wanted}; {mend}, \
         or a smaller --max-clients"
    ));
    Ok(fit)
}

/// Has the kernel's table of this process's descriptors be long enough for `wanted` of them, of which there may be `limit`.
///
/// The table doubles as it fills, and a process with threads waits for that until every processor has come by
/// (`synchronize_rcu` in `expand_fdtable`, `fs/file.c`): 5 to 25 ms in which a shard's core that accepts its 257th, 513th,
/// 1025th descriptor does nothing else. At the start nobody waits for it, and the table never shrinks.
pub fn make_room(wanted: u64, limit: Option<u64>) {
    let highest = limit.map_or(wanted, |limit| wanted.min(limit)).saturating_sub(1);
    let Ok(highest) = i32::try_from(highest) else {
        return;
    };
    // The descriptor goes again at once. Where there is none to be had, the table grows as it fills.
    let _made = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), highest).is_ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five to twenty-five ms passed for everybody on a core each time the number of clients had doubled.
    #[test]
    fn the_table_of_descriptors_is_as_long_as_it_will_be() {
        let length = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        let limit = raise_limit();
        let wanted = (2 * length() + 1).min(limit.unwrap_or(u64::MAX));
        make_room(wanted, limit);
        assert!(length() >= wanted, "{} of {wanted}", length());
        make_room(u64::MAX, Some(length()));
    }

    const ONE: Others = Others {
        cores: 1,
        shards: 1,
        tables: 0,
        admin: false,
    };

    #[test]
    fn clients_are_as_many_as_descriptors_allow() {
        let fit = |wanted, descriptors| clients_that_fit(wanted, descriptors, &ONE);
        let files = ONE.files();
        assert_eq!(fit(1000, None), Ok(1000));
        assert_eq!(fit(1000, Some(files + 1000)), Ok(1000));
        assert_eq!(fit(1000, Some(files + 999)), Ok(999));
        let why = fit(1000, Some(ONE.files_now() + 3)).unwrap_err();
        assert!(why.contains(&format!("ulimit -n {}", files + 1000)), "{why}");
    }

    /// A database of 1,456 tables ran with 4,096 descriptors, and could not be started again: twice its tables and all
    /// connections of the admin plane did not fit beside it.
    #[test]
    fn a_database_that_has_grown_is_opened_with_fewer_clients() {
        let grown = Others {
            cores: 2,
            shards: 2,
            tables: 1456,
            admin: true,
        };
        assert!(grown.files() >= 4096);
        let fit = clients_that_fit(2000, Some(4096), &grown).unwrap();
        assert_eq!(fit as u64, (4096 - grown.files_now()) / 4);
    }

    /// A fixed 1024 was kept for everything but clients, and the admin plane alone takes as many connections: with all of
    /// them, or with a large database, clients took the descriptors that flushes and merges needed.
    #[test]
    fn everything_that_holds_descriptors_is_counted() {
        let with = |change: fn(&mut Others)| {
            let mut others = ONE;
            change(&mut others);
            others.files() - ONE.files()
        };
        assert_eq!(with(|others| others.admin = true), ADMIN_CONNECTIONS as u64);
        assert!(
            with(|others| others.cores = 8) >= 7 * 7,
            "3 rings, an eventfd, 3 listeners"
        );
        assert!(
            with(|others| others.shards = 8) >= 7 * 6,
            "manifest, log, what is being made"
        );
        assert_eq!(
            with(|others| others.tables = 100),
            0,
            "these are among those to come"
        );
        assert_eq!(with(|others| others.tables = 10_000), 20_000 - FEWEST_TABLES);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a database's directory in outline")]
    fn shards_and_tables_are_counted_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let look = || Others::look(dir.path(), 4, 2, true);
        assert_eq!((look().shards, look().tables), (4, 0));
        for shard in ["shard-0000", "shard-0001"] {
            std::fs::create_dir(dir.path().join(shard)).unwrap();
            for file in ["00000001.wal", "00000002.sst", "00000003.sst", "manifest"] {
                std::fs::write(dir.path().join(shard).join(file), "").unwrap();
            }
        }
        let there = Others {
            cores: 2,
            shards: 2,
            tables: 4,
            admin: true,
        };
        assert_eq!(look(), there);
        let nowhere = Others::look(Path::new("/nowhere"), 3, 1, false);
        assert_eq!((nowhere.shards, nowhere.tables), (3, 0));
    }
}
