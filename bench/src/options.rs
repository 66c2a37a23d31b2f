//! The command line, and what it comes to: one plain, checked [`Setup`].

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::workload::Values;

/// Measures the corelane storage engine, the device under it, and its peers.
#[derive(Debug, Parser)]
#[command(name = "corelane-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the bench can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Durable puts, load, reads, misses and scans; every value verified, the raw device beside it.
    Figures(Figures),
}

/// The other engines that can be measured in the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// fjall, through its blocking interface.
    Fjall,
}

/// Which half of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Durable puts.
    Puts,
    /// Load, reads, misses and scans.
    Tree,
}

/// Flags of `figures`.
#[derive(Debug, Args)]
pub struct Figures {
    /// Directory for the databases; each is removed when it was measured. Put it on the device in question.
    #[arg(long)]
    pub dir: PathBuf,
    /// Entries to load [default: 4000000, or 400000 with --quick].
    #[arg(long)]
    pub entries: Option<u64>,
    /// A tenth of the data, of the cache and of the memtables, and a second for each figure.
    #[arg(long)]
    pub quick: bool,
    /// Numbers of shards to measure with, each shard on a core of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub shards: Vec<u16>,
    /// Peers to measure beside.
    #[arg(long, value_delimiter = ',')]
    pub peer: Vec<Peer>,
    /// Measure this part only.
    #[arg(long)]
    pub only: Option<Part>,
    /// Seconds for each figure that is bound by time [default: 5, or 1 with --quick].
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Values of random bytes alone; by default their second half is zeros.
    #[arg(long)]
    pub incompressible: bool,
    /// Block cache in MiB [default: 256, or 25 with --quick].
    #[arg(long)]
    pub cache_mib: Option<usize>,
    /// Memtable in MiB, per shard [default: 64, or 6 with --quick].
    #[arg(long)]
    pub memtable_mib: Option<usize>,
    /// How long an idle core polls before it sleeps, in microseconds.
    #[arg(long, default_value_t = 0)]
    pub spin_us: u64,
    /// Stores the raw figures in this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Everything the figures depend on.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where databases go.
    pub dir: PathBuf,
    /// Entries to load.
    pub entries: u64,
    /// Numbers of shards.
    pub shards: Vec<u16>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Only this part, or both.
    pub only: Option<Part>,
    /// Time for each figure bound by time.
    pub limit: Duration,
    /// How values look.
    pub values: Values,
    /// Block cache of a database.
    pub cache_bytes: usize,
    /// Memtable of a shard.
    pub memtable_bytes: usize,
    /// How long an idle core polls.
    pub spin: Duration,
    /// Where the raw figures go.
    pub json: Option<PathBuf>,
}

/// Fewest entries whose hot range is long enough to scan.
const MIN_ENTRIES: u64 = 10_000;

impl Figures {
    /// Checks the flags and fills in what was not given.
    ///
    /// # Errors
    /// Naming the flag, its value and its range.
    pub fn setup(&self) -> Result<Setup, String> {
        let entries = self.entries.unwrap_or(self.pick(400_000, 4_000_000));
        if !(MIN_ENTRIES..=1 << 40).contains(&entries) {
            return Err(format!("--entries {entries}: it must be {MIN_ENTRIES} to 2^40"));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for &shards in &self.shards {
            if shards == 0 || usize::from(shards) > cores {
                return Err(format!(
                    "--shards {shards}: it must be 1 to {cores}, the cores of this machine"
                ));
            }
        }
        let seconds = self.seconds.unwrap_or(self.pick(1, 5));
        if !(1..=3600).contains(&seconds) {
            return Err(format!("--seconds {seconds}: it must be 1 to 3600"));
        }
        let mib = |name: &str, given: Option<usize>, default: usize| match given.unwrap_or(default) {
            wanted @ 1..=4096 => Ok(wanted << 20),
            wanted => Err(format!("--{name} {wanted}: it must be 1 to 4096")),
        };
        if !self.dir.is_dir() {
            return Err(format!("--dir {}: it is not a directory", self.dir.display()));
        }
        Ok(Setup {
            dir: self.dir.clone(),
            entries,
            shards: self.shards.clone(),
            peers: self.peer.clone(),
            only: self.only,
            limit: Duration::from_secs(seconds),
            values: if self.incompressible {
                Values::Incompressible
            } else {
                Values::HalfCompressible
            },
            cache_bytes: mib("cache-mib", self.cache_mib, self.pick(25, 256))?,
            memtable_bytes: mib("memtable-mib", self.memtable_mib, self.pick(6, 64))?,
            spin: Duration::from_micros(self.spin_us),
            json: self.json.clone(),
        })
    }
}

impl Figures {
    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Setup {
    /// Whether this part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(flags: &[&str]) -> Result<Setup, String> {
        let all = ["corelane-bench", "figures", "--dir", "/"].iter().chain(flags);
        let Command::Figures(figures) = Cli::try_parse_from(all).unwrap().command;
        figures.setup()
    }

    #[test]
    fn the_defaults_are_those_of_the_published_table() {
        let setup = setup(&["--shards", "1"]).unwrap();
        assert_eq!(
            (setup.entries, setup.cache_bytes, setup.memtable_bytes),
            (4_000_000, 256 << 20, 64 << 20)
        );
        assert!(setup.wants(Part::Puts) && setup.wants(Part::Tree));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for flags in [
            ["--entries", "5"],
            ["--shards", "0"],
            ["--shards", "60000"],
            ["--seconds", "0"],
            ["--cache-mib", "0"],
        ] {
            assert!(setup(&flags).unwrap_err().starts_with(flags[0]), "{flags:?}");
        }
    }
}
