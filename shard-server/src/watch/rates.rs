//! What happened between two looks at a server: rates, shares, and what was found at the second.
//!
//! Counters that fell belong to a server that was restarted; they count from zero then.

use serde::Serialize;

use super::sample::Sample;

/// One command's share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRate {
    /// Its name.
    pub command: String,
    /// Calls a second.
    pub per_s: f64,
    /// Mean time of a call in µs.
    pub mean_us: Option<f64>,
    /// Percentiles in µs since the server began or was told to forget.
    pub p50_us: Option<f64>,
    /// … the slowest hundredth.
    pub p99_us: Option<f64>,
    /// … the slowest thousandth.
    pub p999_us: Option<f64>,
}

/// One shard's state in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardState {
    /// Its number.
    pub shard: String,
    /// Whether it takes writes.
    pub health: String,
    /// Why writes wait, if they do.
    pub stall: String,
}

/// A figure with its name and unit, such as `wal_bytes_per_s`; `None` where the server does not tell it.
pub type Figure = (&'static str, Option<f64>);

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// The time between the two, in seconds.
    pub seconds: f64,
    /// Figures, unit last in the name.
    pub figures: Vec<Figure>,
    /// Commands that were called, the most frequent first.
    pub commands: Vec<CommandRate>,
    /// The shards.
    pub shards: Vec<ShardState>,
}

/// Two looks and the time between them.
struct Between<'a> {
    before: &'a Sample,
    after: &'a Sample,
    seconds: f64,
}

impl Between<'_> {
    /// How much a counter grew.
    fn grown(&self, name: &str) -> Option<f64> {
        let after = self.after.number(name)?;
        let before = self.before.number(name).unwrap_or(0.0);
        Some(if after < before { after } else { after - before })
    }

    fn per_s(&self, name: &str) -> Option<f64> {
        Some(self.grown(name)? / self.seconds)
    }

    /// One counter's growth for each of another's; `None` where there was none of the other.
    fn ratio(&self, of: &str, to: &str) -> Option<f64> {
        quotient(self.grown(of)?, self.grown(to)?)
    }

    /// A counter's part in the growth of both, in percent.
    fn percent(&self, of: &str, other: &str) -> Option<f64> {
        let (of, other) = (self.grown(of)?, self.grown(other)?);
        quotient(of * 100.0, of + other)
    }

    fn command(&self, name: &str) -> CommandRate {
        let calls = self.grown(&format!("cmdstat_{name}.calls")).unwrap_or(0.0);
        let usec = self.grown(&format!("cmdstat_{name}.usec"));
        let percentile = |which: &str| {
            self.after
                .number(&format!("latency_percentiles_usec_{name}.{which}"))
        };
        CommandRate {
            command: name.to_owned(),
            per_s: calls / self.seconds,
            mean_us: usec.and_then(|usec| quotient(usec, calls)),
            p50_us: percentile("p50"),
            p99_us: percentile("p99"),
            p999_us: percentile("p99.9"),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let now = |name| self.after.number(name);
        let shards = |field| self.after.over_shards(field);
        let read = ["reads_from_memory", "reads_from_cache", "reads_from_device"];
        vec![
            ("commands_per_s", self.per_s("total_commands_processed")),
            ("errors_per_s", self.per_s("total_error_replies")),
            ("clients", now("connected_clients")),
            ("received_bytes_per_s", self.per_s("total_net_input_bytes")),
            ("sent_bytes_per_s", self.per_s("total_net_output_bytes")),
            ("found_percent", self.percent("keyspace_hits", "keyspace_misses")),
            ("reads_from_memory_per_s", self.per_s(read[0])),
            ("reads_from_cache_per_s", self.per_s(read[1])),
            ("reads_from_device_per_s", self.per_s(read[2])),
            ("cache_hit_percent", self.percent(read[1], read[2])),
            ("wal_writes_per_s", self.per_s("wal_writes")),
            ("wal_bytes_per_s", self.per_s("wal_bytes")),
            ("batches_per_wal_write", self.ratio("wal_batches", "wal_writes")),
            ("memtable_bytes", now("memtable_bytes")),
            ("cache_bytes", now("cache_bytes")),
            ("tables", now("tables")),
            ("l0_tables", shards("l0_tables")),
            ("table_bytes", now("table_bytes")),
            ("compaction_debt_bytes", shards("compaction_debt_bytes")),
            ("flushes_per_s", self.per_s("flushes")),
            ("compactions_per_s", self.per_s("compactions")),
            ("write_amplification", now("write_amplification")),
            (
                "write_delay_ms_per_s",
                self.per_s("write_delay_us").map(|us| us / 1000.0),
            ),
            ("failed_jobs", now("job_failures")),
            ("read_errors", now("read_errors")),
        ]
    }
}

