//! Random programs. Each command comes of a pattern:
//!
//! ```text
//! k v n       a key, a value, a number, each from a short list;  e: a number that is no short time either
//! i f b o p   a small whole number, a decimal, a bit, a bit's or byte's place, a glob pattern
//! t m         a time to live in seconds, in milliseconds; T M: a moment, likewise; past and senseless ones too
//! k+ kv+      one to three of them
//! (a|b c|)    one of these, an empty one included
//! WORD        itself, in any case
//! ```
//!
//! Now and then an argument is left out, doubled, or replaced by something senseless.

use std::collections::BTreeSet;
use std::fmt;

use corelane::io::sim::Rng;

/// Connections of a program.
pub const CONNECTIONS: usize = 2;

/// Commands of a program.
const STEPS: usize = 60;

/// Which keys a program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any: the server has one shard.
    AnyKeys,
    /// Those with one tag, so that they are of one shard.
    TaggedKeys,
}

/// One command.
#[derive(Debug, Clone)]
pub struct Step {
    /// Who says it.
    pub connection: usize,
    /// Its name and arguments.
    pub arguments: Vec<Vec<u8>>,
}

/// Commands, and the protocol in which they are said.
#[derive(Debug, Clone)]
pub struct Program {
    /// `2` or `3`, for `HELLO`.
    pub protocol: &'static str,
    /// In the order in which they are said.
    pub steps: Vec<Step>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "  {}>", step.connection)?;
            for argument in &step.arguments {
                write!(f, " \"{}\"", argument.escape_ascii())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Commands on keys: those that may stand inside a transaction, too.
const KEYED: &[&str] = &[
    "SET k v (|EX t|PX m|EXAT T|PXAT M|KEEPTTL) (|NX|XX) (||GET)",
    "SET k v (NX|XX|GET|KEEPTTL|EX t|PX m|EX e|NX XX|EX t PX m|EX|nope)",
    "GET k",
    "GET k",
    "SETNX k v",
    "SETEX k t v",
    "PSETEX k m v",
    "GETSET k v",
    "GETDEL k",
    "GETEX k (|EX t|PX m|EXAT T|PXAT M|PERSIST|EX e|PERSIST EX t|nope)",
    "MGET k+",
    "MSET kv+",
    "MSETNX kv+",
    "APPEND k v",
    "STRLEN k",
    "GETRANGE k i i",
    "GETRANGE k n i",
    "SETRANGE k o v",
    "SETRANGE k n v",
    "SUBSTR k i i",
    "INCR k",
    "DECR k",
    "INCRBY k n",
    "DECRBY k n",
    "INCRBYFLOAT k f",
    "INCRBYFLOAT k n",
    "DEL k+",
    "UNLINK k+",
    "EXISTS k+",
    "TOUCH k+",
    "TYPE k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k (|REPLACE|DB 0|DB 0 REPLACE|DB 1|DB n|nope)",
    "EXPIRE k t (|NX|XX|GT|LT|NX XX|GT LT|nope)",
    "EXPIRE k e",
    "PEXPIRE k m (|NX|XX|GT|LT)",
    "PEXPIRE k e",
    "EXPIREAT k T (|NX|XX|GT|LT)",
    "EXPIREAT k e",
    "PEXPIREAT k M (|NX|XX|GT|LT)",
    "PEXPIREAT k e",
    "TTL k",
    "PTTL k",
    "EXPIRETIME k",
    "PEXPIRETIME k",
    "PERSIST k",
    "SETBIT k o b",
    "SETBIT k n b",
    "GETBIT k o",
    "GETBIT k n",
    "BITCOUNT k (|i i|i i BYTE|i i BIT|i|n i|i i nope)",
    "BITPOS k b (|i|i i|i i BYTE|i i BIT|n|i i nope)",
];

/// Commands about connections, the server, and all keys.
const OTHERS: &[&str] = &[
    "PING (|v|v v)",
    "ECHO v",
    "SELECT (0|1|n)",
    "DBSIZE",
    "KEYS p",
    "SCAN (0|0|n) (|MATCH p) (|COUNT i|COUNT n) (|TYPE string|TYPE hash|nope|MATCH)",
    "RANDOMKEY",
    "FLUSHDB (||ASYNC|SYNC|nope)",
    "FLUSHALL (||ASYNC|SYNC|ASYNC SYNC)",
    "SWAPDB (0|0|1|n) (0|1|n)",
    "MOVE k (0|1|n)",
    "OBJECT (ENCODING|REFCOUNT|IDLETIME|FREQ|nope) (k|k|)",
    "MEMORY USAGE k (|SAMPLES 5|SAMPLES n|SAMPLES|nope)",
    "MEMORY (nope|USAGE|PURGE)",
    "WAIT (0|-1|x) (0|10|-1|x)",
    "COMMAND (COUNT|nope|COUNT x|LIST nope|LIST FILTERBY MODULE x|LIST FILTERBY nope x)",
    "COMMAND (GETKEYS|GETKEYSANDFLAGS) (GET k|SET k v|SET k v GET|MSET kv+|DEL k+|PING v|nope v|GET k k|INCR k)",
    "CONFIG (GET|SET timeout|SET timeout x|SET timeout -1|SET nope 1|SET timeout 1 x|SET databases 1|nope|RESETSTAT x)",
    "CONFIG SET (latency-tracking maybe|loglevel nope|slowlog-log-slower-than -5|slowlog-max-len x)",
    "SLOWLOG (|nope|GET x|GET -2|GET 1 2|LEN 1|RESET|GET -1)",
    "LATENCY (|nope|LATEST|HISTORY x|RESET|GRAPH x|HISTOGRAM nope)",
    "DEBUG SLEEP 0.03",
    "CLIENT (GETNAME|SETNAME v|SETNAME me|nope|ID x|)",
    "TIME x",
    "SHUTDOWN (ABORT|nope|SAVE NOSAVE)",
    "nope (|v|k v)",
];

/// Transactions; `MULTI` is followed by commands on keys for a while.
const TRANSACTIONS: &[&str] = &[
    "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH k+", "WATCH k", "UNWATCH",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"a",
    b"abc",
    b"hello world",
    b"0",
    b"10",
    b"-1",
    b"3.5",
    b"-0.25",
    b"1e5",
    b" 1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"\x00\xff\x80",
    b"the value of a key that is longer than the others",
];

const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"7",
    b"-0",
    b"01",
    b"+1",
    b" 1",
    b"1 ",
    b"",
    b"x",
    b"1.5",
    b"1e3",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"99999999999999999999",
    b"inf",
    b"nan",
    b"0x10",
];

