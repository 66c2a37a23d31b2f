//! The slow log: the latest rounds that took longer than a threshold, in a ring of bounded length.
//!
//! The lock is taken only for a slow round and by who reads the log, never on the way of other commands. Commands of a
//! round are answered together, so that one entry stands for a round: it shows the round's first command, and how many
//! came with it.
//!
//! What clients store is theirs: an entry shows the command's name and its arguments' lengths, and the arguments
//! themselves only while `slowlog-show-arguments` is on. Secrets are never shown.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::command::table;
use crate::log;
use crate::resp::request::{Arguments, Found, Reader};

/// Most arguments of an entry, as in Redis.
const SHOWN_ARGUMENTS: usize = 32;

/// Most bytes of each, as in Redis.
const SHOWN_BYTES: usize = 128;

/// Rounds that take this long are slow, in microseconds, until somebody says otherwise (as in Redis).
const DEFAULT_THRESHOLD_US: i64 = 10_000;

/// Entries kept until somebody says otherwise (as in Redis).
const DEFAULT_LENGTH: usize = 128;

/// Most entries that may be asked for: some 4 KiB each, where arguments are shown.
pub const MAX_LENGTH: usize = 65_536;

/// One slow round, as it is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlowEntry {
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it took.
    pub latency: Duration,
    /// Its first command (see [`shown`]).
    pub arguments: Vec<Vec<u8>>,
    /// How many commands were answered with it, itself included.
    pub commands: usize,
    /// How many requests to shards they came to.
    pub requests: usize,
    /// The shard of the first request; `None` where none was asked.
    pub shard: Option<u16>,
    /// Why it took long, in words; empty where that is not known.
    pub cause: String,
    /// The client's address.
    pub client_address: String,
    /// The name that the client gave itself.
    pub client_name: Vec<u8>,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its number, counted from 0 and never used again while the process lives.
    pub id: u64,
    /// What was offered.
    pub entry: SlowEntry,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Logged>,
    next_id: u64,
}

/// The slow log of the process.
#[derive(Debug)]
pub struct SlowLog {
    threshold_us: AtomicI64,
    length: AtomicUsize,
    show_arguments: AtomicBool,
    ring: Mutex<Ring>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            threshold_us: AtomicI64::new(DEFAULT_THRESHOLD_US),
            length: AtomicUsize::new(DEFAULT_LENGTH),
            show_arguments: AtomicBool::new(false),
            ring: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// Whether a round of this latency belongs into the log: one atomic load.
    pub fn is_slow(&self, latency: Duration) -> bool {
        let threshold = u64::try_from(self.threshold_us.load(Ordering::Relaxed));
        threshold.is_ok_and(|us| latency.as_micros() >= u128::from(us))
    }

    /// Keeps an entry, in the place of the oldest where the log is full.
    pub fn offer(&self, entry: SlowEntry) {
        let command = entry
            .arguments
            .first()
            .map(|name| name.escape_ascii().to_string());
        log::slow(log::Slow {
            what: command.as_deref().unwrap_or_default(),
            took: entry.latency,
            shard: entry.shard,
            cause: &entry.cause,
            key: None,
        });
        let length = self.length();
        let mut ring = self.ring();
        let id = ring.next_id;
        ring.next_id += 1;
        ring.entries.push_front(Logged { id, entry });
        ring.entries.truncate(length);
    }

