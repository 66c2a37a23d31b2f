//! `corelane-bench hostile`: each kind of harm in turn, in rounds.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::cost::proc::{Usage, reset_peak};
use crate::device::command::progress;
use crate::device::stop::Stop;
use crate::error::BenchError;
use crate::hostile::clients::Served;
use crate::hostile::figures::{self, Figure, Found, Server};
use crate::hostile::house::{self, Cores, Hostile};
use crate::hostile::kinds::{Kind, SECRET, USER};
use crate::hostile::polite::{Heard, Polite};
use crate::result::Environment;
use crate::servers::peer::Peer;

/// Between the end of the harm and the next measurement: the server closes what the hostile left open.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Measures what hostile clients cost the polite ones.
#[derive(Debug, Clone, Args)]
pub struct HostileArgs {
    /// A directory on the device; each server's data is written below it and removed.
    #[arg(long)]
    pub dir: PathBuf,
    /// Our server's binary, of a release build.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: PathBuf,
    /// Kinds of harm; all where none is named.
    #[arg(long, value_delimiter = ',')]
    pub kinds: Vec<Kind>,
    /// Polite operations a second, half of them reads.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Seconds of each measurement; each kind has four.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Runs of each kind; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Leaves the controls out.
    #[arg(long)]
    pub no_control: bool,
    /// Where to store the figures as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Runs all and gives the tables.
///
/// # Errors
/// A program is missing or fails, an answer to a polite client is wrong, `--out` cannot be written.
pub fn command(args: &HostileArgs, stop: &Stop) -> Result<String, BenchError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let split = Cores::split(cores.iter().map(|core| core.id).collect())?;
    // Threads that are begun from here on stay there too: all polite clients do.
    let polite_first = split.take()?;
    let kinds = if args.kinds.is_empty() {
        Kind::value_variants()
    } else {
        &args.kinds
    };
    let work = tempfile::Builder::new()
        .prefix("corelane-hostile-")
        .tempdir_in(&args.dir)
        .map_err(|e| BenchError::file("making a directory in", &args.dir, e))?;
    let bar = progress(kinds.len() * args.rounds as usize, "starting");
    let mut found = Found {
        environment: Environment::here(&args.dir, "none"),
        rate: f64::from(args.rate),
        polite_first,
        figures: Vec::new(),
    };
    for round in 0..args.rounds {
        for &kind in kinds {
            if stop.asked() {
                break;
            }
            bar.set_message(format!("round {}, {}", round + 1, kind.name()));
            let dir = work.path().join(format!("{round}-{kind:?}"));
            let turn = Turn {
                args,
                cores: &split,
                kind,
                dir: &dir,
            };
            found
                .figures
                .push(turn.measure().map_err(|e| e.while_doing(kind.name()))?);
            std::fs::remove_dir_all(&dir).map_err(|e| BenchError::file("removing", &dir, e))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(out) = &args.out {
        store(out, &found)?;
    }
    let interrupted = if stop.asked() {
        "interrupted: not every kind was measured in every round\n"
    } else {
        ""
    };
    Ok(figures::show(&found) + interrupted)
}

/// One kind in one round, on a server of its own.
struct Turn<'a> {
    args: &'a HostileArgs,
    cores: &'a Cores,
    kind: Kind,
    dir: &'a Path,
}

impl Turn<'_> {
    fn measure(&self) -> Result<Figure, BenchError> {
        let load = load_now();
        let peer = house::start(
            &self.args.corelane,
            &self.dir.join("server"),
            self.cores,
            self.kind,
            false,
        )?;
        let mut polite = self.enter(&peer)?;
        let (before, alone_cpu) = costed(&peer, &mut polite)?;
        let before_bytes = Usage::of(peer.pid())?.resident_bytes;
        reset_peak(Some(peer.pid()));
        let hostile = Hostile::start(self.kind, peer.port, self.cores)?;
        let (beside, cpu) = costed(&peer, &mut polite)?;
        let peak_bytes = Usage::of(peer.pid())?.peak_bytes;
        let served = hostile.end()?;
        sleep(AFTERMATH);
        let (after, _) = costed(&peer, &mut polite)?;
        let control = if self.args.no_control {
            None
        } else {
            Some(self.control(&mut polite)?)
        };
        Ok(Figure {
            kind: self.kind,
            load,
            alone: (&before.clone().with(&after)).into(),
            before: (&before).into(),
            after: (&after).into(),
            beside: (&beside).into(),
            control: control.as_ref().map(|(heard, _)| heard.into()),
            served,
            control_served: control.map(|(_, served)| served),
            server: Server {
                cpu_share: cpu,
                cpu_share_alone: alone_cpu,
                before_bytes,
                peak_bytes,
            },
        })
    }

    fn enter(&self, peer: &Peer) -> Result<Polite, BenchError> {
        let who = if self.kind.has_users() {
            format!("{USER}:{SECRET}@")
        } else {
            String::new()
        };
        let address = format!("{who}127.0.0.1:{}", peer.port);
        Polite::enter(&address, f64::from(self.args.rate), f64::from(self.args.seconds))
    }

    /// The same harm, to a server that polite clients do not use.
    fn control(&self, polite: &mut Polite) -> Result<(Heard, Served), BenchError> {
        let decoy = house::start(
            &self.args.corelane,
            &self.dir.join("decoy"),
            self.cores,
            self.kind,
            true,
        )?;
        let hostile = Hostile::start(self.kind, decoy.port, self.cores)?;
        let heard = polite.measure()?;
        Ok((heard, hostile.end()?))
    }
}

/// Measures, and tells how many processor seconds a second the server took.
fn costed(peer: &Peer, polite: &mut Polite) -> Result<(Heard, f64), BenchError> {
    let (before, began) = (Usage::of(peer.pid())?, Instant::now());
    let heard = polite.measure()?;
    let cpu = Usage::of(peer.pid())?.since(&before).cpu_seconds;
    Ok((heard, cpu / began.elapsed().as_secs_f64()))
}

/// The load average of the last minute.
fn load_now() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn store(out: &Path, found: &Found) -> Result<(), BenchError> {
    let text = serde_json::to_string_pretty(found)
        .map_err(|e| BenchError::bug(format!("figures do not become JSON: {e}")))?;
    std::fs::write(out, text + "\n").map_err(|e| BenchError::file("writing", out, e))
}
