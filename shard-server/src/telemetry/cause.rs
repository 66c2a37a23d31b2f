//! Why a round took long, in words, from what its pipeline measured of it: pure.
//!
//! Nothing is guessed. What a shard did with a request, whether it read the device or waited for its turn, is not known where
//! the round is; how long the shards took to answer, what they were asked, and what holds the shard's writers back now is.

use std::fmt::Write as _;
use std::time::Duration;

use corelane::api::Durability;

/// What a round's requests to shards were, and took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many there were.
    pub requests: usize,
    /// How many of them write.
    pub writes: usize,
    /// The shard of the first.
    pub shard: Option<u16>,
    /// From when they were sent until all were answered.
    pub took: Duration,
}

/// What went into a round's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// All of it.
    pub total: Duration,
    /// The rounds before it, in which its reads were put off for want of room.
    pub put_off: Duration,
    /// Requests to shards.
    pub asked: Asked,
    /// When the shards acknowledge writes.
    pub durability: Durability,
    /// What holds the writers of the first request's shard back now, in words; empty where nothing does or it is not known.
    pub stall: String,
    /// While the core did what was more urgent.
    pub gave_way: Duration,
    /// The command that ran behind everything else of the round, and what it took.
    pub last: Option<(&'static str, Duration)>,
    /// Commands that ended.
    pub commands: usize,
}

/// Parts of a round below this share of it are not told.
const TOLD_PERCENT: u32 = 10;

impl Spent {
    /// The parts of the time that matter, the longest first.
    pub fn cause(&self) -> String {
        let last = self.last.map_or(Duration::ZERO, |(_, took)| took);
        let others = self.put_off + self.asked.took + self.gave_way + last;
        let mut parts = vec![
            (self.gave_way, "more urgent work of the core".to_owned()),
            (
                self.put_off,
                "put off behind long answers of its pipeline".to_owned(),
            ),
        ];
        if self.asked.requests > 0 {
            parts.push((self.asked.took, self.asked_in_words()));
        }
        if let Some((name, took)) = self.last {
            parts.push((took, format!("{name}, behind all before it")));
        }
        let own = match self.commands {
            1 => "running the command".to_owned(),
            n => format!("running {n} commands"),
        };
        parts.push((self.total.saturating_sub(others), own));
        parts.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        let told = |took: &Duration| !took.is_zero() && *took * 100 >= self.total * TOLD_PERCENT;
        let mut text = String::new();
        for (took, what) in parts.iter().filter(|(took, _)| told(took)) {
            let apart = if text.is_empty() { "" } else { "; " };
            let _never_fails = write!(text, "{apart}{what} ({} us)", took.as_micros());
        }
        if self.asked.writes > 0
            && !self.stall.is_empty()
            && let Some(shard) = self.asked.shard
        {
            let apart = if text.is_empty() { "" } else { "; " };
            let _never_fails = write!(
                text,
                "{apart}writers of shard {shard} are held back now: {}",
                self.stall
            );
        }
        text
    }

    /// What was waited for, with as much as is known of it.
    fn asked_in_words(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let writes = match self.durability {
            Durability::Sync => "durable write",
            Durability::Buffered | Durability::None => "write",
        };
        let reads = self.asked.requests.saturating_sub(self.asked.writes);
        let what = match (self.asked.writes, reads) {
            (0, reads) => count(reads, "read"),
            (made, 0) => count(made, writes),
            (made, reads) => format!("{} and {}", count(made, writes), count(reads, "read")),
        };
        format!("waiting for {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// A round of 10 ms that waited for its shards for `took_us`.
    fn asked(requests: usize, writes: usize, took_us: u64) -> Spent {
        let asked = Asked {
            requests,
            writes,
            shard: Some(3),
            took: us(took_us),
        };
        Spent {
            total: us(10_000),
            asked,
            commands: requests,
            ..Spent::default()
        }
    }

    #[test]
    fn what_was_waited_for_is_told_by_its_kind() {
        for (requests, writes, words) in [
            (1, 1, "waiting for 1 durable write (9900 us)"),
            (3, 0, "waiting for 3 reads (9900 us)"),
            (3, 2, "waiting for 2 durable writes and 1 read (9900 us)"),
        ] {
            assert_eq!(asked(requests, writes, 9_900).cause(), words);
        }
        let buffered = Spent {
            durability: Durability::Buffered,
            ..asked(2, 2, 9_900)
        };
        assert_eq!(buffered.cause(), "waiting for 2 writes (9900 us)");
    }

    #[test]
    fn the_longest_part_comes_first_and_small_ones_are_not_told() {
        let spent = Spent {
            gave_way: us(6_000),
            last: Some(("exec", us(900))),
            ..asked(1, 0, 2_000)
        };
        assert_eq!(
            spent.cause(),
            "more urgent work of the core (6000 us); waiting for 1 read (2000 us); running the command (1100 us)"
        );
        let last = Spent {
            last: Some(("keys", us(9_990))),
            ..asked(0, 0, 0)
        };
        assert_eq!(last.cause(), "keys, behind all before it (9990 us)");
        let own = Spent {
            commands: 7,
            ..asked(0, 0, 0)
        };
        assert_eq!(own.cause(), "running 7 commands (10000 us)");
    }

    #[test]
    fn a_stall_is_told_to_who_writes_alone() {
        let stalled = |writes| Spent {
            stall: "level 0 is behind".to_owned(),
            ..asked(1, writes, 9_900)
        };
        assert_eq!(
            stalled(1).cause(),
            "waiting for 1 durable write (9900 us); writers of shard 3 are held back now: level 0 is behind"
        );
        assert_eq!(stalled(0).cause(), "waiting for 1 read (9900 us)");
    }

    #[test]
    fn what_was_put_off_says_how_long() {
        let spent = Spent {
            put_off: us(7_000),
            ..asked(1, 0, 3_000)
        };
        assert_eq!(
            spent.cause(),
            "put off behind long answers of its pipeline (7000 us); waiting for 1 read (3000 us)"
        );
    }

    #[test]
    fn a_round_without_time_has_no_cause() {
        assert_eq!(Spent::default().cause(), "");
    }
}