    /// The latest `count` entries, newest first.
    pub fn latest(&self, count: usize) -> Vec<Logged> {
        self.ring().entries.iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ring().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries; numbers go on.
    pub fn reset(&self) {
        self.ring().entries.clear();
    }

    /// From how many microseconds on a round is slow; negative where nothing is logged.
    pub fn threshold_us(&self) -> i64 {
        self.threshold_us.load(Ordering::Relaxed)
    }

    /// Sets [`SlowLog::threshold_us`].
    pub fn set_threshold_us(&self, us: i64) {
        self.threshold_us.store(us, Ordering::Relaxed);
    }

    /// How many entries are kept.
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Sets how many entries are kept, at most [`MAX_LENGTH`]; the oldest beyond go with the next one.
    pub fn set_length(&self, length: usize) {
        self.length.store(length.min(MAX_LENGTH), Ordering::Relaxed);
    }

    /// Whether entries show arguments.
    pub fn shows_arguments(&self) -> bool {
        self.show_arguments.load(Ordering::Relaxed)
    }

    /// Sets whether entries from now on show arguments.
    pub fn show_arguments(&self, show: bool) {
        self.show_arguments.store(show, Ordering::Relaxed);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while it was held leaves whole entries: the ring is only pushed to and cut.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first command of a round's input, for its entry. The input is read once more, because slow rounds are rare and
/// keeping arguments would cost every round.
pub fn first_of(input: &[u8], show: bool) -> Vec<Vec<u8>> {
    let (mut reader, mut at) = (Reader::default(), 0);
    loop {
        match reader.next(&input[at..]) {
            Ok(Found::Request { .. }) => return shown(reader.arguments(&input[at..]), show),
            Ok(Found::Nothing { bytes }) if bytes > 0 => at += bytes,
            _ => return Vec::new(),
        }
    }
}

/// A command's arguments as an entry has them: at most 32, each at most 128 bytes and what was cut; or, where arguments
/// are not shown, the command's name and the length of each.
pub fn shown(arguments: Arguments<'_>, show: bool) -> Vec<Vec<u8>> {
    let (count, name) = (arguments.count(), arguments.at(0));
    let kept = if count > SHOWN_ARGUMENTS {
        SHOWN_ARGUMENTS - 1
    } else {
        count
    };
    let mut out = Vec::with_capacity(kept + 1);
    // What is no command's name may be anything, a secret sent to the wrong place included.
    let known = table::find(name).is_some();
    let secret =
        |place: usize| name.eq_ignore_ascii_case(b"auth") || name.eq_ignore_ascii_case(b"hello") && place > 1;
    for (place, argument) in arguments.from(0).take(kept).enumerate() {
        out.push(match place {
            0 if known => argument.to_ascii_lowercase(),
            _ if show && known && secret(place) => b"(redacted)".to_vec(),
            _ if show => cut(argument),
            _ => format!("({} bytes)", argument.len()).into_bytes(),
        });
    }
    if count > kept {
        out.push(format!("... ({} more arguments)", count - kept).into_bytes());
    }
    out
}

fn cut(argument: &[u8]) -> Vec<u8> {
    if argument.len() <= SHOWN_BYTES {
        return argument.to_vec();
    }
    let more = argument.len() - SHOWN_BYTES;
    [
        &argument[..SHOWN_BYTES],
        format!("... ({more} more bytes)").as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::command;

    fn text(arguments: &[&[u8]], show: bool) -> Vec<String> {
        let input = command(arguments);
        first_of(&input, show)
            .into_iter()
            .map(|argument| String::from_utf8(argument).unwrap())
            .collect()
    }

    #[test]
    fn arguments_are_lengths_unless_asked_for_and_secrets_never_shown() {
        assert_eq!(
            text(&[b"SET", b"key", b"value"], false),
            ["set", "(3 bytes)", "(5 bytes)"]
        );
        assert_eq!(text(&[b"SET", b"key", b"value"], true), ["set", "key", "value"]);
        assert_eq!(text(&[b"hunter2"], false), ["(7 bytes)"]);
        assert_eq!(
            text(&[b"HELLO", b"3", b"AUTH", b"me", b"x"], true),
            ["hello", "3", "(redacted)", "(redacted)", "(redacted)"]
        );
    }

    #[test]
    fn many_and_long_arguments_are_cut_as_redis_cuts_them() {
        let long = [b'x'; 130];
        assert_eq!(
            text(&[b"get", &long], true)[1],
            format!("{}... (2 more bytes)", "x".repeat(128))
        );
        let many: Vec<&[u8]> = std::iter::once(b"del".as_slice())
            .chain([b"k".as_slice(); 40])
            .collect();
        let shown = text(&many, true);
        assert_eq!((shown.len(), shown[31].as_str()), (32, "... (10 more arguments)"));
        assert_eq!(text(&many[..32], true).len(), 32);
        assert!(first_of(b"\r\n\r\nget a\r\n", true) == [b"get".to_vec(), b"a".to_vec()]);
        assert!(first_of(b"*2\r\n$3\r\nGET\r\n", true).is_empty() && first_of(b"", true).is_empty());
    }

    #[test]
    fn the_ring_keeps_the_newest_and_their_numbers_go_on() {
        let log = SlowLog::default();
        log.set_length(3);
        for us in 0..5 {
            log.offer(SlowEntry {
                latency: Duration::from_micros(us),
                ..SlowEntry::default()
            });
        }
        let ids = |count| {
            log.latest(count)
                .iter()
                .map(|logged| logged.id)
                .collect::<Vec<_>>()
        };
        assert_eq!((ids(10), ids(1), log.len()), (vec![4, 3, 2], vec![4], 3));
        log.reset();
        assert!(log.is_empty());
        log.offer(SlowEntry::default());
        assert_eq!(ids(10), [5]);
        log.set_length(usize::MAX);
        assert_eq!(log.length(), MAX_LENGTH);
    }

    #[test]
    fn the_threshold_includes_its_own_and_a_negative_one_nothing() {
        let log = SlowLog::default();
        assert!(log.is_slow(Duration::from_millis(10)) && !log.is_slow(Duration::from_micros(9999)));
        log.set_threshold_us(0);
        assert!(log.is_slow(Duration::ZERO));
        log.set_threshold_us(-1);
        assert!(!log.is_slow(Duration::MAX));
    }
}
