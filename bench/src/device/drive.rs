//! Runs patterns: pinned threads, each with its ring, all begun together.
//!
//! A thread keeps its share of the depth under way: it begins an operation in every idle slot, waits, and records what came
//! back. Each operation is submitted by itself, as fio does by default: the kernel holds a batch back until the whole of it
//! is queued, which cost 15 % of the random 4 KiB reads at depth 32 here (54 k/s against 62 k/s) and gained 5 % at 128. An operation's time runs from before it was queued until its completion was seen; with
//! [`Sync::Fdatasync`] until the sync that followed it. What ends after the time is over is waited for and not counted.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::device::cores::on_cores;
use crate::device::course::{Course, Order, Sizes};
use crate::device::pattern::{Pattern, Space, Sync};
use crate::device::ring::{Ask, Ring};
use crate::device::stop::Stop;
use crate::device::target::{Fresh, Target};
use crate::error::{BenchError, Kind};
use crate::result::Latency;
use crate::workload::rng::Rng;

/// The longest that a thread held to a rate sleeps before it looks at the clock and at [`Stop`] again.
const NAP: Duration = Duration::from_millis(5);

/// What a pattern reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Operations that were counted.
    pub operations: u64,
    /// Bytes that they transferred.
    pub bytes: u64,
    /// Seconds from the first's begin to the last's end.
    pub seconds: f64,
    /// Processor seconds of the whole process meanwhile.
    pub cpu_seconds: f64,
    /// Times of the operations, in nanoseconds.
    pub service: Latency,
}

impl Figure {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// Bytes a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// Microseconds of processor time an operation.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.operations as f64
    }
}

/// A pattern and the file that it runs on.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What is done.
    pub pattern: Pattern,
    /// To which file.
    pub target: &'a Target,
}

/// Runs one pattern for `limit`, or until it is stopped, or its fresh file is full.
///
/// # Errors
/// The pattern does not fit the target; the operating system's; a short operation.
pub fn run(pattern: &Pattern, target: &Target, limit: Duration, stop: &Stop) -> Result<Figure, BenchError> {
    let work = Work {
        pattern: *pattern,
        target,
    };
    let mut figures = run_together(&[work], limit, stop)?;
    Ok(figures.pop().expect("one work gives one figure"))
}

