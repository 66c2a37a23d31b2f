//! What a rude client does next, drawn from a seed. Pure.

use serde::{Deserialize, Serialize};

use crate::hostile::bytes::command;
use crate::workload::rng::Rng;

/// Bytes of the value that is asked for by those who do not read it.
pub const BIG_BYTES: usize = 256 << 10;
/// The key of that value.
pub const BIG_KEY: &[u8] = b"rude:big";
/// Keys that rude clients write.
const KEYS: u64 = 1000;
/// The longest pipeline of one.
const PIPELINE: u64 = 64;
/// Bytes that are read a little at a time, at most.
const SLOWLY_READ_BYTES: u64 = 100 << 10;
/// The longest value that one begins to send.
const LARGE_BYTES: u64 = 4 << 20;

/// A manner in which a connection is used and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// Connects and goes.
    Storm,
    /// Goes in the middle of a command.
    CutCommand,
    /// Sends writes and goes before they are answered: they are waited for by nobody.
    CutWrites,
    /// Goes in the middle of an answer.
    CutAnswer,
    /// Goes in the middle of a large value that it sends.
    CutLarge,
    /// Asks for a lot, does not read, and goes after a while.
    Deaf,
    /// Sends a byte at a time, and goes somewhere.
    Slow,
    /// Asks for a lot, reads a little of it at a time, and goes.
    SlowReads,
    /// Begins a transaction, and goes.
    CutTransaction,
    /// Is ended by the server, at another client's word, while its commands are under way.
    Killed,
}

impl Manner {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Storm,
        Self::CutCommand,
        Self::CutWrites,
        Self::CutAnswer,
        Self::CutLarge,
        Self::Deaf,
        Self::Slow,
        Self::SlowReads,
        Self::CutTransaction,
        Self::Killed,
    ];
}

/// One use of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// In which manner.
    pub manner: Manner,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Bytes of the answer that are read before it goes.
    pub reads: usize,
}

impl Act {
    /// The next one.
    pub fn draw(rng: &mut Rng) -> Self {
        let at = usize::try_from(rng.below(Manner::ALL.len() as u64)).unwrap_or(0);
        let manner = Manner::ALL[at];
        let bytes = match manner {
            Manner::Storm => Vec::new(),
            Manner::CutCommand | Manner::Slow => {
                let whole = pipeline(rng);
                cut(rng, whole)
            }
            Manner::CutWrites | Manner::Killed => writes(rng),
            Manner::CutAnswer => pipeline(rng),
            Manner::CutLarge => {
                let value = vec![b'x'; length(rng.below(LARGE_BYTES))];
                let whole = command(&[b"SET", &key(rng), &value]);
                cut(rng, whole)
            }
            Manner::Deaf | Manner::SlowReads => {
                command(&[b"GET", BIG_KEY]).repeat(length(rng.below(PIPELINE)) + 1)
            }
            Manner::CutTransaction => {
                let mut begun = command(&[b"WATCH", &key(rng)]);
                begun.extend(command(&[b"MULTI"]));
                begun.extend(writes(rng));
                begun
            }
        };
        let reads = match manner {
            Manner::CutAnswer => length(rng.below(BIG_BYTES as u64)) + 1,
            Manner::SlowReads => length(rng.below(SLOWLY_READ_BYTES)) + 1,
            _ => 0,
        };
        Self { manner, bytes, reads }
    }
}

fn length(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// At least a byte of it, and not all.
fn cut(rng: &mut Rng, mut whole: Vec<u8>) -> Vec<u8> {
    whole.truncate(length(rng.below(whole.len() as u64 - 1)) + 1);
    whole
}

fn key(rng: &mut Rng) -> Vec<u8> {
    format!("rude:{}", rng.below(KEYS)).into_bytes()
}

fn writes(rng: &mut Rng) -> Vec<u8> {
    (0..=rng.below(PIPELINE))
        .flat_map(|_| {
            let value = vec![b'x'; length(rng.below(2000))];
            command(&[b"SET", &key(rng), &value])
        })
        .collect()
}

/// Commands of all sorts.
fn pipeline(rng: &mut Rng) -> Vec<u8> {
    (0..=rng.below(PIPELINE))
        .flat_map(|_| match rng.below(6) {
            0 => writes(rng),
            1 => command(&[b"GET", BIG_KEY]),
            2 => command(&[b"GET", &key(rng)]),
            3 => command(&[b"DEL", &key(rng)]),
            4 => command(&[b"MGET", &key(rng), BIG_KEY, &key(rng)]),
            _ => command(&[b"KV.SCAN", b"rude:", b"rude:~", b"LIMIT", b"100"]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_says_all_and_every_manner_comes() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..200).map(|_| Act::draw(&mut rng)).collect::<Vec<_>>()
        };
        let acts = draw(1);
        assert_eq!(acts, draw(1));
        assert_ne!(acts, draw(2));
        let manners: BTreeSet<Manner> = acts.iter().map(|act| act.manner).collect();
        assert_eq!(manners.len(), Manner::ALL.len());
    }

    #[test]
    fn what_is_cut_is_neither_whole_nor_nothing() {
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let part = cut(&mut rng, b"whole".to_vec());
            assert!(!part.is_empty() && part.len() < 5 && b"whole".starts_with(&part));
        }
    }
}
