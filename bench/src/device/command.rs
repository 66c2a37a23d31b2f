//! `corelane-bench device`: how fast the device under a directory is, before any engine is asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::pattern::Pattern;
use crate::device::profile::{self, DeviceProfile};
use crate::device::stop::Stop;
use crate::device::target::{self, Target};
use crate::error::BenchError;
use crate::result::{Environment, can_store};

/// Measures the device itself: a raw io_uring loop over a preconditioned file.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// A directory on the device; a file of --size is written there and removed at the end.
    #[arg(long)]
    pub dir: PathBuf,
    /// Some 25 patterns of 1 s instead of some 100 of 3 s.
    #[arg(long)]
    pub quick: bool,
    /// Size of the preconditioned file in MiB; let it be larger than any cache of the device.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(256..=1 << 24))]
    pub size_mib: u64,
    /// Seconds for each pattern, instead of 1 or 3.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Where the profile is stored.
    #[arg(long, default_value = "device.json")]
    pub out: PathBuf,
}

/// Measures, stores the profile, and gives its tables.
///
/// # Errors
/// Before any figure: the directory is missing, read-only, in memory or too full; the place for the profile cannot be
/// written. Later: the device's.
pub fn command(args: &DeviceArgs, stop: &Stop) -> Result<String, BenchError> {
    let default = if args.quick { 1.0 } else { 3.0 };
    let each = seconds(args.seconds.unwrap_or(default))?;
    let bytes = args.size_mib << 20;
    target::on_a_device(&args.dir)?;
    // The file itself, and as much again for what is written into fresh extents.
    target::has_room(&args.dir, 2 * bytes)?;
    can_store(&args.out)?;
    let work = tempfile::Builder::new()
        .prefix("corelane-device-")
        .tempdir_in(&args.dir)
        .map_err(|e| BenchError::file("making a directory in", &args.dir, e))?;
    let environment = Environment::here(&args.dir, "none");
    let grid = profile::grid(args.quick);
    let bar = progress(grid.len(), "writing the file that is measured");
    let target = Target::make(&work.path().join("target"), bytes)?;
    let tell = |pattern: &Pattern| {
        bar.set_message(pattern.to_string());
        bar.inc(1);
    };
    let profile = DeviceProfile::measure(&target, environment, &grid, each, stop, tell)?;
    bar.finish_and_clear();
    profile.store(&args.out)?;
    Ok(format!(
        "{}\nstored in {}\n",
        profile.tables(),
        args.out.display()
    ))
}

/// A time that a pattern is run for.
///
/// # Errors
/// It is none, or nobody waits that long.
pub fn seconds(seconds: f64) -> Result<Duration, BenchError> {
    if (0.01..=3600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(BenchError::usage(format!(
        "a pattern runs for 0.01 to 3600 seconds, not {seconds}"
    )))
}

/// A bar of `steps` steps with the time left, on standard error; nothing where that is no terminal.
pub fn progress(steps: usize, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left  {msg}")
        .expect("the template is a constant, and a test makes it")
        .progress_chars("=> ");
    let bar = ProgressBar::new(steps as u64).with_style(style);
    bar.set_message(message);
    bar
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn args(dir: &Path) -> DeviceArgs {
        DeviceArgs {
            dir: dir.to_owned(),
            quick: true,
            size_mib: 16,
            seconds: Some(0.01),
            out: dir.join("device.json"),
        }
    }

    #[test]
    fn the_command_measures_stores_shows_and_cleans_up() {
        let dir = crate::machine::test_dir();
        let args = DeviceArgs {
            size_mib: 64,
            ..args(dir.path())
        };
        let text = command(&args, &Stop::new()).unwrap();
        let profile = DeviceProfile::load(&args.out).unwrap();
        assert_eq!(
            profile.points.len() + profile.left_out.len(),
            profile::grid(true).len()
        );
        assert!(
            text.contains("random reads of 4 KiB") && text.contains("stored in"),
            "{text}"
        );
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["device.json"]);
    }

    #[test]
    fn what_cannot_work_is_told_before_any_figure() {
        let dir = crate::machine::test_dir();
        let good = args(dir.path());
        let bad = [
            (
                DeviceArgs {
                    dir: dir.path().join("none"),
                    ..good.clone()
                },
                "none: No such file",
            ),
            (
                DeviceArgs {
                    dir: "/dev/shm".into(),
                    ..good.clone()
                },
                "in memory",
            ),
            (
                DeviceArgs {
                    size_mib: 1 << 24,
                    ..good.clone()
                },
                "are needed",
            ),
            (
                DeviceArgs {
                    seconds: Some(f64::NAN),
                    ..good.clone()
                },
                "0.01 to 3600 seconds",
            ),
            (
                DeviceArgs {
                    out: dir.path().join("none/device.json"),
                    ..good
                },
                "cannot be stored",
            ),
        ];
        for (args, words) in bad {
            let error = command(&args, &Stop::new()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
