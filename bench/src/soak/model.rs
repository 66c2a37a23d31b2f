//! What a polite client asks, and what must be answered. Pure.
//!
//! Each polite client has keys that nobody else writes, so it knows what each of them holds once its writes are acknowledged.
//! A value is remembered by the seed that it is made from.

use std::collections::BTreeMap;

use redis::{Cmd, Value, cmd};

use crate::workload::rng::Rng;

/// Keys of each client.
const KEYS: u64 = 2000;
/// The longest pipeline.
const PIPELINE: u64 = 32;
/// One value in so many is large.
const LARGE_EVERY: u64 = 500;
/// Its longest, in bytes: more than a receive buffer, a group and a send bring at once.
const LARGE_BYTES: u64 = 1 << 20;
/// Others are no longer.
const SMALL_BYTES: u64 = 1000;

/// What one client knows.
#[derive(Debug, Clone)]
pub struct Model {
    client: u64,
    rng: Rng,
    /// The seed of each key's value.
    held: BTreeMap<Vec<u8>, u64>,
}

/// Commands to send together, and what is to be answered to each.
pub type Round = Vec<(Cmd, Value)>;

/// The value of a seed.
pub fn value(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let bound = if seed.is_multiple_of(LARGE_EVERY) {
        LARGE_BYTES
    } else {
        SMALL_BYTES
    };
    let bytes = usize::try_from(rng.below(bound)).unwrap_or(0);
    let mut value = Vec::with_capacity(bytes + size_of::<u64>());
    while value.len() < bytes {
        value.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    value.truncate(bytes);
    value
}

impl Model {
    /// Of a client that has written nothing and does what `seed` says.
    pub fn new(client: u64, seed: u64) -> Self {
        Self {
            client,
            rng: Rng::new(seed),
            held: BTreeMap::new(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("polite:{}:{:06}", self.client, self.rng.below(KEYS)).into_bytes()
    }

    fn answer(&self, key: &[u8]) -> Value {
        let seed = self.held.get(key);
        seed.map_or(Value::Nil, |&seed| Value::BulkString(value(seed)))
    }

    /// The next round, taken to be answered as it says.
    pub fn round(&mut self) -> Round {
        if self.rng.below(20) == 0 {
            return vec![self.scan()];
        }
        let commands = self.rng.below(PIPELINE) + 1;
        (0..commands).map(|_| self.command()).collect()
    }

    fn command(&mut self) -> (Cmd, Value) {
        let key = self.key();
        match self.rng.below(8) {
            0..3 => {
                let seed = self.rng.next_u64();
                let set = cmd("SET").arg(&key).arg(value(seed)).clone();
                self.held.insert(key, seed);
                (set, Value::Okay)
            }
            3 => {
                let there = self.held.remove(&key).is_some();
                (cmd("DEL").arg(&key).clone(), Value::Int(i64::from(there)))
            }
            4 => {
                let keys = [key, self.key(), self.key()];
                self.mget(&keys)
            }
            _ => (cmd("GET").arg(&key).clone(), self.answer(&key)),
        }
    }

    fn mget(&self, keys: &[Vec<u8>]) -> (Cmd, Value) {
        let answers = keys.iter().map(|key| self.answer(key)).collect();
        (cmd("MGET").arg(keys).clone(), Value::Array(answers))
    }

    fn scan(&mut self) -> (Cmd, Value) {
        let limit = usize::try_from(self.rng.below(100)).unwrap_or(0) + 1;
        let start = self.key();
        let end = format!("polite:{}:~", self.client).into_bytes();
        let found = self.held.range(start.clone()..).take(limit);
        let flat = found
            .flat_map(|(key, &seed)| [key.clone(), value(seed)])
            .map(Value::BulkString)
            .collect();
        let scan = cmd("KV.SCAN")
            .arg(&start)
            .arg(&end)
            .arg("LIMIT")
            .arg(limit)
            .clone();
        (scan, Value::Array(flat))
    }

    /// Reads everything that was ever written back.
    pub fn read_back(&self) -> Round {
        let key = |n| format!("polite:{}:{n:06}", self.client).into_bytes();
        let all: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
        // A hundred at a time: their answers are held at once.
        all.chunks(100).map(|keys| self.mget(keys)).collect()
    }

    /// Keys that hold something.
    pub fn keys(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_all_and_clients_share_no_key() {
        let asked = |client, seed| {
            let mut model = Model::new(client, seed);
            let rounds = (0..50).flat_map(|_| model.round());
            rounds
                .map(|(cmd, answer)| (cmd.get_packed_command(), answer))
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(1, 1), asked(1, 1));
        assert_ne!(asked(1, 1), asked(1, 2));
        let keys = |client| Model::new(client, 1).key();
        assert!(keys(1).starts_with(b"polite:1:") && keys(12).starts_with(b"polite:12:"));
    }

    #[test]
    fn values_are_of_every_length_and_made_again_from_their_seed() {
        let lengths: Vec<usize> = (0..5000).map(|seed| value(seed).len()).collect();
        assert!(lengths.iter().any(|&bytes| bytes > 100_000));
        assert!(lengths.iter().filter(|&&bytes| bytes > 1000).count() <= 10);
        assert_eq!(value(77), value(77));
    }

    #[test]
    fn reading_back_asks_for_every_key_once() {
        let mut model = Model::new(0, 1);
        while model.keys() < 100 {
            model.round();
        }
        let held = model
            .read_back()
            .into_iter()
            .flat_map(|(_, answer)| match answer {
                Value::Array(values) => values,
                other => panic!("MGET answers an array, not {other:?}"),
            });
        assert_eq!(held.filter(|value| *value != Value::Nil).count(), model.keys());
    }
}
