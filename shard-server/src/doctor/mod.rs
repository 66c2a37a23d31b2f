//! `corelane doctor`: looks at the machine as the server will find it, and says what hurts, why, and what mends it.
//!
//! Looking and judging are apart. Each file has a `read` that gathers facts below a root (`/`, or a made-up tree in a
//! test) and a `judge` that is pure. What the server checks itself at its start comes first, from the same function.

pub mod container;
pub mod cpu;
pub mod device;
pub mod finding;
pub mod kernel;
pub mod mount;
pub mod root;
pub mod space;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use corelane::io::checks;
use corelane::io::cores::available_cores;

use crate::config::Config;
use crate::config::flags::ServeFlags;
use crate::console::run::complain;
use crate::serve::NEEDED;
use crate::tools::print;
use finding::Finding;
use root::Root;

/// Memory of one executor beside memtables and cache, at most: its three rings' buffers, tasks and tables' indexes.
const CORE_BYTES: u64 = 64 << 20;

/// Memtables that one shard may hold at once: the one that fills, and one that is being written out.
const MEMTABLES: u64 = 2;

/// The flags of `doctor`, as typed.
#[derive(Debug, Args)]
pub struct DoctorFlags {
    /// Print the findings as JSON.
    #[arg(long, conflicts_with = "fix_hints")]
    json: bool,
    /// Print only what mends what was found, to be read before it is run: commands, and words where none does.
    #[arg(long)]
    fix_hints: bool,
    #[command(flatten)]
    serve: ServeFlags,
}

/// Prints the report; 0 if all is well, 1 with warnings, 2 with failures, or if the configuration is not sound.
pub fn run(flags: &DoctorFlags) -> ExitCode {
    let config = match flags.serve.load() {
        Ok(loaded) => loaded.config,
        Err(why) => {
            complain(format_args!("corelane: {why}"));
            return ExitCode::from(2);
        }
    };
    let findings = examine(&Root::new("/"), &config);
    if flags.json {
        let text = serde_json::to_string_pretty(&findings).expect("texts can always be written as JSON");
        print(format_args!("{text}\n"));
    } else if flags.fix_hints {
        print(finding::hints(&findings));
    } else {
        print(finding::report(&findings));
    }
    ExitCode::from(finding::worst(&findings).status())
}

/// Everything that was found.
fn examine(root: &Root, config: &Config) -> Vec<Finding> {
    let cores = match config.server.core_list() {
        Ok(Some(cores)) => cores,
        Ok(None) | Err(_) => available_cores(),
    };
    let data_dir = absolute(&config.storage.data_dir);
    let there = data_dir
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("/"));
    let mut findings: Vec<_> = checks::check_machine(&data_dir, cores.len())
        .into_iter()
        .map(|check| {
            let needed = NEEDED.contains(&check.name);
            Finding::of_start(check, needed)
        })
        .collect();
    findings.extend(kernel::judge(&kernel::read(root)));
    let mount = mount::read(root, &there.canonicalize().unwrap_or_else(|_| there.to_owned()));
    findings.extend(mount::judge(mount.as_ref()));
    let devices = mount.map_or_else(Vec::new, |mount| device::read(root, &mount.device));
    findings.extend(device::judge(&devices));
    findings.extend(cpu::judge(&cpu::read(root, &cores), &cores, &devices));
    let memtables = memtable_bytes(config, cores.len());
    let memory = memtables + (u64::from(config.storage.cache_mib) << 20) + CORE_BYTES * cores.len() as u64;
    findings.extend(container::judge(&container::read(root), cores.len(), memory));
    findings.extend(match space::read(&data_dir, there) {
        Ok(room) => space::judge(room, memtables, &data_dir),
        Err(error) => vec![Finding::fail(
            "free space",
            format!("{}: {error}", there.display()),
            "the data cannot be kept there",
            format!("look at it: ls -ld {0}; df {0}", there.display()),
        )],
    });
    findings
}

/// What all shards' memtables may take in memory, and the log that covers them on the device.
fn memtable_bytes(config: &Config, cores: usize) -> u64 {
    let shards = config.storage.shards.map_or(cores as u64, u64::from);
    (u64::from(config.storage.memtable_mib) << 20) * MEMTABLES * shards
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
