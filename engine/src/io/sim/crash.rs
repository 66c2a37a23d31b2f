//! What a power cut leaves behind, chosen by a seed.
//!
//! Data, per file: the durable content; over it each volatile write lost, whole, or any subset of its 512-byte sectors,
//! independently of each other; over that the writes in flight likewise, in any order, and now and then with a sector
//! of noise. The length is the durable one or any that an operation had reached or was about to reach; data beyond the
//! chosen length is gone.
//!
//! Names: of the changes not synced, most seeds keep a prefix of all (a journal commits in order), some a prefix per
//! directory, some any subset.
//!
//! Models: TigerBeetle's `src/testing/storage.zig`; Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014)
//! for what file systems may reorder.

use std::collections::BTreeMap;

use super::content::{FileNode, Record, SECTOR_BYTES, sectors};
use super::names::{Ino, Pending};
use super::rng::Rng;
use crate::types::PAGE_BYTES;

/// How much of one write reached the medium.
enum Fate {
    Lost,
    Whole,
    /// Each sector by its own coin.
    Subset,
    /// The first so many sectors.
    Prefix(usize),
    /// All but the first so many sectors.
    Suffix(usize),
    /// All but this sector.
    Hole(usize),
}

impl Fate {
    fn draw(sectors: usize, rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 | 1 => Self::Lost,
            2 | 3 => Self::Whole,
            4 => Self::Subset,
            5 => Self::Prefix(rng.index(sectors + 1)),
            6 => Self::Suffix(rng.index(sectors + 1)),
            _ => Self::Hole(rng.index(sectors)),
        }
    }

    fn keeps(&self, sector: usize, rng: &mut Rng) -> bool {
        match self {
            Self::Lost => false,
            Self::Whole => true,
            Self::Subset => rng.coin(),
            Self::Prefix(n) => sector < *n,
            Self::Suffix(n) => sector >= *n,
            Self::Hole(n) => sector != *n,
        }
    }
}

/// Turns a file into what is found after the cut.
pub(super) fn crash_file(node: &mut FileNode, rng: &mut Rng) {
    let mut lengths = vec![node.durable.bytes];
    lengths.extend(node.lengths.iter().map(|(_, bytes)| *bytes));
    for (_, record) in std::mem::take(&mut node.volatile) {
        land(node, &record, false, rng);
    }
    let mut in_flight: Vec<Record> = std::mem::take(&mut node.in_flight).into_values().collect();
    rng.shuffle(&mut in_flight);
    for record in in_flight {
        land(node, &record, true, rng);
        let pages = record.data.len().div_ceil(PAGE_BYTES);
        lengths.push(record.position + (rng.index(pages + 1) * PAGE_BYTES) as u64);
        lengths.push(record.end());
    }
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let drawn = if rng.coin() { longest } else { *rng.pick(&lengths) };
    // No cut shortens a file below what is durable: a length in flight may lie below it.
    node.durable.bytes = node.durable.bytes.max(drawn);
    node.open = 0;
    node.settle_at_durable();
}

fn land(node: &mut FileNode, record: &Record, in_flight: bool, rng: &mut Rng) {
    let count = record.data.len().div_ceil(SECTOR_BYTES);
    if count == 0 {
        return;
    }
    let fate = Fate::draw(count, rng);
    let noisy = in_flight && rng.chance(if record.fragile { 8 } else { 1 }, 16);
    let noise_at = rng.index(count);
    for (index, (position, sector)) in sectors(record).enumerate() {
        if noisy && index == noise_at {
            let mut noise = vec![0; sector.len()];
            rng.fill(&mut noise);
            node.durable.write(position, &noise);
        } else if fate.keeps(index, rng) {
            node.durable.write(position, sector);
        }
    }
}

/// Which of the changes that are not durable survive, by index.
pub(super) fn surviving_changes(pending: &[Pending], rng: &mut Rng) -> Vec<bool> {
    match rng.below(10) {
        0..6 => {
            let kept = rng.index(pending.len() + 1);
            (0..pending.len()).map(|index| index < kept).collect()
        }
        6..8 => {
            let mut counts: BTreeMap<Ino, usize> = BTreeMap::new();
            for change in pending {
                *counts.entry(change.change.dir()).or_default() += 1;
            }
            let mut left: BTreeMap<Ino, usize> = counts
                .into_iter()
                .map(|(dir, count)| (dir, rng.index(count + 1)))
                .collect();
            let mut keep = |change: &Pending| {
                let left = left.entry(change.change.dir()).or_default();
                let kept = *left > 0;
                *left = left.saturating_sub(1);
                kept
            };
            pending.iter().map(&mut keep).collect()
        }
        _ => pending.iter().map(|_| rng.coin()).collect(),
    }
}
