//! How much of the core flush and compaction get: shares that rise with the backlog.
//!
//! The model is Seastar's and Scylla's backlog controller: a proportional controller whose control function is a line
//! through fixed points, with no history. Little backlog, few shares, and requests hardly notice; as the backlog grows
//! the shares rise until the work keeps up, and the backlog settles where both balance. Every function here is
//! continuous and never falls as its backlog rises, so there is no threshold to swing around.
//!
//! Flush outranks L0, and L0 the rest, because each is what makes writers wait first: immutables fill memory, L0 tables
//! slow every read, deep debt only costs space.

/// How far behind flush and compaction are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Backlog {
    /// Immutable memtables not yet in tables, the active one counting by how full it is (0 to 1).
    pub memtables: f64,
    /// Tables in L0.
    pub level0_tables: usize,
    /// Bytes that compaction has yet to write ([`super::pick::debt_bytes`]).
    pub debt_bytes: u64,
}

/// Where each backlog counts as full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceOptions {
    /// Memtables at which writers must wait.
    pub memtables_max: f64,
    /// L0 tables that call for a compaction.
    pub level0_trigger: usize,
    /// L0 tables at which L0 gets its most.
    pub level0_full: usize,
    /// Debt at which compaction gets its most, in bytes.
    pub debt_full_bytes: u64,
}

impl Default for PaceOptions {
    fn default() -> Self {
        Self {
            memtables_max: 4.0,
            level0_trigger: 4,
            level0_full: 24,
            debt_full_bytes: 16 << 30,
        }
    }
}

/// Weights for [`crate::io::Io::set_shares`], 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For [`crate::io::Class::Flush`].
    pub flush: u32,
    /// For [`crate::io::Class::Level0`].
    pub level0: u32,
    /// For [`crate::io::Class::Compaction`].
    pub compaction: u32,
}

/// How full against how many shares; between the points it is a straight line, outside them it is level.
type Line = [(f64, f64); 4];

const FLUSH: Line = [(0.0, 100.0), (0.25, 200.0), (0.75, 700.0), (1.0, 1000.0)];
const LEVEL0: Line = [(0.0, 30.0), (0.2, 150.0), (0.7, 600.0), (1.0, 900.0)];
const COMPACTION: Line = [(0.0, 20.0), (0.2, 80.0), (0.7, 400.0), (1.0, 700.0)];

/// The shares for this backlog.
#[expect(
    clippy::cast_precision_loss,
    reason = "a controller's input is a rough measure"
)]
pub fn shares(backlog: &Backlog, options: &PaceOptions) -> Shares {
    let memtables = backlog.memtables / options.memtables_max.max(1.0);
    let over = backlog
        .level0_tables
        .saturating_sub(options.level0_trigger.saturating_sub(1));
    let level0 = over as f64 / options.level0_full.saturating_sub(options.level0_trigger).max(1) as f64;
    let debt = backlog.debt_bytes as f64 / options.debt_full_bytes.max(1) as f64;
    Shares {
        flush: along(&FLUSH, memtables),
        level0: along(&LEVEL0, level0),
        compaction: along(&COMPACTION, debt),
    }
}

/// The height of the line at `x`, rounded, at least 1 and at most 1000.
fn along(line: &Line, x: f64) -> u32 {
    let mut height = line[0].1;
    for pair in line.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if x > x0 {
            height = y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).min(1.0);
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=1000 before"
    )]
    let shares = height.round().clamp(1.0, 1000.0) as u32;
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(memtables: f64, level0_tables: usize, debt_bytes: u64) -> Shares {
        let backlog = Backlog {
            memtables,
            level0_tables,
            debt_bytes,
        };
        shares(&backlog, &PaceOptions::default())
    }

    #[test]
    fn an_idle_shard_gives_little_and_a_full_one_most_to_flush() {
        let idle = at(0.0, 0, 0);
        assert_eq!((idle.flush, idle.level0, idle.compaction), (100, 30, 20));
        let full = at(100.0, 1000, u64::MAX);
        assert_eq!((full.flush, full.level0, full.compaction), (1000, 900, 700));
    }

    #[test]
    fn more_backlog_never_gives_fewer_shares_and_no_small_step_gives_many() {
        let mut last = at(0.0, 0, 0);
        for step in 0..=10_000_u64 {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let memtables = 5.0 * step as f64 / 10_000.0;
            let now = at(memtables, 0, step * (20 << 30) / 10_000);
            assert!(now.flush >= last.flush && now.compaction >= last.compaction);
            assert!(now.flush - last.flush <= 2 && now.compaction - last.compaction <= 2);
            last = now;
        }
        for tables in 0..60 {
            let (now, next) = (at(0.0, tables, 0).level0, at(0.0, tables + 1, 0).level0);
            // One table is one step; it never moves the weight by more than a tenth of its range.
            assert!(next >= now && next - now <= 90, "at {tables} tables");
        }
    }

    #[test]
    fn equal_fullness_ranks_flush_over_level_0_over_the_rest() {
        for percent in 0..=100_u64 {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let x = percent as f64 / 100.0;
            assert!(along(&FLUSH, x) > along(&LEVEL0, x));
            assert!(along(&LEVEL0, x) > along(&COMPACTION, x));
        }
    }

    #[test]
    fn strange_options_and_inputs_stay_within_1_to_1000() {
        let options = PaceOptions {
            memtables_max: 0.0,
            level0_trigger: 0,
            level0_full: 0,
            debt_full_bytes: 0,
        };
        for memtables in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let backlog = Backlog {
                memtables,
                level0_tables: usize::MAX,
                debt_bytes: u64::MAX,
            };
            let Shares {
                flush,
                level0,
                compaction,
            } = shares(&backlog, &options);
            for shares in [flush, level0, compaction] {
                assert!((1..=1000).contains(&shares), "{shares} for {memtables}");
            }
        }
    }
}
