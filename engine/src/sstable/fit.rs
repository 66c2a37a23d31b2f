//! Decides how full a data block gets and how it is stored, so that a block takes one page on disk where it can.
//!
//! Uncompressed it is simple: a block is closed before its page would overflow. Compressed, the page holds more raw
//! bytes, and how many is known only afterwards. So the ratio of the blocks so far foretells it; a block that overshoots
//! its page is cut once, by its own ratio, and compressed again. Data that does not shrink is found out and left alone:
//! then only every sixteenth block is tried, to notice when it changes.

use super::format::{BLOCK_HEADER_BYTES, Compression, MAX_COMPRESSED_RAW_BYTES, padded_pages};

/// Ratios are in 1/1024: stored bytes for 1024 raw bytes.
const ONE: usize = 1024;

/// Nothing is known at the start; half is what text and JSON often do, and an overshoot costs one more compression.
const FIRST_RATIO: usize = ONE / 2;

/// Worse than this (7/8) a block is not worth its decompression.
const HOPELESS_RATIO: usize = ONE * 7 / 8;

/// Blocks stored raw after a hopeless one before the next try.
const BLOCKS_SKIPPED: u32 = 15;

/// A block holds at most so many times its page in raw bytes: a point lookup decompresses all of it.
const MAX_EXPANSION: usize = 4;

/// Chooses how data blocks are filled. See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    compression: Compression,
    room_bytes: usize,
    ratio: usize,
    skip: u32,
}

/// What to do with a block that was compressed to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store it as it is.
    StoreRaw,
    /// Store the compressed form.
    StoreCompressed,
    /// Keep only the entries of the first so many raw bytes and compress those.
    CutAndRetry(usize),
    /// Keep only the entries of the first so many raw bytes and store them raw.
    CutAndStoreRaw(usize),
}

impl Fit {
    /// For blocks of `block_bytes` on disk, header included.
    pub(crate) fn new(compression: Compression, block_bytes: usize) -> Self {
        let room_bytes = block_bytes - BLOCK_HEADER_BYTES;
        Self {
            compression,
            room_bytes,
            ratio: FIRST_RATIO,
            skip: 0,
        }
    }

    /// Payload bytes that a block of the wished size has room for.
    pub(crate) fn room_bytes(&self) -> usize {
        self.room_bytes
    }

    /// Raw payload bytes beyond which the block being filled is closed.
    #[inline]
    pub(crate) fn raw_target_bytes(&self) -> usize {
        if self.compression == Compression::None || self.skip > 0 {
            return self.room_bytes;
        }
        self.fitting_bytes(self.ratio)
    }

    /// Raw bytes that should fill the room at this ratio, with 1/32 kept back for variation.
    fn fitting_bytes(&self, ratio: usize) -> usize {
        let fitting = self.room_bytes * ONE / ratio.max(1);
        let most = (self.room_bytes * MAX_EXPANSION).min(MAX_COMPRESSED_RAW_BYTES);
        (fitting - fitting / 32).clamp(self.room_bytes, most.max(self.room_bytes))
    }

    /// Whether to compress this block of `raw_bytes` to see what becomes of it. Counts the blocks that are skipped.
    pub(crate) fn try_next(&mut self, raw_bytes: usize) -> bool {
        if self.compression == Compression::None || raw_bytes > MAX_COMPRESSED_RAW_BYTES {
            return false;
        }
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Judges a block of `raw_bytes` that compressed to `compressed_bytes`, and learns from it. `may_cut`: it was not
    /// cut before and holds more than one entry.
    pub(crate) fn judge(&mut self, raw_bytes: usize, compressed_bytes: usize, may_cut: bool) -> Verdict {
        let ratio = (compressed_bytes * ONE).div_ceil(raw_bytes.max(1)).max(1);
        self.ratio = (self.ratio + ratio) / 2;
        let hopeless = ratio > HOPELESS_RATIO;
        if hopeless {
            self.skip = BLOCKS_SKIPPED;
        }
        if may_cut && raw_bytes > self.room_bytes && compressed_bytes > self.room_bytes {
            return if hopeless {
                Verdict::CutAndStoreRaw(self.room_bytes)
            } else {
                Verdict::CutAndRetry(self.fitting_bytes(ratio))
            };
        }
        if padded_pages(compressed_bytes) < padded_pages(raw_bytes) {
            Verdict::StoreCompressed
        } else {
            Verdict::StoreRaw
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 4096 - BLOCK_HEADER_BYTES;

    fn lz4() -> Fit {
        Fit::new(Compression::Lz4, 4096)
    }

    #[test]
    fn uncompressed_blocks_fill_exactly_one_page() {
        let mut fit = Fit::new(Compression::None, 4096);
        assert_eq!(fit.raw_target_bytes(), ROOM);
        assert!(!fit.try_next(ROOM));
    }

    #[test]
    fn the_target_follows_the_ratio_of_the_blocks_so_far_within_bounds() {
        for (percent, low, high) in [
            (10, 15_000, 16_288),
            (25, 15_000, 16_288),
            (50, 7500, 8144),
            (80, 4800, 5100),
        ] {
            let mut fit = lz4();
            for _ in 0..20 {
                let raw = fit.raw_target_bytes();
                assert!(fit.try_next(raw));
                fit.judge(raw, raw * percent / 100, true);
            }
            let target = fit.raw_target_bytes();
            assert!((low..=high).contains(&target), "{percent} %: {target}");
            assert!(
                target * percent / 100 <= ROOM,
                "{percent} %: {target} fits the page"
            );
        }
    }

    #[test]
    fn an_overshoot_is_cut_once_to_what_its_own_ratio_fits() {
        let mut fit = lz4();
        let Verdict::CutAndRetry(raw) = fit.judge(8000, 5600, true) else {
            panic!("expected a cut")
        };
        assert!(raw < 8000 && raw * 7 / 10 <= ROOM, "{raw}");
        assert_eq!(
            fit.judge(8200, 5600, false),
            Verdict::StoreCompressed,
            "two pages instead of three"
        );
        assert_eq!(
            fit.judge(8000, 5600, false),
            Verdict::StoreRaw,
            "two pages either way"
        );
    }

    #[test]
    fn a_block_that_saves_no_page_is_stored_raw() {
        assert_eq!(lz4().judge(ROOM, 1000, true), Verdict::StoreRaw);
        assert_eq!(lz4().judge(ROOM + 1, ROOM, true), Verdict::StoreCompressed);
    }

    #[test]
    fn incompressible_data_is_tried_at_every_sixteenth_block_and_believed_again_when_it_shrinks() {
        let mut fit = lz4();
        assert!(fit.try_next(8000));
        assert_eq!(fit.judge(8000, 8010, true), Verdict::CutAndStoreRaw(ROOM));
        for round in 0..3 {
            for block in 0..15 {
                assert_eq!(fit.raw_target_bytes(), ROOM);
                assert!(!fit.try_next(ROOM), "round {round}, block {block}");
            }
            assert!(fit.try_next(ROOM), "round {round}");
            assert_eq!(fit.judge(ROOM, ROOM + 10, true), Verdict::StoreRaw);
        }
        for _ in 0..15 {
            assert!(!fit.try_next(ROOM));
        }
        assert!(fit.try_next(ROOM));
        fit.judge(ROOM, ROOM / 4, true);
        assert!(fit.try_next(ROOM) && fit.raw_target_bytes() > ROOM);
    }

    #[test]
    fn a_value_too_long_to_compress_in_a_slice_is_not_tried() {
        assert!(!lz4().try_next(MAX_COMPRESSED_RAW_BYTES + 1));
    }
}
