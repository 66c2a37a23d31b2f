//! `corelane-bench fio`: runs `fio-profiles/*.fio`, and the raw loop with the same patterns over the same files in between.
//!
//! Each group of jobs that run side by side is measured by itself: raw, fio, raw, fio, …, raw, so that a drift of the
//! device meets both. Both pin their jobs alike, the first on the first core and so on: beside other programs' load a
//! pinned thread waits for its core where another would move, which is no difference between devices.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use comfy_table::{Table, presets};

use crate::device::command::{progress, seconds};
use crate::device::drive::{Figure, Work, run_together};
use crate::device::pattern::Space;
use crate::device::profile::micros;
use crate::device::stop::Stop;
use crate::device::target::{self, Target};
use crate::error::{BenchError, Kind};
use crate::fio::output::{self, Measured};
use crate::fio::profile::{self, Job, PROFILES};
use crate::fio::verdict::{self, Measure, Verdict};

/// Runs fio's profiles beside the raw loop and says whether the two agree.
#[derive(Debug, Clone, Args)]
pub struct FioArgs {
    /// A directory on the device; files of --size are written there and removed at the end.
    #[arg(long)]
    pub dir: PathBuf,
    /// One profile instead of all: wal-group-commit, flush, compaction, point-read, scan, mixed.
    #[arg(long)]
    pub profile: Option<String>,
    /// Size of each file in MiB; let it be larger than any cache of the device.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=1 << 24))]
    pub size_mib: u64,
    /// Seconds of each run (whole ones, as fio takes them).
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Runs of fio for each job; the raw loop runs before, between and after them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// A job and what both reached, run after run.
#[derive(Debug)]
struct Row {
    profile: &'static str,
    job: Job,
    measures: Vec<Measure>,
}

/// Runs the profiles and gives the table. That the two disagree is said, and is no error.
///
/// # Errors
/// fio is not installed, failed, or printed what is not understood; no such profile; as the raw loop's.
pub fn command(args: &FioArgs, stop: &Stop) -> Result<String, BenchError> {
    let chosen = choose(args.profile.as_deref())?;
    let version = version()?;
    target::on_a_device(&args.dir)?;
    // Data, log and output of a merge, and one file of fresh extents.
    target::has_room(&args.dir, 4 * (args.size_mib << 20))?;
    let work = tempfile::Builder::new()
        .prefix("corelane-fio-")
        .tempdir_in(&args.dir)
        .map_err(|e| BenchError::file("making a directory in", &args.dir, e))?;
    let mut rows = Vec::new();
    let groups: Vec<_> = chosen
        .iter()
        .flat_map(|(profile, groups)| groups.iter().map(move |g| (*profile, g)))
        .collect();
    let bar = progress(groups.len(), "writing the files that are measured");
    let mut runner = Runner {
        args,
        dir: work.path(),
        stop,
        targets: BTreeMap::new(),
    };
    for (profile, group) in groups {
        let measured = runner.group(profile, group)?;
        if stop.asked() {
            break;
        }
        bar.set_message(profile);
        bar.inc(1);
        rows.extend(measured);
    }
    bar.finish_and_clear();
    Ok(show(&rows, &version, stop.asked()))
}

type Chosen = Vec<(&'static str, Vec<Vec<Job>>)>;

fn choose(name: Option<&str>) -> Result<Chosen, BenchError> {
    let chosen: Result<Chosen, BenchError> = PROFILES
        .iter()
        .filter(|(profile, _)| name.is_none_or(|name| name == *profile))
        .map(|(profile, text)| Ok((*profile, profile::read(profile, text)?)))
        .collect();
    let chosen = chosen?;
    if chosen.is_empty() {
        let known: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
        let name = name.unwrap_or_default();
        return Err(BenchError::usage(format!(
            "no fio profile is called {name}; there are {}",
            known.join(", ")
        )));
    }
    Ok(chosen)
}

fn version() -> Result<String, BenchError> {
    let said = fio(Command::new("fio").arg("--version"))?;
    Ok(said.trim().to_owned())
}

/// What fio printed.
fn fio(command: &mut Command) -> Result<String, BenchError> {
    let machine = |words: String| BenchError::new(Kind::Machine, words);
    let ran = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => machine("fio is not installed; on Debian: apt-get install fio".to_owned()),
        _ => machine(format!("starting fio: {e}")),
    })?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    if ran.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&ran.stderr);
    // Where it got as far as its own report, that says more; a report of success under a failed status is not believed.
    let why = output::read(&said)
        .err()
        .map_or_else(String::new, |e| format!("; {e}"));
    Err(machine(format!(
        "fio ended with {}: {}{why}",
        ran.status,
        errors.trim()
    )))
}

