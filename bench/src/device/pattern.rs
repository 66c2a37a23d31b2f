//! What the raw loop does, as plain data in fio's terms, and which combinations make sense.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// The smallest block that any device takes.
pub const LEAST_BLOCK: u32 = 512;
/// The largest block that is measured.
pub const MOST_BLOCK: u32 = 1 << 20;
/// The most operations under way.
pub const MOST_DEPTH: u32 = 256;

/// A pattern of device operations: fio's `rw`, `bs`, `iodepth`, `sync`, `overwrite`, `numjobs`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What is done, and in which order.
    pub access: Access,
    /// Bytes of one operation, 512 to 1 MiB.
    pub block_bytes: u32,
    /// Operations under way in all threads together, 1 to 256.
    pub depth: u32,
    /// When a write counts as done.
    pub sync: Sync,
    /// Where writes go.
    pub space: Space,
    /// Threads, each pinned on a core of its own as long as there are any, sharing the depth.
    pub threads: u32,
    /// Bytes a second that it is held to; `None`: as fast as it goes.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// What is done, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// fio's `randread`: blocks chosen uniformly.
    RandomRead,
    /// fio's `read`: one block after the other, from the first again after the last.
    SequentialRead,
    /// fio's `randwrite`.
    RandomWrite,
    /// fio's `write`.
    SequentialWrite,
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// When the device has it, in a cache perhaps.
    None,
    /// When it is on stable storage: the file is open with `O_DSYNC` (fio's `sync=dsync`).
    Dsync,
    /// After an `fdatasync` that follows each write (fio's `fdatasync=1`).
    Fdatasync,
    /// As `None`, and one `fdatasync` at the very end counts in the time (fio's `end_fsync=1`).
    End,
}

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Over blocks that were written and synced before.
    Overwrite,
    /// Into fresh extents of a new file, as long as the target allows: it ends there.
    Append,
}

impl Access {
    /// Whether it reads.
    pub fn reads(self) -> bool {
        matches!(self, Self::RandomRead | Self::SequentialRead)
    }

    /// Whether blocks are chosen at random.
    pub fn random(self) -> bool {
        matches!(self, Self::RandomRead | Self::RandomWrite)
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::RandomRead => "random reads",
            Self::SequentialRead => "sequential reads",
            Self::RandomWrite => "random writes",
            Self::SequentialWrite => "sequential writes",
        }
    }
}

impl Pattern {
    /// Random reads from one thread.
    pub fn random_reads(block_bytes: u32, depth: u32) -> Self {
        Self {
            access: Access::RandomRead,
            block_bytes,
            depth,
            sync: Sync::None,
            space: Space::Overwrite,
            threads: 1,
            bytes_per_second: None,
        }
    }

    /// Overwrites in order, from one thread.
    pub fn overwrites(block_bytes: u32, depth: u32, sync: Sync) -> Self {
        Self {
            access: Access::SequentialWrite,
            sync,
            ..Self::random_reads(block_bytes, depth)
        }
    }

    /// Whether it makes sense at all.
    ///
    /// # Errors
    /// What does not, naming the value.
    pub fn check(&self) -> Result<(), BenchError> {
        let wrong = |words: String| Err(BenchError::usage(format!("the pattern `{self}`: {words}")));
        if !(LEAST_BLOCK..=MOST_BLOCK).contains(&self.block_bytes)
            || !self.block_bytes.is_multiple_of(LEAST_BLOCK)
        {
            return wrong(format!(
                "a block has {LEAST_BLOCK} B to 1 MiB in multiples of {LEAST_BLOCK}, not {} B",
                self.block_bytes
            ));
        }
        if !(1..=MOST_DEPTH).contains(&self.depth) {
            return wrong(format!("a depth is 1 to {MOST_DEPTH}"));
        }
        if !(1..=self.depth).contains(&self.threads) {
            return wrong(format!(
                "it has 1 to {} threads, one operation in each at least",
                self.depth
            ));
        }
        if self.access.reads() && self.sync != Sync::None {
            return wrong("reads are not synced".to_owned());
        }
        if self.space == Space::Append && self.access != Access::SequentialWrite {
            return wrong("only sequential writes append".to_owned());
        }
        if self.bytes_per_second == Some(0) {
            return wrong("a rate of 0 does nothing".to_owned());
        }
        Ok(())
    }

