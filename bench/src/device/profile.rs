//! A grid of patterns over one device, stored as `device.json`, shown as curves of latency over throughput: one table a
//! family, a line for each depth.

use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::device::drive::{self, Figure};
use crate::device::pattern::{Access, Family, Pattern, Space, Sync, size};
use crate::device::stop::Stop;
use crate::device::target::Target;
use crate::error::BenchError;
use crate::result::{Environment, write_whole};

/// Version of the file's shape.
pub const FORMAT: u32 = 1;

/// What a device can do, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceProfile {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// Where and when.
    pub environment: Environment,
    /// The smallest block that direct I/O takes.
    pub least_block: u32,
    /// Bytes of the preconditioned file.
    pub target_bytes: u64,
    /// What was measured, in that order.
    pub points: Vec<Point>,
    /// Patterns that cannot run here, and why.
    pub left_out: Vec<String>,
    /// True where the user interrupted it: the points that are there were measured whole.
    pub interrupted: bool,
}

/// One pattern and what it reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What was done.
    pub pattern: Pattern,
    /// What it reached.
    pub figure: Figure,
}

/// One family's curve: a point for each depth, the shallowest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve<'a> {
    /// What they have in common.
    pub family: Family,
    /// The points.
    pub points: Vec<&'a Point>,
}

/// The patterns that are measured: some 25, or some 100.
pub fn grid(quick: bool) -> Vec<Pattern> {
    let mut grid = Vec::new();
    let mut add = |access, sync, space, blocks: &[u32], depths: &[u32]| {
        let pairs = blocks
            .iter()
            .flat_map(|block| depths.iter().map(move |depth| (*block, *depth)));
        grid.extend(pairs.map(|(block_bytes, depth)| Pattern {
            access,
            block_bytes,
            depth,
            sync,
            space,
            threads: 1,
            bytes_per_second: None,
        }));
    };
    let (k, m) = (1 << 10, 1 << 20);
    let (none, over, fresh) = (Sync::None, Space::Overwrite, Space::Append);
    let write = Access::SequentialWrite;
    if quick {
        add(Access::RandomRead, none, over, &[4 * k], &[1, 2, 8, 32, 128]);
        add(Access::RandomRead, none, over, &[512, 64 * k], &[8]);
        add(Access::SequentialRead, none, over, &[256 * k], &[1, 4, 16]);
        add(Access::RandomWrite, none, over, &[4 * k], &[1, 8, 32]);
        add(write, none, over, &[256 * k], &[1, 4, 16]);
        add(write, Sync::Dsync, over, &[4 * k], &[1, 4]);
        add(write, Sync::Dsync, over, &[28 * k], &[1]);
        add(write, Sync::Fdatasync, over, &[4 * k], &[1]);
        add(write, Sync::Dsync, fresh, &[4 * k], &[1]);
        add(write, Sync::Fdatasync, fresh, &[4 * k], &[1]);
        add(write, Sync::End, fresh, &[256 * k], &[1, 4, 16]);
        return grid;
    }
    let all = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    add(Access::RandomRead, none, over, &[512, 4 * k], &all);
    add(Access::RandomRead, none, over, &[16 * k, 64 * k], &[1, 4, 16, 64]);
    add(
        Access::SequentialRead,
        none,
        over,
        &[4 * k, 64 * k, 256 * k, m],
        &[1, 4, 16, 32],
    );
    add(
        Access::RandomWrite,
        none,
        over,
        &[4 * k, 16 * k],
        &[1, 4, 16, 64, 128],
    );
    add(Access::RandomWrite, Sync::Dsync, over, &[4 * k], &[1, 4, 16]);
    add(write, none, over, &[4 * k, 64 * k, 256 * k, m], &[1, 4, 16]);
    add(
        write,
        Sync::Dsync,
        over,
        &[512, 4 * k, 8 * k, 28 * k, 128 * k, m],
        &[1, 4],
    );
    add(write, Sync::Fdatasync, over, &[4 * k, 28 * k, 256 * k], &[1, 4]);
    add(write, Sync::Dsync, fresh, &[4 * k, 28 * k, 256 * k], &[1, 4]);
    add(write, Sync::Fdatasync, fresh, &[4 * k, 28 * k], &[1]);
    add(write, Sync::End, fresh, &[4 * k, 64 * k, 256 * k, m], &[1, 4, 16]);
    grid
}

impl DeviceProfile {
    /// Measures every pattern on `target`, each for `each`; `progress` is told of each before it begins.
    ///
    /// # Errors
    /// As [`drive::run`]; a pattern whose block is below the device's is left out instead, with its reason.
    pub fn measure(
        target: &Target,
        environment: Environment,
        grid: &[Pattern],
        each: Duration,
        stop: &Stop,
        mut progress: impl FnMut(&Pattern),
    ) -> Result<Self, BenchError> {
        let mut profile = Self {
            format: FORMAT,
            environment,
            least_block: target.least_block(),
            target_bytes: target.bytes(),
            points: Vec::with_capacity(grid.len()),
            left_out: Vec::new(),
            interrupted: false,
        };
        for pattern in grid {
            progress(pattern);
            if let Err(why) = target.allows(pattern) {
                profile.left_out.push(why.to_string());
                continue;
            }
            let figure = drive::run(pattern, target, each, stop);
            // One that was cut short may have measured nothing, or too little to be compared with the others.
            if stop.asked() {
                profile.interrupted = true;
                break;
            }
            profile.points.push(Point {
                pattern: *pattern,
                figure: figure?,
            });
        }
        Ok(profile)
    }