/// Runs several patterns side by side; each figure's processor time is that of all.
///
/// # Errors
/// As [`run`], of any of them.
///
/// # Panics
/// Without work.
pub fn run_together(works: &[Work<'_>], limit: Duration, stop: &Stop) -> Result<Vec<Figure>, BenchError> {
    works
        .iter()
        .try_for_each(|work| work.target.allows(&work.pattern))?;
    let threads: Vec<(usize, u32)> = works
        .iter()
        .enumerate()
        .flat_map(|(which, work)| (0..work.pattern.threads).map(move |number| (which, number)))
        .collect();
    let (tallies, cpu_seconds) = on_cores(
        threads.len(),
        |thread| {
            let (which, number) = threads[thread];
            Driver::of(&works[which], number)
                .map_err(|e| BenchError::file("the raw device loop on", works[which].target.path(), e))
        },
        |driver| driver.run(limit, stop),
    )?;
    let figure = |which: usize| {
        let own = threads.iter().zip(&tallies).filter(|((of, _), _)| *of == which);
        figure(own.map(|(_, tally)| tally), cpu_seconds)
    };
    Ok((0..works.len()).map(figure).collect())
}

/// What a write-ahead log does, without an engine: groups of whole pages around a mean size, `O_DIRECT|O_DSYNC`, over
/// blocks that were written before, one at a time in each file, one file and one pinned thread a shard.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// Without files.
pub fn wal_groups(
    files: &[Target],
    mean_bytes: f64,
    limit: Duration,
    stop: &Stop,
) -> Result<Figure, BenchError> {
    let sizes = Sizes::groups(mean_bytes);
    if let Some(small) = files.iter().find(|file| file.bytes() < u64::from(sizes.most())) {
        let words = "it is smaller than one group";
        return Err(BenchError::file("the raw device loop on", small.path(), words));
    }
    let make = |number: usize| {
        let target = &files[number];
        let course = Course::new(0, target.bytes(), Order::Round, sizes);
        let ring = target
            .direct(true, libc::O_DSYNC)
            .and_then(|file| Ring::new(file, 1, sizes.most() as usize, number as u64));
        let manner = Manner {
            write: true,
            sync: Sync::Dsync,
            bytes_per_second: None,
        };
        ring.map(|ring| Driver::new(ring, course, manner, None))
            .map_err(|e| BenchError::file("the raw device loop on", target.path(), e))
    };
    let (tallies, cpu_seconds) = on_cores(files.len(), make, |driver| driver.run(limit, stop))?;
    Ok(figure(tallies.iter(), cpu_seconds))
}

/// How a thread treats its file.
#[derive(Debug, Clone, Copy)]
struct Manner {
    write: bool,
    sync: Sync,
    bytes_per_second: Option<u64>,
}

/// What one thread counted.
struct Tally {
    begun: Instant,
    last: Instant,
    operations: u64,
    bytes: u64,
    service: Latency,
}

/// One thread's loop.
struct Driver {
    ring: Ring,
    course: Course,
    manner: Manner,
    slots: Vec<Slot>,
    /// Removed when the loop is over.
    _fresh: Option<Fresh>,
}

/// What a slot has under way.
#[derive(Clone, Copy)]
struct Slot {
    begun: Instant,
    bytes: u32,
    syncing: bool,
}

impl Driver {
    fn new(ring: Ring, course: Course, manner: Manner, fresh: Option<Fresh>) -> Self {
        let idle = Slot {
            begun: Instant::now(),
            bytes: 0,
            syncing: false,
        };
        Self {
            slots: vec![idle; ring.slots()],
            ring,
            course,
            manner,
            _fresh: fresh,
        }
    }

    /// Of thread `number` of a pattern.
    fn of(work: &Work<'_>, number: u32) -> io::Result<Self> {
        let (pattern, target) = (&work.pattern, work.target);
        let manner = Manner {
            write: !pattern.access.reads(),
            sync: pattern.sync,
            bytes_per_second: pattern
                .bytes_per_second
                .map(|rate| rate / u64::from(pattern.threads)),
        };
        let flags = if pattern.sync == Sync::Dsync {
            libc::O_DSYNC
        } else {
            0
        };
        let share = target.bytes() / u64::from(pattern.threads) / 4096 * 4096;
        let from = share * u64::from(number);
        let (fresh, file, from, to, order) = match pattern.space {
            Space::Append => {
                let (fresh, file) = Fresh::make(target, number, share, flags)?;
                (Some(fresh), file, 0, share, Order::Once)
            }
            Space::Overwrite if pattern.access.random() => {
                let order = Order::Random(Rng::new(u64::from(number)));
                (
                    None,
                    target.direct(manner.write, flags)?,
                    0,
                    target.bytes(),
                    order,
                )
            }
            Space::Overwrite => (
                None,
                target.direct(manner.write, flags)?,
                from,
                from + share,
                Order::Round,
            ),
        };
        let course = Course::new(from, to, order, Sizes::Fixed(pattern.block_bytes));
        let slots = pattern.depth_of(number) as usize;
        let ring = Ring::new(file, slots, pattern.block_bytes as usize, u64::from(number))?;
        Ok(Self::new(ring, course, manner, fresh))
    }

    fn run(&mut self, limit: Duration, stop: &Stop) -> Result<Tally, BenchError> {
        self.work(limit, stop)
            .map_err(|e| BenchError::new(Kind::Machine, format!("the raw device loop: {e}")))
    }

    fn work(&mut self, limit: Duration, stop: &Stop) -> io::Result<Tally> {
        let start = Instant::now();
        let mut tally = Tally {
            begun: start,
            last: start,
            operations: 0,
            bytes: 0,
            service: Latency::new(),
        };
        let mut idle: Vec<usize> = (0..self.slots.len()).collect();
        let (mut open, mut done, mut asked_bytes) = (true, Vec::with_capacity(self.slots.len()), 0);
        loop {
            while open && !idle.is_empty() && self.may_begin(asked_bytes, start) {
                match self.course.next_place() {
                    Some(place) => {
                        self.begin(idle.pop().expect("it was looked at"), place)?;
                        asked_bytes += u64::from(place.1);
                    }
                    None => open = false,
                }
            }
            if self.ring.under_way() > 0 {
                self.ring.wait(&mut done)?;
                let now = Instant::now();
                for slot in done.drain(..) {
                    self.end(slot, now, start + limit, &mut tally, &mut idle)?;
                }
            } else if open {
                std::thread::sleep(NAP);
            } else {
                break;
            }
            open &= start.elapsed() < limit && !stop.asked();
        }
        if self.manner.sync == Sync::End {
            self.ring.queue(0, Ask::Sync)?;
            self.ring.wait(&mut done)?;
            tally.last = Instant::now();
        }
        Ok(tally)
    }

    fn may_begin(&self, asked_bytes: u64, start: Instant) -> bool {
        self.manner
            .bytes_per_second
            .is_none_or(|rate| asked_bytes as f64 <= rate as f64 * start.elapsed().as_secs_f64())
    }

    #[inline]
    fn begin(&mut self, slot: usize, (offset, bytes): (u64, u32)) -> io::Result<()> {
        self.slots[slot] = Slot {
            begun: Instant::now(),
            bytes,
            syncing: false,
        };
        let ask = if self.manner.write {
            Ask::Write { offset, bytes }
        } else {
            Ask::Read { offset, bytes }
        };
        self.ring.queue(slot, ask)?;
        // Alone it is submitted by the very call that waits for it.
        if self.slots.len() > 1 {
            self.ring.submit()
        } else {
            Ok(())
        }
    }

    #[inline]
    fn end(
        &mut self,
        slot: usize,
        now: Instant,
        deadline: Instant,
        tally: &mut Tally,
        idle: &mut Vec<usize>,
    ) -> io::Result<()> {
        let what = &mut self.slots[slot];
        if self.manner.sync == Sync::Fdatasync && !what.syncing {
            what.syncing = true;
            return self.ring.queue(slot, Ask::Sync);
        }
        idle.push(slot);
        // The very first always counts: a device that is slower than the time it was given is told as slow.
        if now <= deadline || tally.operations == 0 {
            tally.operations += 1;
            tally.bytes += u64::from(what.bytes);
            tally.service.record(now - what.begun);
            tally.last = now;
        }
        Ok(())
    }
}

fn figure<'a>(tallies: impl Iterator<Item = &'a Tally>, cpu_seconds: f64) -> Figure {
    let mut all: Option<Tally> = None;
    for tally in tallies {
        let sum = all.get_or_insert_with(|| Tally {
            begun: tally.begun,
            last: tally.last,
            operations: 0,
            bytes: 0,
            service: Latency::new(),
        });
        sum.begun = sum.begun.min(tally.begun);
        sum.last = sum.last.max(tally.last);
        sum.operations += tally.operations;
        sum.bytes += tally.bytes;
        sum.service.merge(&tally.service);
    }
    let all = all.expect("every work has a thread");
    assert!(all.operations > 0, "every thread counts its first operation");
    Figure {
        operations: all.operations,
        bytes: all.bytes,
        seconds: (all.last - all.begun).as_secs_f64(),
        cpu_seconds,
        service: all.service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pattern::Access;

    const LIMIT: Duration = Duration::from_millis(30);

    fn target(dir: &tempfile::TempDir) -> Target {
        Target::make(&dir.path().join("target"), 16 << 20).unwrap()
    }

    #[test]
    fn every_kind_of_pattern_runs_on_a_real_file_and_counts_what_it_did() {
        let dir = crate::machine::test_dir();
        let target = target(&dir);
        let reads = Pattern::random_reads(4096, 8);
        let writes = Pattern::overwrites(8192, 4, Sync::None);
        let append = Space::Append;
        let patterns = [
            reads,
            Pattern { threads: 2, ..reads },
            Pattern {
                access: Access::SequentialRead,
                block_bytes: 1 << 20,
                ..reads
            },
            Pattern {
                access: Access::RandomWrite,
                ..writes
            },
            Pattern {
                sync: Sync::Dsync,
                threads: 2,
                ..writes
            },
            Pattern {
                sync: Sync::Fdatasync,
                ..writes
            },
            Pattern {
                sync: Sync::End,
                space: append,
                ..writes
            },
            Pattern {
                sync: Sync::Dsync,
                space: append,
                threads: 2,
                ..writes
            },
        ];
        for pattern in patterns {
            let figure = run(&pattern, &target, LIMIT, &Stop::new()).unwrap();
            assert!(figure.operations > 0, "{pattern}");
            assert_eq!(figure.bytes, figure.operations * u64::from(pattern.block_bytes));
            assert_eq!(figure.service.count(), figure.operations);
            assert!(figure.seconds > 0.0 && figure.rate() > 0.0 && figure.cpu_us() > 0.0);
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "fresh files are gone"
        );
    }

    #[test]
    fn overwrites_change_the_file_and_neither_its_size_nor_its_room() {
        let dir = crate::machine::test_dir();
        let target = target(&dir);
        let before = std::fs::read(target.path()).unwrap();
        let room = crate::cost::occupied_bytes(dir.path()).unwrap();
        run(
            &Pattern::overwrites(4096, 1, Sync::Dsync),
            &target,
            LIMIT,
            &Stop::new(),
        )
        .unwrap();
        let after = std::fs::read(target.path()).unwrap();
        assert!(after.len() == before.len() && after[..4096] != before[..4096]);
        assert_eq!(crate::cost::occupied_bytes(dir.path()).unwrap(), room);
    }

    #[test]
    fn fresh_space_ends_where_the_target_does() {
        let dir = crate::machine::test_dir();
        let target = target(&dir);
        let pattern = Pattern {
            space: Space::Append,
            ..Pattern::overwrites(1 << 20, 2, Sync::End)
        };
        let figure = run(&pattern, &target, Duration::from_secs(60), &Stop::new()).unwrap();
        assert_eq!(figure.bytes, 16 << 20);
    }

    #[test]
    fn a_rate_is_not_exceeded_and_a_stop_ends_it_early() {
        let dir = crate::machine::test_dir();
        let target = target(&dir);
        let pattern = Pattern {
            bytes_per_second: Some(4 << 20),
            ..Pattern::random_reads(4096, 4)
        };
        let limit = Duration::from_millis(100);
        let figure = run(&pattern, &target, limit, &Stop::new()).unwrap();
        let allowed = 0.1 * f64::from(4 << 20) + 4.0 * 4096.0;
        assert!(figure.bytes as f64 <= allowed, "{} bytes", figure.bytes);
        let stop = Stop::new();
        stop.ask();
        // What was begun before it looked is counted; a minute was not waited for, or this test would hang.
        run(&pattern, &target, Duration::from_secs(3600), &stop).unwrap();
    }

    #[test]
    fn works_side_by_side_each_have_their_own_figure() {
        let dir = crate::machine::test_dir();
        let target = target(&dir);
        let works = [
            Pattern::random_reads(4096, 2),
            Pattern::overwrites(65536, 1, Sync::None),
        ]
        .map(|pattern| Work {
            pattern,
            target: &target,
        });
        let figures = run_together(&works, LIMIT, &Stop::new()).unwrap();
        assert_eq!(figures.len(), 2);
        for (work, figure) in works.iter().zip(figures) {
            assert_eq!(
                figure.bytes,
                figure.operations * u64::from(work.pattern.block_bytes)
            );
        }
    }

    #[test]
    fn the_groups_of_a_log_keep_to_their_mean_on_every_file() {
        let dir = crate::machine::test_dir();
        let files = ["a", "b"].map(|name| Target::make(&dir.path().join(name), 1 << 20).unwrap());
        let figure = wal_groups(&files, 6000.0, LIMIT, &Stop::new()).unwrap();
        let mean = figure.bytes as f64 / figure.operations as f64;
        // Two files' first groups are a page each; of few operations that is all the difference there is.
        let off = 2.0 * 4096.0 / figure.operations as f64;
        assert!((mean - 6000.0).abs() <= off, "{mean}");
        assert!(wal_groups(&files, 4e6, LIMIT, &Stop::new()).is_err());
    }
}
