//! The commands on strings and keys, in the words of redis-server 7.0.15: each answer was seen there.

use proptest::prelude::*;

use super::commands::{dialogue, say};
use crate::resp::{Protocol, reply};
use crate::testing::{MemoryStore, answers, command, talk};

#[test]
fn set_has_options_that_go_together_or_do_not() {
    dialogue(&[
        ("SET a 1 GET", "$-1\r\n"),
        ("SET a 2 NX", "$-1\r\n"),
        ("SET a 2 NX GET", "$1\r\n1\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("SET a 3 XX GET", "$1\r\n1\r\n"),
        ("SET c 1 XX", "$-1\r\n"),
        ("SET c 1 XX GET", "$-1\r\n"),
        ("EXISTS c", ":0\r\n"),
        ("SET a 4 NX XX", "-ERR syntax error\r\n"),
        ("SET a 4 NX nx", "$-1\r\n"),
        ("SET a 4 EX 100 KEEPTTL", "-ERR syntax error\r\n"),
        ("SET a 4 KEEPTTL EX 100", "-ERR syntax error\r\n"),
        ("SET a 4 EX 100 PX 100", "-ERR syntax error\r\n"),
        ("SET a 4 EX 100 EX 200", "+OK\r\n"),
        ("SET a 4 EX", "-ERR syntax error\r\n"),
        ("SET a 4 EX 0", "-ERR invalid expire time in 'set' command\r\n"),
        ("SET a 4 EX x", "-ERR value is not an integer or out of range\r\n"),
        ("SET a 4 EX -1", "-ERR invalid expire time in 'set' command\r\n"),
        (
            "SET a 4 EX 9223372036854775807",
            "-ERR invalid expire time in 'set' command\r\n",
        ),
        (
            "SET a 4 PX 9223372036854775807",
            "-ERR invalid expire time in 'set' command\r\n",
        ),
        ("SET a 4 PXAT 9223372036854775807", "+OK\r\n"),
        ("SET a 4 PERSIST", "-ERR syntax error\r\n"),
        ("SET a 5 PXAT 1", "+OK\r\n"),
        ("GET a", "$-1\r\n"),
        ("SET a 6 EX 100", "+OK\r\n"),
        ("TTL a", ":100\r\n"),
        ("SET a 7 KEEPTTL", "+OK\r\n"),
        ("TTL a", ":100\r\n"),
        ("SET a 8", "+OK\r\n"),
        ("TTL a", ":-1\r\n"),
    ]);
}

#[test]
fn values_are_read_and_replaced_in_one_step() {
    dialogue(&[
        ("SETNX a 1", ":1\r\n"),
        ("SETNX a 2", ":0\r\n"),
        ("SETEX a 100 3", "+OK\r\n"),
        ("TTL a", ":100\r\n"),
        ("GETSET a 4", "$1\r\n3\r\n"),
        ("TTL a", ":-1\r\n"),
        ("GETSET c 1", "$-1\r\n"),
        ("PSETEX a 100000 5", "+OK\r\n"),
        ("TTL a", ":100\r\n"),
        ("SETEX a 0 6", "-ERR invalid expire time in 'setex' command\r\n"),
        (
            "PSETEX a -1 6",
            "-ERR invalid expire time in 'psetex' command\r\n",
        ),
        ("SETEX a x 6", "-ERR value is not an integer or out of range\r\n"),
        ("GETEX a", "$1\r\n5\r\n"),
        ("GETEX a PERSIST", "$1\r\n5\r\n"),
        ("TTL a", ":-1\r\n"),
        ("GETEX a EX 100", "$1\r\n5\r\n"),
        ("TTL a", ":100\r\n"),
        ("GETEX a KEEPTTL", "-ERR syntax error\r\n"),
        ("GETEX a EX 1 PERSIST", "-ERR syntax error\r\n"),
        ("GETEX a EX 0", "-ERR invalid expire time in 'getex' command\r\n"),
        ("GETEX missing EX 0", "$-1\r\n"),
        ("GETEX missing EX 0 PX 0", "-ERR syntax error\r\n"),
        ("GETEX a PXAT 1", "$1\r\n5\r\n"),
        ("GET a", "$-1\r\n"),
        ("GETDEL c", "$1\r\n1\r\n"),
        ("GETDEL c", "$-1\r\n"),
    ]);
}

#[test]
fn several_keys_are_set_at_once_or_not_at_all() {
    dialogue(&[
        ("MSET a 1 c 2 a 3", "+OK\r\n"),
        ("MGET a c e", "*3\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n"),
        ("MSETNX c 4 e 5", ":0\r\n"),
        ("MSETNX e 6 g 7 e 8", ":1\r\n"),
        ("MGET c e g", "*3\r\n$1\r\n2\r\n$1\r\n8\r\n$1\r\n7\r\n"),
        (
            "MSETNX a 1 c",
            "-ERR wrong number of arguments for 'msetnx' command\r\n",
        ),
        ("SETEX a 100 1", "+OK\r\n"),
        ("MSET a 2", "+OK\r\n"),
        ("TTL a", ":-1\r\n"),
    ]);
}

#[test]
fn numbers_are_text_and_keep_their_end() {
    dialogue(&[
        ("SETEX n 100 10", "+OK\r\n"),
        ("INCR n", ":11\r\n"),
        ("INCRBY n -20", ":-9\r\n"),
        ("DECRBY n 5", ":-14\r\n"),
        ("DECR n", ":-15\r\n"),
        ("TTL n", ":100\r\n"),
        ("INCRBY n x", "-ERR value is not an integer or out of range\r\n"),
        (
            "INCRBY n 9223372036854775808",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "INCRBY n -9223372036854775808",
            "-ERR increment or decrement would overflow\r\n",
        ),
        (
            "DECRBY n -9223372036854775808",
            "-ERR decrement would overflow\r\n",
        ),
        ("SET n 007", "+OK\r\n"),
        ("INCR n", "-ERR value is not an integer or out of range\r\n"),
        ("SET n \" 7\"", "+OK\r\n"),
        ("INCR n", "-ERR value is not an integer or out of range\r\n"),
        ("INCRBYFLOAT n 1", "-ERR value is not a valid float\r\n"),
        ("INCRBYFLOAT o 0.1", "$3\r\n0.1\r\n"),
        ("INCRBYFLOAT o 0.2", "$3\r\n0.3\r\n"),
        ("INCRBYFLOAT o -0.3", "$1\r\n0\r\n"),
        ("INCRBYFLOAT o 1e3", "$4\r\n1000\r\n"),
        ("INCRBYFLOAT o x", "-ERR value is not a valid float\r\n"),
        (
            "INCRBYFLOAT o inf",
            "-ERR increment would produce NaN or Infinity\r\n",
        ),
        ("INCRBYFLOAT o nan", "-ERR value is not a valid float\r\n"),
        ("INCRBYFLOAT o 0x10", "$4\r\n1016\r\n"),
        ("EXPIRE o 100", ":1\r\n"),
        ("INCRBYFLOAT o 1.5e1", "$4\r\n1031\r\n"),
        ("TTL o", ":100\r\n"),
        ("GET o", "$4\r\n1031\r\n"),
    ]);
}

#[test]
fn parts_of_values_are_read_and_written() {
    dialogue(&[
        ("APPEND a Hello", ":5\r\n"),
        ("APPEND a \" World\"", ":11\r\n"),
        ("APPEND a \"\"", ":11\r\n"),
        ("APPEND empty \"\"", ":0\r\n"),
        ("EXISTS empty", ":1\r\n"),
        ("STRLEN a", ":11\r\n"),
        ("STRLEN missing", ":0\r\n"),
        ("GETRANGE a 0 4", "$5\r\nHello\r\n"),
        ("GETRANGE a -5 -1", "$5\r\nWorld\r\n"),
        ("GETRANGE a 4 2", "$0\r\n\r\n"),
        ("GETRANGE a -1 -5", "$0\r\n\r\n"),
        ("GETRANGE a 0 -100", "$1\r\nH\r\n"),
        ("GETRANGE a -100 100", "$11\r\nHello World\r\n"),
        ("GETRANGE a 11 20", "$0\r\n\r\n"),
        (
            "GETRANGE a x 1",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("GETRANGE missing 0 -1", "$0\r\n\r\n"),
        ("SUBSTR a 6 -1", "$5\r\nWorld\r\n"),
        ("SETRANGE a 6 Redis", ":11\r\n"),
        ("GET a", "$11\r\nHello Redis\r\n"),
        ("SETRANGE a 13 !", ":14\r\n"),
        ("GET a", "$14\r\nHello Redis\0\0!\r\n"),
        ("SETRANGE a 0 \"\"", ":14\r\n"),
        ("SETRANGE missing 5 \"\"", ":0\r\n"),
        ("EXISTS missing", ":0\r\n"),
        ("SETRANGE missing 536870912 \"\"", ":0\r\n"),
        ("SETRANGE a -1 x", "-ERR offset is out of range\r\n"),
        (
            "SETRANGE a x x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "SETRANGE a 9223372036854775807 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
        ),
        ("SETRANGE new 2 x", ":3\r\n"),
        ("GET new", "$3\r\n\0\0x\r\n"),
        ("EXPIRE a 100", ":1\r\n"),
        ("APPEND a x", ":15\r\n"),
        ("SETRANGE a 0 J", ":15\r\n"),
        ("TTL a", ":100\r\n"),
    ]);
}

#[test]
fn bits_are_counted_from_the_highest_of_the_first_byte() {
    dialogue(&[
        ("SETBIT b 7 1", ":0\r\n"),
        ("SETBIT b 7 1", ":1\r\n"),
        ("SETBIT b 7 0", ":1\r\n"),
        ("STRLEN b", ":1\r\n"),
        ("SETBIT b 100 1", ":0\r\n"),
        ("STRLEN b", ":13\r\n"),
        ("GETBIT b 100", ":1\r\n"),
        ("GETBIT b 10000", ":0\r\n"),
        ("GETBIT missing 1", ":0\r\n"),
        (
            "GETBIT b -1",
            "-ERR bit offset is not an integer or out of range\r\n",
        ),
        (
            "GETBIT b x",
            "-ERR bit offset is not an integer or out of range\r\n",
        ),
        ("SETBIT b 1 2", "-ERR bit is not an integer or out of range\r\n"),
        ("SETBIT b 1 x", "-ERR bit is not an integer or out of range\r\n"),
        (
            "SETBIT b -1 1",
            "-ERR bit offset is not an integer or out of range\r\n",
        ),
        (
            "SETBIT b 4294967296 1",
            "-ERR bit offset is not an integer or out of range\r\n",
        ),
        ("SET f foobar", "+OK\r\n"),
        ("BITCOUNT f", ":26\r\n"),
        ("BITCOUNT f 0 0", ":4\r\n"),
        ("BITCOUNT f 1 1", ":6\r\n"),
        ("BITCOUNT f 1 1 BYTE", ":6\r\n"),
        ("BITCOUNT f 5 30 BIT", ":17\r\n"),
        ("BITCOUNT f -2 -1", ":7\r\n"),
        ("BITCOUNT f -1 -2", ":0\r\n"),
        ("BITCOUNT f 0", "-ERR syntax error\r\n"),
        (
            "BITCOUNT f 0 x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("BITCOUNT f 0 1 missing", "-ERR syntax error\r\n"),
        ("BITCOUNT f -1 -2 missing", ":0\r\n"),
        ("BITCOUNT missing 0", ":0\r\n"),
        ("BITCOUNT missing", ":0\r\n"),
        ("BITPOS f 1", ":1\r\n"),
        ("BITPOS f 0", ":0\r\n"),
        ("BITPOS f 1 2", ":17\r\n"),
        ("BITPOS f 1 2 -1 BYTE", ":17\r\n"),
        ("BITPOS f 1 7 15 BIT", ":9\r\n"),
        ("BITPOS f 1 7 -3 bit", ":9\r\n"),
        ("BITPOS f 2", "-ERR The bit argument must be 1 or 0.\r\n"),
        ("BITPOS f x", "-ERR value is not an integer or out of range\r\n"),
        ("BITPOS f 1 x", "-ERR value is not an integer or out of range\r\n"),
        ("BITPOS f 1 1 2 missing", "-ERR syntax error\r\n"),
        ("BITPOS missing 0", ":0\r\n"),
        ("BITPOS missing 1", ":-1\r\n"),
        ("BITPOS missing 1 x", ":-1\r\n"),
        ("SET o \"\\xff\\xff\"", "+OK\r\n"),
        ("BITPOS o 0", ":16\r\n"),
        ("BITPOS o 0 1", ":16\r\n"),
        ("BITPOS o 0 0 -1", ":-1\r\n"),
        ("BITPOS o 0 0 -1 BIT", ":-1\r\n"),
        ("BITPOS o 0 5", ":-1\r\n"),
        ("BITPOS o 1 5", ":-1\r\n"),
        ("SET z \"\"", "+OK\r\n"),
        ("BITPOS z 0", ":-1\r\n"),
        ("BITPOS z 1", ":-1\r\n"),
        ("BITCOUNT z", ":0\r\n"),
    ]);
}

#[test]
fn keys_are_renamed_copied_and_counted() {
    dialogue(&[
        ("SETEX a 100 1", "+OK\r\n"),
        ("RENAME a c", "+OK\r\n"),
        ("TTL c", ":100\r\n"),
        ("GET a", "$-1\r\n"),
        ("RENAME a c", "-ERR no such key\r\n"),
        ("RENAME c c", "+OK\r\n"),
        ("RENAMENX c c", ":0\r\n"),
        ("RENAMENX c e", ":1\r\n"),
        ("RENAMENX missing e", "-ERR no such key\r\n"),
        ("SET g 2", "+OK\r\n"),
        ("RENAMENX e g", ":0\r\n"),
        ("RENAME e g", "+OK\r\n"),
        ("TTL g", ":100\r\n"),
        ("COPY g i", ":1\r\n"),
        ("TTL i", ":100\r\n"),
        ("COPY g i", ":0\r\n"),
        ("SET g 3", "+OK\r\n"),
        ("COPY g i REPLACE", ":1\r\n"),
        ("GET i", "$1\r\n3\r\n"),
        ("TTL i", ":-1\r\n"),
        ("COPY g g", "-ERR source and destination objects are the same\r\n"),
        ("COPY missing i", ":0\r\n"),
        ("COPY g k DB 0 REPLACE", ":1\r\n"),
        ("COPY g k DB 99", "-ERR DB index is out of range\r\n"),
        (
            "COPY g k DB x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("COPY g k DB", "-ERR syntax error\r\n"),
        ("COPY g k NOPE", "-ERR syntax error\r\n"),
        ("TYPE g", "+string\r\n"),
        ("TYPE missing", "+none\r\n"),
        ("TOUCH g i missing g", ":3\r\n"),
        ("EXISTS g g missing", ":2\r\n"),
        ("UNLINK g missing i", ":2\r\n"),
        ("DEL g k k", ":1\r\n"),
    ]);
}

#[test]
fn ends_are_set_told_and_taken_away() {
    dialogue(&[
        ("SET a 1", "+OK\r\n"),
        ("TTL a", ":-1\r\n"),
        ("PTTL a", ":-1\r\n"),
        ("EXPIRETIME a", ":-1\r\n"),
        ("PEXPIRETIME a", ":-1\r\n"),
        ("TTL missing", ":-2\r\n"),
        ("PTTL missing", ":-2\r\n"),
        ("EXPIRETIME missing", ":-2\r\n"),
        ("PEXPIRETIME missing", ":-2\r\n"),
        ("EXPIRE a 100", ":1\r\n"),
        ("EXPIRE missing 100", ":0\r\n"),
        ("TTL a", ":100\r\n"),
        ("PERSIST a", ":1\r\n"),
        ("PERSIST a", ":0\r\n"),
        ("PERSIST missing", ":0\r\n"),
        ("TTL a", ":-1\r\n"),
        ("EXPIREAT a 4000000000", ":1\r\n"),
        ("EXPIRETIME a", ":4000000000\r\n"),
        ("PEXPIRETIME a", ":4000000000000\r\n"),
        ("PEXPIREAT a 4000000000500", ":1\r\n"),
        ("EXPIRETIME a", ":4000000001\r\n"),
        ("PEXPIRETIME a", ":4000000000500\r\n"),
        ("PEXPIREAT a 4000000000499", ":1\r\n"),
        ("EXPIRETIME a", ":4000000000\r\n"),
        ("PEXPIREAT a 4000000001000 LT", ":0\r\n"),
        ("PEXPIREAT a 4000000000498 LT", ":1\r\n"),
        ("PEXPIREAT a 4000000000000 GT", ":0\r\n"),
        ("PEXPIREAT a 4000000000499 GT XX", ":1\r\n"),
        ("PEXPIREAT a 4000000000500 NX", ":0\r\n"),
        ("PERSIST a", ":1\r\n"),
        ("PEXPIREAT a 4000000000500 XX", ":0\r\n"),
        ("PEXPIREAT a 4000000000500 GT", ":0\r\n"),
        ("PEXPIREAT a 4000000000500 LT", ":1\r\n"),
        ("PERSIST a", ":1\r\n"),
        ("PEXPIREAT a 4000000000500 NX", ":1\r\n"),
    ]);
}

#[test]
fn times_that_cannot_be_are_refused_and_those_that_have_passed_delete() {
    dialogue(&[
        ("SET a 1", "+OK\r\n"),
        (
            "EXPIRE a 100 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
        ),
        (
            "EXPIRE a 100 GT NX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
        ),
        (
            "EXPIRE a 100 LT NX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n",
        ),
        (
            "EXPIRE a 100 GT LT",
            "-ERR GT and LT options at the same time are not compatible\r\n",
        ),
        ("EXPIRE a 100 GT GT", ":0\r\n"),
        ("EXPIRE a 100 NOPE", "-ERR Unsupported option NOPE\r\n"),
        ("EXPIRE a x NOPE", "-ERR Unsupported option NOPE\r\n"),
        ("EXPIRE a x", "-ERR value is not an integer or out of range\r\n"),
        (
            "EXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        (
            "EXPIRE a -9223372036854775808",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
        (
            "PEXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'pexpire' command\r\n",
        ),
        (
            "EXPIREAT a 9223372036854775807",
            "-ERR invalid expire time in 'expireat' command\r\n",
        ),
        ("PEXPIREAT a 9223372036854775807", ":1\r\n"),
        ("PEXPIRETIME a", ":9223372036854775807\r\n"),
        ("EXPIRE a -1 GT", ":0\r\n"),
        ("EXPIRE a -1", ":1\r\n"),
        ("EXISTS a", ":0\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("PEXPIREAT a 0", ":1\r\n"),
        ("EXISTS a", ":0\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("PEXPIREAT a -9223372036854775808", ":1\r\n"),
        ("EXISTS a", ":0\r\n"),
        (
            "EXPIRE missing 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\r\n",
        ),
    ]);
}

#[test]
fn a_key_ends_when_its_time_has_passed_wherever_it_lies() {
    for key in ["a", "b"] {
        // One key is resident, the other is not.
        let store = MemoryStore::default();
        store.set_clock(1_000_000);
        let hear = |line: &str| {
            let line = format!("{}\r\n", line.replace("KEY", key));
            String::from_utf8(talk(&store, [line.into_bytes()]).answers()).unwrap()
        };
        assert_eq!(hear("SET KEY 1 PX 1500"), "+OK\r\n");
        assert_eq!(hear("PTTL KEY"), ":1500\r\n");
        assert_eq!(hear("TTL KEY"), ":2\r\n");
        assert_eq!(hear("PEXPIRETIME KEY"), ":1001500\r\n");
        store.set_clock(1_001_500);
        assert_eq!(
            hear("GET KEY"),
            "$1\r\n1\r\n",
            "it is there at its last millisecond"
        );
        assert_eq!(hear("INCR KEY"), ":2\r\n");
        assert_eq!(hear("EXISTS KEY"), ":1\r\n");
        store.set_clock(1_001_501);
        for (line, heard) in [
            ("GET KEY", "$-1\r\n"),
            ("MGET KEY", "*1\r\n$-1\r\n"),
            ("EXISTS KEY", ":0\r\n"),
            ("PTTL KEY", ":-2\r\n"),
            ("DEL KEY", ":0\r\n"),
            ("RENAME KEY KEY", "-ERR no such key\r\n"),
            ("SET KEY 2 XX", "$-1\r\n"),
            ("EXPIRE KEY 10", ":0\r\n"),
            ("DBSIZE", ":0\r\n"),
            ("INCR KEY", ":1\r\n"),
            ("TTL KEY", ":-1\r\n"),
        ] {
            assert_eq!(hear(line), heard, "{line}");
        }
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_end_what_is_set_then() {
    let store = MemoryStore::default();
    let server = std::sync::Arc::new(crate::testing::server());
    assert_eq!(server.shard_ms(1, 2_000_000), 2_000_000);
    server.tell_clock(2, 1, 5_000_000);
    server.tell_clock(2, 1, 4_000_000);
    let told = [(0, 1_000_000), (1, 5_000_000), (2, 1_000_000)];
    for (shard, ms) in told {
        assert_eq!(server.shard_ms(shard, 1_000_000), ms, "shard {shard}");
        assert_eq!(server.shard_ms(shard, 6_000_000), 6_000_000, "shard {shard}");
    }
    store.set_clock(1_000_000);
    assert_eq!(
        talk(&store, [b"SET a 1 EX 1\r\nTTL a\r\n".to_vec()]).answers(),
        b"+OK\r\n:1\r\n"
    );
}

#[test]
fn a_value_that_would_be_too_long_is_refused_and_nothing_is_allocated_for_it() {
    let refused = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    dialogue(&[
        ("SETRANGE a 67108863 x", ":67108864\r\n"),
        ("APPEND a x", refused),
        ("SETRANGE a 67108864 x", refused),
        ("SETRANGE c 9223372036854775807 x", refused),
        ("SETBIT c 536870911 1", ":0\r\n"),
        (
            "SETBIT c 536870912 1",
            "-ERR bit offset is not an integer or out of range\r\n",
        ),
        ("STRLEN c", ":67108864\r\n"),
        ("BITCOUNT c", ":1\r\n"),
        ("BITPOS c 1", ":536870911\r\n"),
        ("EXISTS e", ":0\r\n"),
    ]);
}

#[test]
fn commands_of_redis_that_are_not_here_are_named_in_their_refusal() {
    assert_eq!(
        say(&["HSET a b c", "lpush a b", "Subscribe x"]),
        "-ERR 'hset' is a command of Redis that this server does not support; it keeps strings only\r\n\
         -ERR 'lpush' is a command of Redis that this server does not support; it keeps strings only\r\n\
         -ERR 'subscribe' is a command of Redis that this server does not support; it keeps strings only\r\n"
    );
}

#[test]
fn commands_on_several_keys_want_one_shard_where_they_must_be_atomic() {
    for line in [
        "RENAME a b",
        "COPY a b",
        "MSETNX a 1 b 2",
        "RENAMENX a b",
        "MSET a 1 b 2",
    ] {
        let heard = say(&[line]);
        assert!(heard.starts_with("-CROSSSLOT Keys in request"), "{line}: {heard}");
    }
    assert_eq!(
        say(&["MSETNX a 1 b", "TOUCH a b", "UNLINK a b"]),
        "-ERR wrong number of arguments for 'msetnx' command\r\n:0\r\n:0\r\n"
    );
}

/// What can be done to one value, and what its model answers.
#[derive(Debug, Clone)]
enum Deed {
    Append(Vec<u8>),
    Overwrite(usize, Vec<u8>),
    Part(i64, i64),
    SetBit(usize, bool),
    Bit(usize),
    Ones(i64, i64),
    First(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        bytes().prop_map(Deed::Append),
        (0..40_usize, bytes()).prop_map(|(at, bytes)| Deed::Overwrite(at, bytes)),
        (-50..50_i64, -50..50_i64).prop_map(|(start, end)| Deed::Part(start, end)),
        (0..200_usize, any::<bool>()).prop_map(|(at, on)| Deed::SetBit(at, on)),
        (0..200_usize).prop_map(Deed::Bit),
        (-50..50_i64, -50..50_i64).prop_map(|(start, end)| Deed::Ones(start, end)),
        any::<bool>().prop_map(Deed::First),
    ]
}

impl Deed {
    fn words(&self, key: &[u8]) -> Vec<u8> {
        let text = |n: &dyn std::fmt::Display| n.to_string().into_bytes();
        let (name, rest): (&str, Vec<Vec<u8>>) = match self {
            Self::Append(bytes) => ("APPEND", vec![bytes.clone()]),
            Self::Overwrite(at, bytes) => ("SETRANGE", vec![text(at), bytes.clone()]),
            Self::Part(start, end) => ("GETRANGE", vec![text(start), text(end)]),
            Self::SetBit(at, on) => ("SETBIT", vec![text(at), text(&u8::from(*on))]),
            Self::Bit(at) => ("GETBIT", vec![text(at)]),
            Self::Ones(start, end) => ("BITCOUNT", vec![text(start), text(end)]),
            Self::First(on) => ("BITPOS", vec![text(&u8::from(*on))]),
        };
        let words: Vec<&[u8]> = [name.as_bytes(), key]
            .into_iter()
            .chain(rest.iter().map(Vec::as_slice))
            .collect();
        command(&words)
    }

    /// Does it to a plain list of bytes, one by one, and appends the answer.
    fn apply(&self, model: &mut Option<Vec<u8>>, out: &mut Vec<u8>) {
        let now = model.clone().unwrap_or_default();
        let bit = |at: usize| now.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        match self {
            Self::Append(bytes) => {
                let value = model.get_or_insert_default();
                value.extend(bytes);
                reply::length(out, value.len());
            }
            Self::Overwrite(at, bytes) => {
                for (place, &byte) in bytes.iter().enumerate() {
                    let value = model.get_or_insert_default();
                    while value.len() <= at + place {
                        value.push(0);
                    }
                    value[at + place] = byte;
                }
                reply::length(out, model.as_ref().map_or(0, Vec::len));
            }
            Self::Part(start, end) => reply::bulk(out, &part(&now, *start, *end)),
            Self::SetBit(at, on) => {
                reply::integer(out, i64::from(bit(*at)));
                let value = model.get_or_insert_default();
                while value.len() <= at / 8 {
                    value.push(0);
                }
                let mask = 1 << (7 - at % 8);
                value[at / 8] = value[at / 8] & !mask | if *on { mask } else { 0 };
            }
            Self::Bit(at) => reply::integer(out, i64::from(bit(*at))),
            Self::Ones(start, end) => {
                let part = part(&now, *start, *end);
                reply::length(out, part.iter().map(|byte| byte.count_ones() as usize).sum());
            }
            Self::First(on) => {
                let places = 0..now.len() * 8;
                let place = places.clone().find(|&at| bit(at) == *on);
                // An empty value that is there has no bits at all; one that is not there has zeros only.
                let beyond =
                    (!on && model.as_ref().is_none_or(|value| !value.is_empty())).then_some(places.end);
                let place = place.or(beyond).map(|place| i64::try_from(place).unwrap());
                reply::integer(out, place.unwrap_or(-1));
            }
        }
    }
}

/// The bytes from `start` to `end`, negative ones counted from the end, looked for one by one.
fn part(value: &[u8], start: i64, end: i64) -> Vec<u8> {
    if start < 0 && end < 0 && start > end {
        return Vec::new();
    }
    let length = i64::try_from(value.len()).unwrap();
    let place = |n: i64| if n < 0 { (n + length).max(0) } else { n };
    let inside = |at: usize| (place(start)..=place(end)).contains(&i64::try_from(at).unwrap());
    let places = (0..value.len()).filter(|&at| inside(at));
    places.map(|at| value[at]).collect()
}

proptest! {
    #[test]
    fn parts_and_bits_are_those_of_a_plain_list_of_bytes(
        deeds in proptest::collection::vec(deed(), 1..30),
        in_transaction: bool,
        resident: bool,
    ) {
        let key: &[u8] = if resident { b"b" } else { b"a" };
        let (mut model, mut expected) = (None, Vec::new());
        let mut input: Vec<Vec<u8>> = deeds.iter().map(|deed| deed.words(key)).collect();
        if in_transaction {
            input.insert(0, command(&[b"MULTI"]));
            input.push(command(&[b"EXEC"]));
            reply::simple(&mut expected, "OK");
            deeds.iter().for_each(|_| reply::simple(&mut expected, "QUEUED"));
            reply::array(&mut expected, deeds.len());
        }
        deeds.iter().for_each(|deed| deed.apply(&mut model, &mut expected));
        input.push(command(&[b"GET", key]));
        match &model {
            Some(value) => reply::bulk(&mut expected, value),
            None => reply::null(&mut expected, Protocol::Resp2),
        }
        let heard = answers([input.concat()]);
        prop_assert_eq!(heard.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