/// What may stand for a time: none of them ends while a program runs.
const EDGES: &[&[u8]] = &[
    b"0",
    b"-1",
    b"-0",
    b"01",
    b"+1",
    b" 1",
    b"",
    b"x",
    b"1.5",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
];

const DECIMALS: &[&[u8]] = &[
    b"0.1",
    b"-0.1",
    b"1",
    b"3",
    b"1.5e3",
    b"1e-5",
    b"0.30000000000000004",
    b"100000000000000000000",
    b"1e400",
    b"-inf",
    b"nan",
    b".5",
    b"5.",
    b" 1",
    b"3.0e0",
    b"0x1p3",
    b"1234567.891",
];

const SMALL: &[&[u8]] = &[
    b"0", b"1", b"2", b"3", b"5", b"9", b"40", b"-1", b"-2", b"-4", b"-100", b"100",
];
const PLACES: &[&[u8]] = &[b"0", b"1", b"3", b"7", b"8", b"12", b"100", b"-1"];
const BITS: &[&[u8]] = &[b"0", b"1", b"0", b"1", b"2", b"x"];
const PATTERNS: &[&[u8]] = &[
    b"*", b"k*", b"*1", b"?0", b"*[12]", b"[^k]*", b"k\\0", b"", b"*k*", b"{t}*", b"nope", b"[",
];

/// Times far away and in the past: what would end while a program runs could end on one side first.
const SECONDS: &[&[u8]] = &[
    b"100",
    b"1000",
    b"5000",
    b"0",
    b"-1",
    b"9223372036854775",
    b"9223372036854775807",
];
const MILLISECONDS: &[&[u8]] = &[
    b"100000",
    b"1000000",
    b"5000000",
    b"0",
    b"-1",
    b"9223372036854775807",
];
const MOMENTS: &[&[u8]] = &[
    b"4000000000",
    b"5000000000",
    b"1",
    b"1000000000",
    b"0",
    b"-5",
    b"9223372036854775",
];
const MOMENTS_MS: &[&[u8]] = &[
    b"4000000000000",
    b"5000000000000",
    b"1",
    b"1000000000000",
    b"0",
    b"-5",
];