    /// The curves, in the order measured.
    pub fn curves(&self) -> Vec<Curve<'_>> {
        let mut curves: Vec<Curve<'_>> = Vec::new();
        for point in &self.points {
            let family = Family::from(&point.pattern);
            match curves.iter_mut().find(|curve| curve.family == family) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve {
                    family,
                    points: vec![point],
                }),
            }
        }
        for curve in &mut curves {
            curve
                .points
                .sort_by_key(|point| (point.pattern.depth, point.pattern.threads));
        }
        curves
    }

    /// Tables for the terminal: one a family.
    pub fn tables(&self) -> String {
        let about = &self.environment;
        let mut text = format!(
            "{}, {}, kernel {}, {}; direct I/O in blocks of {} B and up, over {} of random bytes\n",
            about.date,
            about.processor,
            about.kernel,
            about.filesystem,
            self.least_block,
            size(self.target_bytes)
        );
        for curve in self.curves() {
            text += &format!("\n{}\n{}\n", curve.family, table(&curve));
        }
        for why in &self.left_out {
            text += &format!("left out: {why}\n");
        }
        if self.interrupted {
            text += "interrupted: the patterns that follow were not measured\n";
        }
        text
    }

    /// Reads a stored profile.
    ///
    /// # Errors
    /// Naming the file: it cannot be read, it is no profile, or it was written by a newer bench.
    pub fn load(path: &Path) -> Result<Self, BenchError> {
        let failed = |e: &dyn std::fmt::Display| BenchError::file("reading the device profile in", path, e);
        let text = std::fs::read(path).map_err(|e| failed(&e))?;
        let profile: Self = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
        if profile.format != FORMAT {
            let words = format!("it has format {}, this bench reads {FORMAT}", profile.format);
            return Err(failed(&words));
        }
        Ok(profile)
    }

    /// Stores it, whole or not at all.
    ///
    /// # Errors
    /// Naming the file.
    pub fn store(&self, path: &Path) -> Result<(), BenchError> {
        let text = serde_json::to_vec(self).map_err(|e| BenchError::bug(format!("writing JSON: {e}")))?;
        write_whole(path, &text)
    }
}

fn table(curve: &Curve<'_>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "depth",
        "ops/s",
        "MiB/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs/op",
    ]);
    for point in &curve.points {
        let figure = &point.figure;
        let us = |percentile| {
            figure
                .service
                .percentile_ns(percentile)
                .map_or("–".to_owned(), micros)
        };
        table.add_row([
            point.pattern.depth.to_string(),
            format!("{:.0}", figure.rate()),
            format!("{:.1}", figure.bytes_per_second() / f64::from(1 << 20)),
            us(0.5),
            us(0.99),
            us(0.999),
            format!("{:.1}", figure.cpu_us()),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Nanoseconds as microseconds, with no more digits than they are worth.
pub fn micros(ns: u64) -> String {
    let us = ns as f64 / 1000.0;
    if us < 100.0 {
        format!("{us:.1}")
    } else {
        format!("{us:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(target: &Target, grid: &[Pattern], stop: &Stop) -> DeviceProfile {
        let environment = Environment::here(target.path(), "none");
        let each = Duration::from_millis(20);
        DeviceProfile::measure(target, environment, grid, each, stop, |_| {}).unwrap()
    }

    #[test]
    fn grids_are_of_sound_patterns_without_a_double() {
        for (quick, range) in [(true, 20..=30), (false, 90..=115)] {
            let grid = grid(quick);
            assert!(range.contains(&grid.len()), "{}", grid.len());
            for (place, pattern) in grid.iter().enumerate() {
                pattern.check().unwrap();
                assert!(!grid[..place].contains(pattern), "{pattern}");
            }
        }
    }

    #[test]
    fn a_profile_is_stored_and_read_again_the_same() {
        let dir = crate::machine::test_dir();
        let target = Target::make(&dir.path().join("target"), 8 << 20).unwrap();
        let grid = [
            Pattern::random_reads(4096, 4),
            Pattern::random_reads(4096, 1),
            Pattern::overwrites(8192, 1, Sync::Dsync),
        ];
        let profile = profile(&target, &grid, &Stop::new());
        let path = dir.path().join("device.json");
        profile.store(&path).unwrap();
        assert_eq!(DeviceProfile::load(&path).unwrap(), profile);
        let curves = profile.curves();
        assert_eq!(curves.len(), 2);
        let depths: Vec<u32> = curves[0].points.iter().map(|point| point.pattern.depth).collect();
        assert_eq!(depths, [1, 4]);
        let text = profile.tables();
        assert!(
            text.contains("random reads of 4 KiB\n") && text.contains("O_DSYNC"),
            "{text}"
        );
        let other = std::fs::read_to_string(&path)
            .unwrap()
            .replacen("\"format\":1", "\"format\":9", 1);
        std::fs::write(&path, other).unwrap();
        assert!(
            DeviceProfile::load(&path)
                .unwrap_err()
                .to_string()
                .contains("format 9")
        );
    }

    #[test]
    fn an_interrupted_profile_keeps_what_was_measured_whole_and_says_so() {
        let dir = crate::machine::test_dir();
        let target = Target::make(&dir.path().join("target"), 8 << 20).unwrap();
        let stop = Stop::new();
        let grid = [Pattern::random_reads(4096, 1), Pattern::random_reads(4096, 2)];
        let mut begun = 0;
        let environment = Environment::here(dir.path(), "none");
        let each = Duration::from_millis(20);
        let profile = DeviceProfile::measure(&target, environment, &grid, each, &stop, |_| {
            begun += 1;
            if begun == 2 {
                stop.ask();
            }
        })
        .unwrap();
        assert_eq!(profile.points.len(), 1);
        assert!(profile.interrupted && profile.tables().contains("interrupted"));
    }
}
