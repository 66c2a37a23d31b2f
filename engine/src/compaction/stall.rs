//! How much writers are slowed, from how far flush and compaction are behind, with the reason in words.
//!
//! Nothing is slowed while they keep up. Past a start point each pressure raises the delay per written byte from zero
//! along a curve (the square of the way from start to limit), to a strong but finite delay at the limit: there is no
//! cliff on the way, so a writer's rate settles where compaction can follow. RocksDB's `delayed_write_rate` is the idea,
//! its steps are not. The pressure that slows most sets the delay and is the one named.
//!
//! Only at the hard limits, which a working device does not reach, does a writer wait: memory for memtables is used up,
//! or L0 has so many tables that reads suffer more than writers would.

use std::time::Duration;

/// What presses on writers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Immutable memtables that wait for their flush or are in it.
    pub immutables: usize,
    /// How full the active memtable is, 0 to 1: it makes the pressure of memtables continuous.
    pub active_fill: f64,
    /// Tables in L0.
    pub level0_tables: usize,
    /// Bytes that compaction has yet to write ([`super::pick::debt_bytes`]).
    pub debt_bytes: u64,
}

/// Where slowing starts and where it ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StallOptions {
    /// Immutables at which a writer that needs a new memtable waits.
    pub immutables_max: usize,
    /// L0 tables from which writers are slowed.
    pub level0_start: usize,
    /// L0 tables at which writers wait.
    pub level0_max: usize,
    /// Debt from which writers are slowed, in bytes.
    pub debt_start_bytes: u64,
    /// Debt at which the delay is greatest, in bytes. It is no hard limit.
    pub debt_full_bytes: u64,
    /// The greatest delay per written byte in nanoseconds: 500 lets 2 MB/s through.
    pub max_ns_per_byte: f64,
    /// The longest that a single write holds back those after it, however large it is.
    pub max_delay: Duration,
}

impl Default for StallOptions {
    fn default() -> Self {
        Self {
            immutables_max: 4,
            level0_start: 12,
            level0_max: 36,
            debt_start_bytes: 8 << 30,
            debt_full_bytes: 64 << 30,
            max_ns_per_byte: 500.0,
            max_delay: Duration::from_secs(1),
        }
    }
}

/// What a writer is slowed by, or waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Memtables are filled faster than they are flushed.
    Memtables {
        /// Immutables now.
        now: usize,
        /// The limit.
        max: usize,
    },
    /// Tables reach L0 faster than they are merged.
    Level0 {
        /// Tables now.
        now: usize,
        /// The limit.
        max: usize,
    },
    /// The levels below are behind.
    Debt {
        /// Bytes now.
        now: u64,
        /// Bytes at which the delay is greatest.
        full: u64,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memtables { now, max } => {
                write!(
                    f,
                    "flush is behind: {now} of at most {max} full memtables wait for it"
                )
            }
            Self::Level0 { now, max } => {
                write!(
                    f,
                    "compaction of L0 is behind: it has {now} of at most {max} tables"
                )
            }
            Self::Debt { now, full } => {
                write!(
                    f,
                    "compaction is behind by {now} bytes; writers are slowed most at {full}"
                )
            }
        }
    }
}

/// What a writer does before it writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stall {
    /// It goes on at once.
    None,
    /// It is held back for each byte; see [`Stall::delay`].
    Slow {
        /// Nanoseconds per byte written.
        ns_per_byte: f64,
        /// By what.
        reason: Reason,
    },
    /// It waits until the limit is no longer reached.
    Wait(Reason),
}

impl Stall {
    /// The time that a write of `bytes` takes of its shard's [`Clock`], at most `max_delay`; zero where nobody is slowed,
    /// and where writers wait anyway.
    pub fn delay(&self, bytes: usize, options: &StallOptions) -> Duration {
        match self {
            Self::Slow { ns_per_byte, .. } => {
                #[expect(clippy::cast_precision_loss, reason = "a delay is a rough measure")]
                let ns = ns_per_byte * bytes as f64;
                Duration::from_secs_f64(ns / 1e9).min(options.max_delay)
            }
            Self::None | Self::Wait(_) => Duration::ZERO,
        }
    }
}

