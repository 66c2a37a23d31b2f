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
