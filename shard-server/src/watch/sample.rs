//! What one `INFO` tells, as numbers and words under its own names.
//!
//! A line is `name:value`; a value of several fields, `name:a=1,b=two`, becomes `name.a` and `name.b`. Fields that are not
//! there (an older server, or Redis itself) are simply not there.

use std::collections::BTreeMap;

/// One look at a server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    numbers: BTreeMap<String, f64>,
    words: BTreeMap<String, String>,
}

impl Sample {
    /// Reads the text of `INFO`.
    pub fn parse(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if !value.contains('=') {
                sample.keep(name.to_owned(), value);
                continue;
            }
            for field in value.split(',') {
                if let Some((field, value)) = field.split_once('=') {
                    sample.keep(format!("{name}.{field}"), value);
                }
            }
        }
        sample
    }

    fn keep(&mut self, name: String, value: &str) {
        let value = value.trim();
        match value.parse::<f64>() {
            Ok(number) if number.is_finite() => drop(self.numbers.insert(name, number)),
            _ => drop(self.words.insert(name, value.to_owned())),
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// A word.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.words.get(name).map(String::as_str)
    }

    /// What stands between `prefix` and `.field` in the names that there are, such as the commands in `cmdstat_*.calls`.
    pub fn named(&self, prefix: &str, field: &str) -> Vec<&str> {
        let names = self.numbers.keys().chain(self.words.keys());
        names
            .filter_map(|name| name.strip_prefix(prefix)?.strip_suffix(field)?.strip_suffix('.'))
            .collect()
    }

    /// The sum of a field over all shards; `None` where no shard tells it.
    pub fn over_shards(&self, field: &str) -> Option<f64> {
        let shards = self.named("shard", field);
        let numbers = shards
            .iter()
            .filter_map(|shard| self.number(&format!("shard{shard}.{field}")));
        numbers.reduce(|sum, number| sum + number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_fields_are_found_by_name() {
        let sample = Sample::parse(
            "# Server\r\nuptime_in_seconds:10\r\nredis_mode:standalone\r\n\r\n# Commandstats\r\n\
             cmdstat_get:calls=3,usec=6,usec_per_call=2.00\r\nshard0:health=ok,waits=1,stall=none\r\n\
             shard1:health=read-only,waits=2,stall=L0 is deep\r\nnonsense\r\n",
        );
        assert_eq!(sample.number("uptime_in_seconds"), Some(10.0));
        assert_eq!(sample.word("redis_mode"), Some("standalone"));
        assert_eq!(sample.number("cmdstat_get.usec"), Some(6.0));
        assert_eq!(sample.named("cmdstat_", "calls"), ["get"]);
        assert_eq!(sample.named("shard", "health"), ["0", "1"]);
        assert_eq!(sample.over_shards("waits"), Some(3.0));
        assert_eq!(sample.over_shards("none"), None);
        assert_eq!(sample.word("shard1.stall"), Some("L0 is deep"));
    }
}