/// When the next writer may start, of all writers of one shard. What each one writes takes its time of the one clock, so
/// that any number of them together are as slow as one alone would be: were each held back for itself, a hundred would
/// be let through a hundred times as fast as compaction can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    next_free: Duration,
}

impl Clock {
    /// How long a writer that comes at `now` would wait for its turn.
    pub fn wait(&self, now: Duration) -> Duration {
        self.next_free.saturating_sub(now)
    }

    /// Takes the next turn, for a write that costs so much time ([`Stall::delay`]); returns when it starts. The cost is
    /// paid by those who come after. Time in which nobody wrote is not saved up.
    pub fn book(&mut self, now: Duration, cost: Duration) -> Duration {
        let start = now.max(self.next_free);
        self.next_free = start + cost;
        start
    }
}

/// What a writer does under this pressure.
#[expect(clippy::cast_precision_loss, reason = "a pressure is a rough measure")]
pub fn decide(pressure: &Pressure, options: &StallOptions) -> Stall {
    let memtables = Reason::Memtables {
        now: pressure.immutables,
        max: options.immutables_max,
    };
    let level0 = Reason::Level0 {
        now: pressure.level0_tables,
        max: options.level0_max,
    };
    let debt = Reason::Debt {
        now: pressure.debt_bytes,
        full: options.debt_full_bytes,
    };
    if pressure.immutables >= options.immutables_max {
        return Stall::Wait(memtables);
    }
    if pressure.level0_tables >= options.level0_max {
        return Stall::Wait(level0);
    }
    // One full memtable in flush and one being filled is the normal course of things; half the rest may fill freely.
    let filled = pressure.immutables as f64 + pressure.active_fill.clamp(0.0, 1.0);
    let memtables_max = options.immutables_max as f64;
    let ways = [
        (way(filled, memtables_max / 2.0 + 0.5, memtables_max), memtables),
        (
            way(
                pressure.level0_tables as f64,
                options.level0_start as f64,
                options.level0_max as f64,
            ),
            level0,
        ),
        (
            way(
                pressure.debt_bytes as f64,
                options.debt_start_bytes as f64,
                options.debt_full_bytes as f64,
            ),
            debt,
        ),
    ];
    let (most, reason) = ways
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("there are three pressures");
    if most <= 0.0 {
        return Stall::None;
    }
    Stall::Slow {
        ns_per_byte: most * most * options.max_ns_per_byte,
        reason,
    }
}

