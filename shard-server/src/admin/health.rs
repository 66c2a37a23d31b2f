//! How the server is, judged from its counts: pure. Each check says what it saw; the whole is as bad as its worst check.
//!
//! - *unhealthy*: writes, or everything, fail.
//! - *degraded*: everything works, and something needs somebody before it does not.

use corelane::api::{ShardStats, Stats};
use serde::Serialize;
use utoipa::ToSchema;

use super::facts::Facts;

/// How something is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Healthy,
    /// It works, and needs somebody.
    Degraded,
    /// It fails.
    Unhealthy,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen, in words.
    pub reason: String,
}

/// All looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// The worst of the checks.
    pub state: State,
    /// Each check.
    pub checks: Vec<Check>,
}

/// Immutables that wait for a flush in one shard, from which on flushes do not keep up.
const MANY_IMMUTABLES: u64 = 3;
/// Tables in level 0 of one shard, three times as many as start a merge.
const MANY_L0_TABLES: u64 = 12;
/// Bytes that one shard's merges have yet to write, from which on they do not keep up.
const MUCH_DEBT_BYTES: u64 = 8 << 30;
/// Parts of the disk, in percent, below which its free space is short, and too short.
const SHORT_SPACE_PERCENT: u64 = 10;
const NO_SPACE_PERCENT: u64 = 2;

/// How the server is. `ready` tells whether it takes clients; `stats` are missing where the database does not answer.
pub fn judge(ready: bool, stats: Option<&Stats>, facts: &Facts) -> Health {
    let mut checks = vec![
        check("serving", ready, State::Unhealthy, "clients are served", || {
            "the server does not take clients: it starts, or drains".to_owned()
        }),
        disk(facts),
        check(
            "memlock",
            !facts.memlock_falls_short,
            State::Degraded,
            "memory may be locked",
            || {
                "the limit on locked memory is too low for registered buffers: more processor time for each I/O; raise \
                 LimitMEMLOCK or `ulimit -l`"
                    .to_owned()
            },
        ),
    ];
    match stats {
        Some(stats) => checks.extend(of_shards(stats)),
        None => checks.push(Check {
            name: "shards",
            state: State::Unhealthy,
            reason: "the database does not answer".to_owned(),
        }),
    }
    let state = checks
        .iter()
        .map(|check| check.state)
        .max()
        .unwrap_or(State::Healthy);
    Health { state, checks }
}

fn check(name: &'static str, ok: bool, bad: State, fine: &str, why: impl FnOnce() -> String) -> Check {
    Check {
        name,
        state: if ok { State::Healthy } else { bad },
        reason: if ok { fine.to_owned() } else { why() },
    }
}

fn disk(facts: &Facts) -> Check {
    let Facts {
        disk_free_bytes: free,
        disk_bytes: all,
        ..
    } = *facts;
    let percent = free.saturating_mul(100).checked_div(all);
    let (state, reason) = match percent {
        None => (
            State::Degraded,
            "the file system does not tell its space".to_owned(),
        ),
        Some(percent) => {
            let state = match percent {
                0..NO_SPACE_PERCENT => State::Unhealthy,
                NO_SPACE_PERCENT..SHORT_SPACE_PERCENT => State::Degraded,
                _ => State::Healthy,
            };
            (state, format!("{} of {} MiB are free", free >> 20, all >> 20))
        }
    };
    Check {
        name: "disk space",
        state,
        reason,
    }
}

/// The checks over all shards; a reason names the shards concerned.
fn of_shards(stats: &Stats) -> Vec<Check> {
    let health_begins = |shard: &ShardStats, word| shard.health.starts_with(word);
    vec![
        over(
            stats,
            "poisoned",
            State::Unhealthy,
            "no shard is poisoned",
            |shard| health_begins(shard, "poisoned").then(|| shard.health.clone()),
        ),
        over(
            stats,
            "read-only",
            State::Unhealthy,
            "every shard takes writes",
            |shard| health_begins(shard, "read-only").then(|| shard.health.clone()),
        ),
        over(stats, "open", State::Unhealthy, "every shard is open", |shard| {
            health_begins(shard, "closed").then(|| shard.health.clone())
        }),
        over(stats, "memtable", State::Degraded, "flushes keep up", |shard| {
            let waiting = shard.immutables;
            (waiting >= MANY_IMMUTABLES).then(|| format!("{waiting} memtables wait for a flush"))
        }),
        over(
            stats,
            "wal",
            State::Degraded,
            "the log was whole when it was opened",
            |shard| {
                let torn = shard.torn_tail_bytes;
                (torn > 0).then(|| {
                    format!(
                        "{torn} bytes behind the last whole group were dropped at the start, after a crash"
                    )
                })
            },
        ),
        over(stats, "level 0", State::Degraded, "merges keep up", |shard| {
            let tables = shard.level_tables.first().copied().unwrap_or(0);
            (tables >= MANY_L0_TABLES).then(|| format!("{tables} tables in level 0"))
        }),
        over(stats, "backlog", State::Degraded, "merges keep up", |shard| {
            let debt = shard.compaction_debt_bytes;
            (debt >= MUCH_DEBT_BYTES).then(|| format!("merges have yet to write {} MiB", debt >> 20))
        }),
        over(stats, "stall", State::Degraded, "no writer is delayed", |shard| {
            (!shard.stall.is_empty()).then(|| shard.stall.clone())
        }),
        over(
            stats,
            "jobs",
            State::Degraded,
            "flushes and merges succeed",
            |shard| {
                (!shard.failing_job.is_empty() && health_begins(shard, "healthy")).then(|| {
                    format!(
                        "given up {} times and tried again, now: {}",
                        shard.job_failures, shard.failing_job
                    )
                })
            },
        ),
    ]
}

