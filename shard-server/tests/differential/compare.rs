//! Whether two replies are the same, and the differences that are meant to be.
//!
//! | command | difference | why |
//! |---|---|---|
//! | `TTL`, `PTTL`, `EXPIRETIME`, `PEXPIRETIME` | a second, or as many milliseconds | the clock goes on between the two |
//! | `DBSIZE` | less | theirs counts keys that have ended until somebody meets them |
//! | `KEYS` | order | theirs is that of a hash table |
//! | `SCAN` | order, cursors, how many at once | the same; compared as the whole walk's set of keys |
//! | `SCAN` | a cursor that was never given out is an error, or an older scan's | theirs is any place of a hash table |
//! | `RANDOMKEY` | which key | by chance |
//! | `OBJECT ENCODING` | `int`, `embstr` or `raw` | ours depends on the value alone, not on how it came about |
//! | `OBJECT REFCOUNT`, `IDLETIME`, `MEMORY USAGE` | the number | nothing of theirs is kept here |
//! | `SETBIT`, `GETBIT`, `SETRANGE` | places from 64 to 512 MiB are refused | a value has at most 64 MiB; programs leave them out |
//! | `CLIENT ID` | the number | each counts its own |
//! | `COMMAND COUNT` | the number | other commands |
//! | `CONFIG SET` | the largest number of a setting | ours are bounded by what a machine holds; programs leave them out |
//! | `MULTI` | what walks the store is refused inside | a transaction is one step of one shard; such a program ends there |
//! | `TIME`, `SLOWLOG GET`, `LATENCY HISTOGRAM` | times, entries | each has its own |

use std::collections::BTreeSet;

use crate::common::reply_bytes;

/// How far times of two servers may be apart, in milliseconds: a command of ours may wait for a busy machine.
const APART_MS: i64 = 2000;

/// Steps of a `SCAN` walk that are more than any walk over the few keys takes.
const MOST_STEPS: usize = 1000;

/// Whether ours is the refusal of a command that has no place in a transaction: both servers' ways part there.
pub fn parts(ours: &[u8]) -> bool {
    ours.ends_with(b" is not supported between MULTI and EXEC\r\n")
}

/// Whether both replied the same to `arguments`. Each reply comes with a way to say more on its connection.
pub fn same<A, B>(
    arguments: &[&[u8]],
    (ours, mut ask_us): (&[u8], A),
    (theirs, mut ask_them): (&[u8], B),
) -> bool
where
    A: FnMut(&[&[u8]]) -> Vec<u8>,
    B: FnMut(&[&[u8]]) -> Vec<u8>,
{
    let error = |reply: &[u8]| reply.starts_with(b"-") || reply == b"+QUEUED\r\n";
    if ours == theirs {
        return true;
    }
    if arguments[0].eq_ignore_ascii_case(b"SCAN") && ours.starts_with(b"-ERR cursor ") {
        return theirs.starts_with(b"*");
    }
    if error(ours) || error(theirs) {
        return false;
    }
    let name = arguments[0].to_ascii_uppercase();
    match name.as_slice() {
        b"TTL" | b"EXPIRETIME" => close(ours, theirs, APART_MS / 1000),
        b"PTTL" | b"PEXPIRETIME" => close(ours, theirs, APART_MS),
        b"DBSIZE" => integer(ours) < integer(theirs),
        b"KEYS" => sorted(ours) == sorted(theirs),
        b"CLIENT" => integer(ours).is_some() && integer(theirs).is_some(),
        b"SCAN" if arguments[1] != b"0" => ours.starts_with(b"*2") && theirs.starts_with(b"*2"),
        b"SCAN" => walk(arguments, ours, &mut ask_us) == walk(arguments, theirs, &mut ask_them),
        b"RANDOMKEY" => ours.len() > 5 && theirs.len() > 5,
        b"OBJECT" | b"MEMORY" | b"COMMAND" | b"LATENCY" | b"SLOWLOG" | b"TIME" => {
            ours.first() == theirs.first()
        }
        b"EXEC" => elements(ours).len() == elements(theirs).len() && similar(ours, theirs),
        _ => false,
    }
}

/// Whether the replies inside a transaction differ by nothing but times.
fn similar(ours: &[u8], theirs: &[u8]) -> bool {
    let both = elements(ours).into_iter().zip(elements(theirs));
    both.into_iter()
        .all(|(ours, theirs)| ours == theirs || close(&ours, &theirs, APART_MS))
}

fn close(ours: &[u8], theirs: &[u8], apart: i64) -> bool {
    match (integer(ours), integer(theirs)) {
        (Some(ours), Some(theirs)) => ours > 0 && theirs > 0 && (ours - theirs).abs() <= apart,
        _ => false,
    }
}

fn integer(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn sorted(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut elements = elements(reply);
    elements.sort();
    elements
}

/// The parts of an array, each as it was sent; empty where it is none.
fn elements(reply: &[u8]) -> Vec<Vec<u8>> {
    let Some(mut at) = reply
        .starts_with(b"*")
        .then(|| {
            reply
                .windows(2)
                .position(|pair| pair == b"\r\n")
                .map(|end| end + 2)
        })
        .flatten()
    else {
        return Vec::new();
    };
    let mut elements = Vec::new();
    while at < reply.len() {
        let bytes = reply_bytes(&reply[at..]).expect("a whole reply has whole parts");
        elements.push(reply[at..at + bytes].to_vec());
        at += bytes;
    }
    elements
}

/// All keys of a `SCAN` that began with this reply.
fn walk(arguments: &[&[u8]], first: &[u8], ask: &mut dyn FnMut(&[&[u8]]) -> Vec<u8>) -> BTreeSet<Vec<u8>> {
    let (mut keys, mut reply) = (BTreeSet::new(), first.to_vec());
    for _ in 0..MOST_STEPS {
        let parts = elements(&reply);
        keys.extend(elements(&parts[1]));
        let cursor = parts[0]
            .split(|&byte| byte == b'\n')
            .nth(1)
            .expect("a cursor is a bulk");
        let cursor = cursor.strip_suffix(b"\r").expect("a line has its end").to_vec();
        if cursor == b"0" {
            return keys;
        }
        let mut next = arguments.to_vec();
        next[1] = &cursor;
        reply = ask(&next);
    }
    panic!("a walk over few keys does not end");
}