/// How far `now` is on its way from `start` to `end`, 0 to 1.
fn way(now: f64, start: f64, end: f64) -> f64 {
    if now <= start {
        0.0
    } else {
        ((now - start) / (end - start).max(f64::MIN_POSITIVE)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(pressure: &Pressure) -> f64 {
        match decide(pressure, &StallOptions::default()) {
            Stall::None => 0.0,
            Stall::Slow { ns_per_byte, .. } => ns_per_byte,
            Stall::Wait(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn nothing_is_slowed_while_flush_and_compaction_keep_up() {
        let calm = Pressure {
            immutables: 1,
            active_fill: 1.0,
            level0_tables: 12,
            debt_bytes: 8 << 30,
        };
        assert_eq!(decide(&calm, &StallOptions::default()), Stall::None);
    }

    #[test]
    fn delay_grows_with_debt_without_a_step_to_a_finite_most() {
        let mut last = 0.0;
        for step in 0..=20_000_u64 {
            let debt_bytes = step * (80 << 30) / 20_000;
            let now = rate(&Pressure {
                debt_bytes,
                ..Pressure::default()
            });
            assert!(
                now >= last && now - last <= 0.1,
                "at {debt_bytes}: {last} to {now}"
            );
            last = now;
        }
        assert!((last - 500.0).abs() < 1e-9);
    }

    #[test]
    fn delay_grows_with_memtables_without_a_step_across_a_switch() {
        let mut last = 0.0;
        for immutables in 0..4 {
            for step in 0..=1000_u32 {
                let active_fill = f64::from(step) / 1000.0;
                let now = rate(&Pressure {
                    immutables,
                    active_fill,
                    ..Pressure::default()
                });
                assert!(now >= last && now - last <= 2.0, "{immutables} and {active_fill}");
                last = now;
            }
        }
        assert!((last - 500.0).abs() < 1e-9, "strongest just before the limit");
    }

    #[test]
    fn each_level_0_table_adds_little_and_the_last_is_strong() {
        let at = |level0_tables| {
            rate(&Pressure {
                level0_tables,
                ..Pressure::default()
            })
        };
        assert!(at(13) > 0.0 && at(13) < 1.0, "the first step is barely felt");
        for tables in 0..35 {
            let step = at(tables + 1) - at(tables);
            assert!((0.0..=42.0).contains(&step), "{step} at {tables} tables");
        }
        assert!(at(35) > 400.0);
    }

    #[test]
    fn hard_limits_wait_and_say_why() {
        let options = StallOptions::default();
        let full = Pressure {
            immutables: 4,
            ..Pressure::default()
        };
        let Stall::Wait(reason) = decide(&full, &options) else {
            panic!("memory is used up")
        };
        assert_eq!(
            reason.to_string(),
            "flush is behind: 4 of at most 4 full memtables wait for it"
        );
        let many = Pressure {
            level0_tables: 36,
            ..Pressure::default()
        };
        let Stall::Wait(reason) = decide(&many, &options) else {
            panic!("L0 is full")
        };
        assert_eq!(
            reason.to_string(),
            "compaction of L0 is behind: it has 36 of at most 36 tables"
        );
    }

    #[test]
    fn the_strongest_pressure_is_the_one_named() {
        let pressure = Pressure {
            level0_tables: 20,
            debt_bytes: 60 << 30,
            ..Pressure::default()
        };
        let stall = decide(&pressure, &StallOptions::default());
        assert!(matches!(
            stall,
            Stall::Slow {
                reason: Reason::Debt { .. },
                ..
            }
        ));
    }

    /// Each writer was delayed for its own bytes alone, so that a hundred writers were slowed a hundred times less than
    /// one, and the debt grew to its limit.
    #[test]
    fn any_number_of_writers_together_are_as_slow_as_one() {
        let cost = Duration::from_micros(200);
        for writers in [1, 2, 100] {
            let mut clock = Clock::default();
            let mut ready = vec![Duration::from_secs(7); writers];
            let mut starts = Vec::new();
            // Every writer comes back for its next write as soon as it may start the last.
            for write in 0..1000 {
                let writer = write % writers;
                let start = clock.book(ready[writer], cost);
                assert!(start >= ready[writer], "nobody starts before it came");
                ready[writer] = start;
                starts.push(start);
            }
            assert!(starts.is_sorted(), "in the order in which they came");
            let took = *starts.last().unwrap() - starts[0];
            assert_eq!(took, cost * 999, "{writers} writers");
        }
    }

    #[test]
    fn a_clock_saves_nothing_up_and_lets_the_first_start_at_once() {
        let (mut clock, cost) = (Clock::default(), Duration::from_secs(1));
        let at = Duration::from_secs;
        assert_eq!(clock.wait(at(5)), at(0));
        assert_eq!(clock.book(at(5), cost), at(5));
        assert_eq!(clock.wait(at(5)), at(1));
        assert_eq!(clock.book(at(5), cost), at(6));
        assert_eq!(clock.book(at(100), cost), at(100), "idle time is lost");
        assert_eq!(clock.book(at(100), cost), at(101));
    }

    #[test]
    fn a_write_is_held_back_by_its_bytes_up_to_a_most() {
        let options = StallOptions::default();
        let stall = Stall::Slow {
            ns_per_byte: 500.0,
            reason: Reason::Debt { now: 1, full: 2 },
        };
        assert_eq!(stall.delay(0, &options), Duration::ZERO);
        assert_eq!(stall.delay(416, &options), Duration::from_micros(208));
        assert_eq!(stall.delay(1 << 30, &options), options.max_delay);
        assert_eq!(Stall::None.delay(1 << 30, &options), Duration::ZERO);
    }
}