/// Shards that a reason names; it tells how many more there are.
const NAMED_SHARDS: usize = 4;

fn over(
    stats: &Stats,
    name: &'static str,
    bad: State,
    fine: &str,
    why: impl Fn(&ShardStats) -> Option<String>,
) -> Check {
    let found: Vec<_> = stats
        .shards
        .iter()
        .filter_map(|shard| why(shard).map(|why| format!("shard {}: {why}", shard.shard)))
        .collect();
    check(name, found.is_empty(), bad, fine, || {
        let more = found.len().saturating_sub(NAMED_SHARDS);
        let mut reason = found[..found.len() - more].join("; ");
        if more > 0 {
            reason += &format!("; and {more} more shards");
        }
        reason
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Facts = Facts {
        disk_free_bytes: 50 << 30,
        disk_bytes: 100 << 30,
        resident_bytes: 1,
        open_files: 1,
        max_open_files: 1,
        cpu_ms: 1,
        memlock_falls_short: false,
    };

    fn shard() -> ShardStats {
        ShardStats {
            shard: 3,
            health: "healthy".to_owned(),
            level_tables: vec![4],
            ..ShardStats::default()
        }
    }

    fn of(shards: Vec<ShardStats>, facts: &Facts) -> Health {
        judge(true, Some(&Stats { shards }), facts)
    }

    /// The one check that is not as it should be.
    fn only(health: &Health) -> &Check {
        let bad: Vec<_> = health
            .checks
            .iter()
            .filter(|check| check.state != State::Healthy)
            .collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!(bad[0].state, health.state);
        bad[0]
    }

    #[test]
    fn a_sound_server_is_healthy_and_every_check_says_so() {
        let health = of(vec![shard()], &SOUND);
        assert_eq!(health.state, State::Healthy);
        assert!(health.checks.iter().all(|check| !check.reason.is_empty()));
    }

    #[test]
    fn each_trouble_has_its_check_its_state_and_its_words() {
        type Trouble = (fn(&mut ShardStats), &'static str, State, &'static str);
        #[rustfmt::skip]
        let troubles: [Trouble; 9] = [
            (|s| s.health = "poisoned: writing".to_owned(), "poisoned", State::Unhealthy, "shard 3: poisoned: writing"),
            (|s| s.health = "read-only: no space".to_owned(), "read-only", State::Unhealthy, "no space"),
            (|s| s.health = "closed".to_owned(), "open", State::Unhealthy, "closed"),
            (|s| s.immutables = 3, "memtable", State::Degraded, "3 memtables"),
            (|s| s.torn_tail_bytes = 9, "wal", State::Degraded, "9 bytes"),
            (|s| s.level_tables = vec![12, 0], "level 0", State::Degraded, "12 tables"),
            (|s| s.compaction_debt_bytes = 9 << 30, "backlog", State::Degraded, "9216 MiB"),
            (|s| s.stall = "compaction debt".to_owned(), "stall", State::Degraded, "compaction debt"),
            (|s| (s.job_failures, s.failing_job) = (2, "no room".to_owned()), "jobs", State::Degraded,
                "2 times and tried again, now: no room"),
        ];
        for (happens, name, state, words) in troubles {
            let mut troubled = shard();
            happens(&mut troubled);
            let health = of(vec![shard(), troubled], &SOUND);
            let check = only(&health);
            assert_eq!((check.name, check.state), (name, state));
            assert!(check.reason.contains(words), "{check:?}");
        }
    }

    /// A server whose disk had run full told `degraded` until its next start, long after the space had come back and every
    /// flush had succeeded: the check asked for the last failure there ever was.
    #[test]
    fn a_job_that_succeeded_again_is_no_trouble_any_more() {
        let recovered = ShardStats {
            job_failures: 2,
            last_job_error: "no room".to_owned(),
            ..shard()
        };
        assert_eq!(of(vec![recovered], &SOUND).state, State::Healthy);
    }

    #[test]
    fn the_machine_and_the_process_count_too() {
        for (free, state) in [(9, State::Degraded), (1, State::Unhealthy)] {
            let facts = Facts {
                disk_free_bytes: free << 30,
                ..SOUND
            };
            let health = of(vec![shard()], &facts);
            assert_eq!((only(&health).name, health.state), ("disk space", state));
        }
        let facts = Facts {
            memlock_falls_short: true,
            ..SOUND
        };
        assert_eq!(only(&of(vec![shard()], &facts)).name, "memlock");
        let draining = judge(
            false,
            Some(&Stats {
                shards: vec![shard()],
            }),
            &SOUND,
        );
        assert_eq!(
            (only(&draining).name, draining.state),
            ("serving", State::Unhealthy)
        );
        assert_eq!(only(&judge(true, None, &SOUND)).name, "shards");
    }

    #[test]
    fn many_shards_with_one_trouble_stay_one_sentence() {
        let shards = (0..9).map(|number| ShardStats {
            shard: number,
            immutables: 5,
            ..shard()
        });
        let health = of(shards.collect(), &SOUND);
        let reason = &only(&health).reason;
        assert!(
            reason.contains("shard 3: 5") && reason.ends_with("and 5 more shards"),
            "{reason}"
        );
    }
}