    /// Operations that thread `number` has under way.
    pub fn depth_of(&self, number: u32) -> u32 {
        self.depth / self.threads + u32::from(number < self.depth % self.threads)
    }
}

/// As a table names it: `random reads 4 KiB`, depth and threads left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Family {
    /// What is done.
    pub access: Access,
    /// Bytes of one operation.
    pub block_bytes: u32,
    /// When a write counts as done.
    pub sync: Sync,
    /// Where writes go.
    pub space: Space,
}

impl From<&Pattern> for Family {
    fn from(pattern: &Pattern) -> Self {
        Self {
            access: pattern.access,
            block_bytes: pattern.block_bytes,
            sync: pattern.sync,
            space: pattern.space,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {}",
            self.access.words(),
            size(u64::from(self.block_bytes))
        )?;
        if self.access.reads() {
            return Ok(());
        }
        f.write_str(match self.space {
            Space::Overwrite => ", over written blocks",
            Space::Append => ", into fresh extents",
        })?;
        f.write_str(match self.sync {
            Sync::None => ", not synced",
            Sync::Dsync => ", O_DSYNC",
            Sync::Fdatasync => ", fdatasync after each",
            Sync::End => ", fdatasync at the end",
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, depth {}", Family::from(self), self.depth)?;
        if self.threads > 1 {
            write!(f, " in {} threads", self.threads)?;
        }
        if let Some(rate) = self.bytes_per_second {
            write!(f, ", held to {}/s", size(rate))?;
        }
        Ok(())
    }
}

/// A number of bytes as people write it.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_make_no_sense_are_refused_in_words() {
        let good = Pattern::random_reads(4096, 8);
        good.check().unwrap();
        let write = Pattern::overwrites(28 << 10, 1, Sync::Dsync);
        write.check().unwrap();
        let bad: [(Pattern, &str); 9] = [
            (
                Pattern {
                    block_bytes: 256,
                    ..good
                },
                "256 B",
            ),
            (
                Pattern {
                    block_bytes: 4097,
                    ..good
                },
                "4097 B",
            ),
            (
                Pattern {
                    block_bytes: 2 << 20,
                    ..good
                },
                "1 MiB",
            ),
            (Pattern { depth: 0, ..good }, "a depth is 1 to 256"),
            (Pattern { depth: 257, ..good }, "a depth is 1 to 256"),
            (Pattern { threads: 9, ..good }, "1 to 8 threads"),
            (
                Pattern {
                    sync: Sync::Dsync,
                    ..good
                },
                "reads are not synced",
            ),
            (
                Pattern {
                    space: Space::Append,
                    access: Access::RandomWrite,
                    ..write
                },
                "only sequential writes append",
            ),
            (
                Pattern {
                    bytes_per_second: Some(0),
                    ..good
                },
                "a rate of 0",
            ),
        ];
        for (pattern, words) in bad {
            let error = pattern.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn threads_share_the_whole_depth() {
        for (depth, threads) in [(1, 1), (7, 2), (256, 3), (5, 5)] {
            let pattern = Pattern {
                threads,
                ..Pattern::random_reads(4096, depth)
            };
            let shares: Vec<u32> = (0..threads).map(|number| pattern.depth_of(number)).collect();
            assert_eq!(shares.iter().sum::<u32>(), depth);
            assert!(shares.iter().all(|share| *share > 0));
        }
    }

    #[test]
    fn a_pattern_is_told_in_words() {
        let pattern = Pattern {
            threads: 2,
            ..Pattern::overwrites(28 << 10, 2, Sync::Dsync)
        };
        assert_eq!(
            pattern.to_string(),
            "sequential writes of 28 KiB, over written blocks, O_DSYNC, depth 2 in 2 threads"
        );
        assert_eq!(size(1536), "1.5 KiB");
    }
}
