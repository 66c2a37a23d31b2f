//! The command line: raw flags as typed ([`Cli`]), and what they mean once checked ([`ServeOptions`]).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corelane::api::Durability;

/// A key-value server over the Corelane engine that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what happens without a subcommand, too).
    Serve(ServeFlags),
}

/// The flags of `serve`, as typed.
#[derive(Debug, Clone, Args)]
pub struct ServeFlags {
    /// Directory of the data; created if it is not there.
    #[arg(long, value_name = "DIR", default_value = "./corelane-data")]
    data_dir: PathBuf,
    /// Address to listen on. Only loopback addresses for now: there is no authentication yet.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port to listen on; 0 lets the kernel choose.
    #[arg(long, default_value_t = 7379)]
    port: u16,
    /// Cores to run on, such as `0-1` or `0,2-3`. Default: all that this process may use.
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Number of shards, fixed when the data is created. Default: one a core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    shards: Option<u16>,
    /// When a write is acknowledged: once on stable storage, once staged for it, or never logged.
    #[arg(long, value_enum, default_value_t = DurabilityFlag::Sync)]
    durability: DurabilityFlag,
    /// Block cache in MiB, over all shards.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    cache_mib: u32,
    /// Size in MiB at which a shard's memtable is written out as a table.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2048))]
    memtable_mib: u32,
    /// Most clients at once; more are turned away.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_clients: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DurabilityFlag {
    Sync,
    Buffered,
    None,
}

/// What the server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// Directory of the data.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub address: SocketAddr,
    /// The cores to run on; `None` for all.
    pub cores: Option<Vec<usize>>,
    /// Number of shards; `None` for as many as there are, or one a core.
    pub shards: Option<u16>,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// Block cache in bytes.
    pub cache_bytes: usize,
    /// Memtable size in bytes.
    pub memtable_bytes: usize,
    /// Most clients at once.
    pub max_clients: usize,
}

impl Cli {
    /// What was asked for.
    ///
    /// # Errors
    /// A flag that makes no sense, in words for whoever typed it.
    pub fn options(self) -> Result<ServeOptions, String> {
        let flags = match self.command {
            Some(Command::Serve(flags)) => flags,
            None => self.serve,
        };
        if !flags.bind.is_loopback() {
            return Err(format!(
                "--bind {}: this version has no authentication, so that anyone who reaches this address could read \
                 and change all data; bind to 127.0.0.1 (or ::1) and reach it through an SSH tunnel",
                flags.bind
            ));
        }
        Ok(ServeOptions {
            address: SocketAddr::new(flags.bind, flags.port),
            cores: flags.cores.as_deref().map(parse_cores).transpose()?,
            shards: flags.shards,
            durability: match flags.durability {
                DurabilityFlag::Sync => Durability::Sync,
                DurabilityFlag::Buffered => Durability::Buffered,
                DurabilityFlag::None => Durability::None,
            },
            cache_bytes: bytes(flags.cache_mib),
            memtable_bytes: bytes(flags.memtable_mib),
            max_clients: usize::try_from(flags.max_clients).unwrap_or(usize::MAX),
            data_dir: flags.data_dir,
        })
    }
}

fn bytes(mib: u32) -> usize {
    usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX)
}

/// Most cores that a list may name: more than any machine has, few enough to hold.
const MAX_CORES: usize = 4096;

/// The cores of a list such as `0-1` or `0,2-3`, each once, ascending.
fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let bad =
        |part: &str| format!("--cores {list}: {part:?} is neither a core's number nor a range such as 0-3");
    let mut cores = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&core| core < MAX_CORES);
        let (first, last) = number(first).zip(number(last)).ok_or_else(|| bad(part))?;
        if first > last {
            return Err(bad(part));
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(flags: &[&str]) -> Result<ServeOptions, String> {
        Cli::try_parse_from(["corelane"].iter().chain(flags))
            .map_err(|error| error.to_string())?
            .options()
    }

    #[test]
    fn no_subcommand_means_serve() {
        let bare = options(&[]).unwrap();
        assert_eq!(bare, options(&["serve"]).unwrap());
        assert_eq!(bare.address, "127.0.0.1:7379".parse().unwrap());
        assert_eq!((bare.durability, bare.cache_bytes), (Durability::Sync, 256 << 20));
        let flags = [
            "--port",
            "1",
            "--durability",
            "buffered",
            "--shards",
            "4",
            "--cores",
            "0-1",
        ];
        let typed = options(&flags).unwrap();
        assert_eq!(typed, options(&[&["serve"], flags.as_slice()].concat()).unwrap());
        assert_eq!((typed.shards, typed.cores), (Some(4), Some(vec![0, 1])));
    }

    #[test]
    fn an_address_beyond_this_machine_is_refused_with_the_reason() {
        assert!(
            options(&["--bind", "0.0.0.0"])
                .unwrap_err()
                .contains("no authentication")
        );
        assert!(options(&["--bind", "::1"]).is_ok());
    }

    #[test]
    fn core_lists_are_ranges_and_numbers() {
        assert_eq!(parse_cores("0"), Ok(vec![0]));
        assert_eq!(parse_cores("2-3,0,3"), Ok(vec![0, 2, 3]));
        for list in ["", "a", "1-", "-1", "3-1", "0,,1", "99999999", "0-99999999999"] {
            assert!(parse_cores(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_their_flag() {
        for flags in [
            ["--shards", "0"],
            ["--shards", "1001"],
            ["--cache-mib", "0"],
            ["--memtable-mib", "4097"],
        ] {
            assert!(options(&flags).unwrap_err().contains(flags[0]), "{flags:?}");
        }
    }
}