struct Runner<'a> {
    args: &'a FioArgs,
    dir: &'a Path,
    stop: &'a Stop,
    targets: BTreeMap<String, Target>,
}

impl Runner<'_> {
    /// Measures one group of jobs: a row for each, or none where it was interrupted.
    fn group(&mut self, profile: &'static str, group: &[Job]) -> Result<Vec<Row>, BenchError> {
        for job in group {
            if !self.targets.contains_key(&job.file) {
                let path = self.dir.join(&job.file);
                let target = Target::make(&path, self.args.size_mib << 20)?;
                self.targets.insert(job.file.clone(), target);
            }
        }
        let (mut raw, mut fio) = (vec![self.raw(group)?], Vec::new());
        for _ in 0..self.args.rounds {
            if self.stop.asked() {
                return Ok(Vec::new());
            }
            fio.push(self.fio(profile, group)?);
            raw.push(self.raw(group)?);
        }
        let row = |(place, job): (usize, &Job)| Row {
            profile,
            job: job.clone(),
            measures: measures(
                &fio.iter().map(|run| &run[place]).collect::<Vec<_>>(),
                &raw.iter().map(|run| &run[place]).collect::<Vec<_>>(),
            ),
        };
        Ok(group.iter().enumerate().map(row).collect())
    }

    fn raw(&self, group: &[Job]) -> Result<Vec<Figure>, BenchError> {
        let works: Vec<Work<'_>> = group
            .iter()
            .map(|job| Work {
                pattern: job.pattern,
                target: &self.targets[&job.file],
            })
            .collect();
        // Fresh extents end with the file, as fio's do, which have no other end.
        let once = group.iter().any(|job| job.pattern.space == Space::Append);
        let limit = if once {
            3600.0
        } else {
            f64::from(self.args.seconds)
        };
        run_together(&works, seconds(limit)?, self.stop)
    }

    fn fio(&self, profile: &str, group: &[Job]) -> Result<Vec<Measured>, BenchError> {
        let text = PROFILES
            .iter()
            .find(|(name, _)| *name == profile)
            .map(|(_, text)| text);
        let text = text.ok_or_else(|| BenchError::bug(format!("the profile {profile} is gone")))?;
        let file = self.dir.join(format!("{profile}.fio"));
        std::fs::write(&file, text).map_err(|e| BenchError::file("writing", &file, e))?;
        let mut command = Command::new("fio");
        command
            .env("SIZE", format!("{}m", self.args.size_mib))
            .env("RUNTIME", self.args.seconds.to_string())
            .env("CORES", cores()?)
            .current_dir(self.dir)
            .args(["--output-format=json+", "--directory=."]);
        for job in group {
            command.arg(format!("--section={}", job.name));
        }
        let measured = output::read(&fio(command.arg(&file))?)?;
        let names: Vec<&str> = measured.iter().map(|job| job.name.as_str()).collect();
        if !names.iter().eq(group.iter().map(|job| &job.name)) {
            return Err(BenchError::new(
                Kind::Machine,
                format!("fio ran {names:?} of the profile {profile}"),
            ));
        }
        Ok(measured)
    }
}

/// The cores that this process may run on, in the order in which the raw loop pins its threads.
fn cores() -> Result<String, BenchError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.is_empty() {
        let words = "the cores that this process may run on are not known";
        return Err(BenchError::new(Kind::Machine, words));
    }
    let numbers: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
    Ok(numbers.join(","))
}