/// Commands that programs use and `known` lacks.
pub fn missing(known: &BTreeSet<String>) -> Vec<&'static str> {
    let all = [KEYED, OTHERS, TRANSACTIONS].concat();
    let names: BTreeSet<&str> = all
        .into_iter()
        .map(|pattern| pattern.split(' ').next().expect("a pattern starts with a name"))
        .filter(|name| *name != "nope" && !known.contains(*name))
        .collect();
    names.into_iter().collect()
}

/// The program of a seed.
pub fn program(seed: u64, shape: Shape) -> Program {
    let mut rng = Rng::new(seed);
    let mut maker = Maker {
        spoils: shape == Shape::AnyKeys,
        keys: match shape {
            Shape::AnyKeys => &[b"k0", b"k1", b"k2", b"k3", b"other"],
            Shape::TaggedKeys => &[b"{t}0", b"{t}1", b"{t}2", b"{t}3", b"a{t}"],
        },
        rng: rng.fork(),
    };
    let mut queueing = [false; CONNECTIONS];
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        let connection = rng.index(CONNECTIONS);
        let patterns = match rng.below(20) {
            0..=2 if !queueing[connection] => OTHERS,
            3..=5 => TRANSACTIONS,
            _ => KEYED,
        };
        let pattern: &&str = rng.pick(patterns);
        let arguments = maker.command(pattern);
        match arguments[0].to_ascii_uppercase().as_slice() {
            b"MULTI" if arguments.len() == 1 => queueing[connection] = true,
            b"EXEC" | b"DISCARD" if arguments.len() == 1 => queueing[connection] = false,
            _ => {}
        }
        steps.push(Step {
            connection,
            arguments,
        });
    }
    Program {
        protocol: if seed.is_multiple_of(2) { "2" } else { "3" },
        steps,
    }
}

struct Maker {
    /// Not where a value in the place of a key would be of another shard.
    spoils: bool,
    keys: &'static [&'static [u8]],
    rng: Rng,
}

impl Maker {
    fn command(&mut self, pattern: &str) -> Vec<Vec<u8>> {
        let mut arguments = Vec::new();
        self.expand(pattern, &mut arguments);
        // These would wait, or end the server.
        let waits = [b"DEBUG".as_slice(), b"SHUTDOWN", b"WAIT"].contains(&arguments[0].as_slice());
        if self.spoils && !waits && self.rng.chance(1, 25) {
            self.spoil(&mut arguments);
        }
        if self.rng.chance(1, 5) {
            arguments[0].make_ascii_lowercase();
        }
        arguments
    }

    /// Leaves an argument out, doubles one, or replaces one.
    fn spoil(&mut self, arguments: &mut Vec<Vec<u8>>) {
        if arguments.len() == 1 {
            arguments.push(b"extra".to_vec());
            return;
        }
        let at = 1 + self.rng.index(arguments.len() - 1);
        match self.rng.below(3) {
            0 => drop(arguments.remove(at)),
            1 => arguments.insert(at, arguments[at].clone()),
            _ => arguments[at] = self.rng.pick(EDGES).to_vec(),
        }
    }

    fn expand(&mut self, pattern: &str, out: &mut Vec<Vec<u8>>) {
        let mut rest = pattern;
        while !rest.is_empty() {
            if let Some(group) = rest.strip_prefix('(') {
                let (choices, behind) = group.split_once(')').expect("a group is closed");
                let choices: Vec<&str> = choices.split('|').collect();
                let choice = *self.rng.pick(&choices);
                self.expand(choice, out);
                rest = behind.trim_start();
            } else {
                let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
                self.word(word, out);
                rest = behind;
            }
        }
    }

    fn word(&mut self, word: &str, out: &mut Vec<Vec<u8>>) {
        let list = match word {
            "k" => self.keys,
            "v" => VALUES,
            "n" => NUMBERS,
            "i" => SMALL,
            "e" => EDGES,
            "f" => DECIMALS,
            "b" => BITS,
            "o" => PLACES,
            "p" => PATTERNS,
            "t" => SECONDS,
            "m" => MILLISECONDS,
            "T" => MOMENTS,
            "M" => MOMENTS_MS,
            "k+" | "kv+" => {
                for _ in 0..1 + self.rng.below(3) {
                    out.push(self.rng.pick(self.keys).to_vec());
                    if word == "kv+" {
                        out.push(self.rng.pick(VALUES).to_vec());
                    }
                }
                return;
            }
            word => {
                out.push(word.as_bytes().to_vec());
                return;
            }
        };
        out.push(self.rng.pick(list).to_vec());
    }
}