/// The quotient, where there is one.
fn quotient(of: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| of / by)
}

impl Rates {
    /// Between two looks so many seconds apart.
    pub fn between(before: &Sample, after: &Sample, seconds: f64) -> Self {
        // The clock may have stood still between two looks; nothing is divided by zero.
        let seconds = seconds.max(1e-3);
        let between = Between {
            before,
            after,
            seconds,
        };
        let names = after.named("cmdstat_", "calls");
        let mut commands: Vec<_> = names.into_iter().map(|name| between.command(name)).collect();
        commands.retain(|command| command.per_s > 0.0);
        commands.sort_by(|one, other| other.per_s.total_cmp(&one.per_s));
        let word = |shard: &str, field: &str| {
            let found = after.word(&format!("shard{shard}.{field}"));
            found.unwrap_or("none").to_owned()
        };
        let shards = after
            .named("shard", "health")
            .into_iter()
            .map(|shard| ShardState {
                shard: shard.to_owned(),
                health: word(shard, "health"),
                stall: word(shard, "stall"),
            });
        Self {
            seconds,
            figures: between.figures(),
            commands,
            shards: shards.collect(),
        }
    }

    /// Since the server began.
    pub fn since_start(now: &Sample) -> Self {
        let seconds = now.number("uptime_in_seconds").unwrap_or(1.0).max(1.0);
        Self::between(&Sample::default(), now, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rates: &Rates, name: &str) -> Option<f64> {
        let (_, figure) = rates.figures.iter().find(|(known, _)| *known == name).unwrap();
        *figure
    }

    #[test]
    fn rates_are_growth_over_time_and_shares_are_of_growth() {
        let before = Sample::parse(
            "total_commands_processed:100\nkeyspace_hits:10\nkeyspace_misses:10\nwal_writes:5\nwal_batches:5\n\
             reads_from_cache:1\nreads_from_device:1\ncmdstat_get:calls=10,usec=100\ncmdstat_set:calls=1,usec=1\n",
        );
        let after = Sample::parse(
            "total_commands_processed:300\nkeyspace_hits:13\nkeyspace_misses:11\nwal_writes:7\nwal_batches:25\n\
             reads_from_cache:1\nreads_from_device:1\nconnected_clients:4\nwrite_delay_us:3000\n\
             cmdstat_get:calls=30,usec=200\ncmdstat_set:calls=1,usec=1\n\
             latency_percentiles_usec_get:p50=1.000,p99=2.000,p99.9=3.000\n\
             shard0:health=healthy,l0_tables=2,stall=none\nshard1:health=healthy,l0_tables=3,stall=none\n",
        );
        let rates = Rates::between(&before, &after, 2.0);
        assert_eq!(figure(&rates, "commands_per_s"), Some(100.0));
        assert_eq!(figure(&rates, "found_percent"), Some(75.0));
        assert_eq!(figure(&rates, "batches_per_wal_write"), Some(10.0));
        assert_eq!(figure(&rates, "cache_hit_percent"), None);
        assert_eq!(figure(&rates, "clients"), Some(4.0));
        assert_eq!(figure(&rates, "l0_tables"), Some(5.0));
        assert_eq!(figure(&rates, "write_delay_ms_per_s"), Some(1.5));
        assert_eq!(figure(&rates, "tables"), None);
        let [get] = rates.commands.as_slice() else {
            panic!("only what was called: {:?}", rates.commands)
        };
        assert_eq!(
            (get.per_s, get.mean_us, get.p999_us),
            (10.0, Some(5.0), Some(3.0))
        );
        assert_eq!(rates.shards.len(), 2);
    }

    #[test]
    fn a_server_that_was_restarted_counts_from_zero() {
        let before = Sample::parse("total_commands_processed:1000\n");
        let after = Sample::parse("total_commands_processed:10\nuptime_in_seconds:5\n");
        assert_eq!(
            figure(&Rates::between(&before, &after, 1.0), "commands_per_s"),
            Some(10.0)
        );
        assert_eq!(figure(&Rates::since_start(&after), "commands_per_s"), Some(2.0));
        assert!(
            figure(&Rates::between(&before, &after, 0.0), "commands_per_s")
                .unwrap()
                .is_finite()
        );
    }
}