fn measures(fio: &[&Measured], raw: &[&Figure]) -> Vec<Measure> {
    let measure = |name, of_fio: &dyn Fn(&Measured) -> f64, of_raw: &dyn Fn(&Figure) -> Option<f64>| {
        let raw: Option<Vec<f64>> = raw.iter().map(|run| of_raw(run)).collect();
        let fio = fio.iter().map(|run| of_fio(run)).collect();
        raw.map(|raw| Measure { name, fio, raw })
    };
    let of = |share: f64| move |figure: &Figure| Some(figure.service.percentile_ns(share)? as f64);
    // A percentile on too few operations is left out.
    [
        measure("IOPS", &|job| job.rate, &|figure| Some(figure.rate())),
        measure("p50", &|job| job.p50_ns as f64, &of(0.5)),
        measure("p99", &|job| job.p99_ns as f64, &of(0.99)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn show(rows: &[Row], version: &str, interrupted: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "profile",
        "job",
        "pattern",
        "IOPS fio",
        "raw",
        "p50 µs fio",
        "raw",
        "p99 µs fio",
        "raw",
        "raw drift",
        "verdict",
    ]);
    let mut disagree = Vec::new();
    for row in rows {
        let mut cells = vec![
            row.profile.to_owned(),
            row.job.name.clone(),
            row.job.pattern.to_string(),
        ];
        for name in ["IOPS", "p50", "p99"] {
            let found = row.measures.iter().find(|measure| measure.name == name);
            for values in [found.map(|m| &m.fio), found.map(|m| &m.raw)] {
                cells.push(values.map_or("–".to_owned(), |values| cell(name, verdict::median(values))));
            }
        }
        cells.push(
            row.measures
                .first()
                .map_or("–".to_owned(), |m| format!("{:.0} %", 100.0 * m.drift())),
        );
        let words = verdict::words(&row.measures);
        if verdict::worst(&row.measures).0 == Verdict::Differ {
            disagree.push(format!("{}/{} ({words})", row.profile, row.job.name));
        }
        cells.push(words);
        table.add_row(cells);
    }
    let mut text = format!("{version} beside the raw loop, medians of interleaved runs\n{table}\n");
    if !disagree.is_empty() {
        text += &format!("they do not agree: {}\n", disagree.join("; "));
    } else if !rows.is_empty() {
        text += "nowhere do they differ by more than 10 % and the raw loop's own drift\n";
    }
    if interrupted {
        text += "interrupted: the jobs that follow were not measured\n";
    }
    text
}

fn cell(measure: &str, value: f64) -> String {
    if measure == "IOPS" {
        return format!("{value:.0}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentile in nanoseconds is a mean of two of them at most"
    )]
    micros(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pattern::Pattern;

    fn args(dir: &Path) -> FioArgs {
        FioArgs {
            dir: dir.to_owned(),
            profile: None,
            size_mib: 64,
            seconds: 1,
            rounds: 1,
        }
    }

    #[test]
    fn an_unknown_profile_is_told_the_known_ones() {
        let error = choose(Some("fulsh")).unwrap_err().to_string();
        assert!(
            error.contains("fulsh") && error.contains("flush") && error.contains("mixed"),
            "{error}"
        );
        assert_eq!(choose(Some("flush")).unwrap().len(), 1);
    }

    #[test]
    fn without_fio_the_error_names_debians_package() {
        let error = fio(Command::new("fio").env("PATH", "/none"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "fio is not installed; on Debian: apt-get install fio");
    }

    #[test]
    fn a_disagreement_is_a_line_and_no_error() {
        let job = |name: &str| Job {
            name: name.to_owned(),
            pattern: Pattern::random_reads(4096, 2),
            file: "x".to_owned(),
            alone: true,
        };
        let row = |name, fio| Row {
            profile: "scan",
            job: job(name),
            measures: vec![Measure {
                name: "IOPS",
                fio: vec![fio],
                raw: vec![100.0, 101.0],
            }],
        };
        let text = show(&[row("good", 100.0), row("bad", 50.0)], "fio-3.33", false);
        assert!(
            text.contains("they do not agree: scan/bad (differ: fio's IOPS -50 %)\n"),
            "{text}"
        );
        let text = show(&[row("good", 100.0)], "fio-3.33", true);
        assert!(
            text.contains("nowhere do they differ") && text.contains("interrupted"),
            "{text}"
        );
    }

    #[test]
    fn every_profile_runs_on_the_real_fio_and_every_job_has_figures() {
        if let Err(why) = version() {
            eprintln!("skipped: {why}");
            return;
        }
        let dir = crate::machine::test_dir();
        let args = args(dir.path());
        let mut runner = Runner {
            args: &args,
            dir: dir.path(),
            stop: &Stop::new(),
            targets: BTreeMap::new(),
        };
        for (profile, groups) in choose(None).unwrap() {
            for group in &groups {
                let rows = runner.group(profile, group).unwrap();
                assert_eq!(rows.len(), group.len());
                for measure in rows.iter().flat_map(|row| &row.measures) {
                    assert_eq!((measure.fio.len(), measure.raw.len()), (1, 2));
                    assert!(
                        measure.fio.iter().chain(&measure.raw).all(|value| *value > 0.0),
                        "{measure:?}"
                    );
                }
            }
        }
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left("corelane-fio-data") && !left("corelane-fio-fresh.fresh-0"));
    }
}
