//! Pipelines whose answers take more memory than one connection may have.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use proptest::prelude::*;

use crate::command::table;
use crate::pipeline::{Ended, Pipeline};
use crate::server::Server;
use crate::testing::{MemoryStore, command, server, session, talk};

const MIB: usize = 1 << 20;

fn pipeline(store: &MemoryStore) -> (Pipeline<MemoryStore>, Arc<Server>) {
    let server = Arc::new(server());
    (
        Pipeline::new(store.clone(), Arc::clone(&server), session(1)),
        server,
    )
}

/// Runs all of `input` as a connection does. Returns the answers, and the most that was held of them at the end of a round.
fn run(pipeline: &mut Pipeline<MemoryStore>, mut input: &[u8]) -> (Vec<u8>, usize) {
    let (mut answers, mut most_bytes) = (Vec::new(), 0);
    loop {
        let round = block_on(pipeline.round(input));
        input = &input[round.consumed..];
        most_bytes = most_bytes.max(pipeline.output().bytes() + pipeline.held_bytes());
        answers.extend(pipeline.output().take().concat());
        if round.ended != Ended::Full {
            return (answers, most_bytes);
        }
    }
}

/// The answers to `commands` sent one at a time.
fn one_by_one(store: &MemoryStore, commands: &[Vec<u8>]) -> Vec<u8> {
    talk(store, commands.iter().cloned()).answers()
}

/// The answers of a round were bounded only once all of them were in memory: 128 pipelined lookups of a mebibyte, and later
/// up to 1,024 of 64, took as much as they were long together.
#[test]
fn long_answers_are_made_only_as_far_as_there_is_room() {
    for reads_last in [false, true] {
        let store = MemoryStore::default();
        if reads_last {
            store.end_reads_last();
        }
        store.put(b"a", &vec![b'v'; MIB]);
        store.put(b"c", b"short");
        let mut commands = vec![command(&[b"GET", b"a"]); 150];
        commands.extend(vec![command(&[b"MGET", b"a", b"c", b"a", b"e"]); 20]);
        commands.extend(vec![command(&[b"GETRANGE", b"a", b"1", b"-2"]); 30]);
        commands.push(command(&[b"EXISTS", b"a", b"c", b"e"]));
        let (mut pipeline, server) = pipeline(&store);
        let (answers, most_bytes) = run(&mut pipeline, &commands.concat());
        assert!(most_bytes <= 18 * MIB, "{most_bytes} bytes at once");
        assert!(
            answers == one_by_one(&store, &commands),
            "{} bytes",
            answers.len()
        );
        let calls = |name: &str| {
            let (number, _) = table::find_numbered(name.as_bytes()).expect("a command");
            server.telemetry().totals().by_command[usize::from(number)].calls
        };
        assert_eq!(
            (calls("get"), calls("mget"), calls("getrange"), calls("exists")),
            (150, 20, 30, 1)
        );
        let asked: usize = store.batches().iter().sum();
        assert!(
            asked < 3 * (150 + 80 + 30 + 3),
            "{asked} requests: each read is asked again once at most, and those of the reference once"
        );
    }
}

/// What a round wanted of its values was bounded, and what was read for that was not: all of a first round's values were
/// read from the device, 128 of up to 64 MiB, to be told of most of them that there is no room; and the long reads of all
/// others stood in line behind them.
#[test]
fn a_round_has_no_more_read_from_the_device_than_there_is_room_for() {
    const READS: usize = 100;
    const VALUE_BYTES: usize = 1000;
    let all_keys = {
        let mut words = vec![&b"MGET"[..]];
        words.extend([&b"a"[..]; READS]);
        vec![command(&words)]
    };
    for reads_last in [false, true] {
        for commands in [
            vec![command(&[b"GET", b"a"]); READS],
            vec![command(&[b"STRLEN", b"a"]); READS],
            vec![command(&[b"EXISTS", b"a"]); READS],
            vec![command(&[b"GETRANGE", b"a", b"0", b"2"]); READS],
            all_keys.clone(),
        ] {
            let store = MemoryStore::default();
            if reads_last {
                store.end_reads_last();
            }
            store.put(b"a", &[b'v'; VALUE_BYTES]);
            let expected = one_by_one(&store, &commands);
            store.lie_on_device_from(500);
            let (pipeline, _) = pipeline(&store);
            let mut pipeline = pipeline.with_room(5 * VALUE_BYTES, 0, 10);
            let (mut answers, input) = (Vec::new(), commands.concat());
            let mut rest = &input[..];
            loop {
                let round = block_on(pipeline.round(rest));
                rest = &rest[round.consumed..];
                let read_bytes = store.device_bytes();
                assert!(read_bytes <= 7 * VALUE_BYTES, "{read_bytes} bytes in a round");
                answers.extend(pipeline.output().take().concat());
                if round.ended != Ended::Full {
                    break;
                }
            }
            assert!(answers == expected, "{}", String::from_utf8_lossy(&answers));
            assert_eq!(pipeline.held_bytes(), 0);
        }
    }
}

/// A read that was put off was said to have taken what its last turn took: the slow log and the histograms knew nothing of
/// the turns that it had waited for.
#[test]
fn a_read_that_is_put_off_takes_from_when_it_came() {
    let store = MemoryStore::default();
    store.put(b"a", &[b'v'; 1000]);
    let (pipeline, server) = pipeline(&store);
    let mut pipeline = pipeline.with_room(0, 0, 10);
    store.answer_after(Duration::from_millis(20));
    let slow = server.telemetry().slow();
    slow.set_threshold_us(50_000);
    run(&mut pipeline, &b"GET a\r\n".repeat(3));
    let told = |n| {
        let logged = slow.latest(n).into_iter().map(|logged| logged.entry);
        logged
            .map(|entry| (entry.latency.as_millis(), entry.cause))
            .collect::<Vec<_>>()
    };
    let cause = "put off behind long answers of its pipeline (40000 us); waiting for 1 read (20000 us)";
    assert_eq!(told(9), [(60, cause.to_owned())]);
    // And what comes after them has no part in it.
    slow.set_threshold_us(20_000);
    run(&mut pipeline, b"GET a\r\n");
    assert_eq!(told(1), [(20, "waiting for 1 read (20000 us)".to_owned())]);
}

/// However little room there is, a value of any length can be had.
#[test]
fn the_first_answer_always_fits() {
    let store = MemoryStore::default();
    for key in [b"a", b"c"] {
        store.put(key, &vec![b'v'; MIB]);
    }
    let commands = [
        command(&[b"GETDEL", b"a"]),
        command(&[b"GET", b"c"]),
        command(&[b"MGET", b"c", b"a", b"c"]),
        command(&[b"GETSET", b"c", b"w"]),
        command(&[b"GET", b"c"]),
    ];
    let (pipeline, _) = pipeline(&store);
    let (answers, most_bytes) = run(&mut pipeline.with_room(0, 0, 0), &commands.concat());
    assert!(most_bytes < 3 * MIB, "{most_bytes} bytes at once");
    assert_eq!(answers.len(), 5 * (MIB + 12) + 4 + 5 + 7);
}

/// A read that was put off must not see what comes behind it in its pipeline.
#[test]
fn a_read_that_is_put_off_does_not_see_the_writes_behind_it() {
    let store = MemoryStore::default();
    store.put(b"a", &[b'v'; 1000]);
    store.put(b"c", &[b'w'; 1000]);
    let commands: Vec<_> = [
        "GET c",
        "GET a",
        "SET a new",
        "GET a",
        "STRLEN c",
        "DEL a c",
        "GET c",
    ]
    .map(|line| format!("{line}\r\n").into_bytes())
    .into();
    let (pipeline, _) = pipeline(&store);
    let (answers, _) = run(&mut pipeline.with_room(0, 0, 0), &commands.concat());
    let value = |byte: &str| format!("$1000\r\n{}\r\n", byte.repeat(1000));
    let expected = format!(
        "{}{}+OK\r\n$3\r\nnew\r\n:1000\r\n:2\r\n$-1\r\n",
        value("w"),
        value("v")
    );
    assert_eq!(String::from_utf8(answers).unwrap(), expected);
}

/// A read that is put off is asked again when others may have written. The reads behind it then must not tell of a time
/// before.
#[test]
fn the_reads_of_a_pipeline_never_go_back_in_time() {
    let store = MemoryStore::default();
    store.put(b"a", &[b'v'; 1000]);
    let (pipeline, _) = pipeline(&store);
    let mut pipeline = pipeline.with_room(0, 0, 10);
    let input = b"GET a\r\nGET a\r\nSTRLEN a\r\nEXISTS a c\r\n";
    let round = block_on(pipeline.round(input));
    assert_eq!((round.consumed, round.ended), (input.len(), Ended::Full));
    let first = pipeline.output().take().concat();
    assert_eq!(first.len(), 1000 + 9, "the second has no room");
    store.put(b"a", &[b'w'; 2000]);
    store.put(b"c", b"new");
    let (rest, _) = run(&mut pipeline, b"");
    let expected = format!("$2000\r\n{}\r\n:2000\r\n:2\r\n", "w".repeat(2000));
    assert_eq!(String::from_utf8(rest).unwrap(), expected);
}

/// What a write answers cannot be had later, so that a pipeline of them took as much as all it answered.
#[test]
fn a_write_whose_answer_has_no_room_is_not_run_and_says_so() {
    let store = MemoryStore::default();
    let (pipeline, server) = pipeline(&store);
    let mut pipeline = pipeline.with_room(1000, 1000, 10);
    // Short answers make the rounds wide.
    for n in 0..30 {
        run(&mut pipeline, &command(&[b"GETSET", b"a", b"1"]).repeat(n));
    }
    for key in [b"a", b"c", b"e", b"g"] {
        store.put(key, &[b'v'; 600]);
    }
    let input = b"GETDEL a\r\nGETDEL c\r\nGETEX e PERSIST\r\nSET g 1 GET\r\nGETSET i 1\r\n";
    let (answers, _) = run(&mut pipeline, input);
    let value = format!("$600\r\n{}\r\n", "v".repeat(600));
    let error = "-ERR the answers of this pipeline take more than 1000 bytes of memory (limits.output_hard_bytes); this \
                 command was not run, send fewer at once\r\n";
    assert_eq!(
        String::from_utf8(answers).unwrap(),
        format!("{value}{value}{error}{error}$-1\r\n")
    );
    let (answers, _) = run(&mut pipeline, b"EXISTS a c e g\r\nSTRLEN g\r\nGETDEL g\r\n");
    assert_eq!(
        String::from_utf8(answers).unwrap(),
        format!(":2\r\n:600\r\n{value}")
    );
    assert_eq!(server.telemetry().totals().failed_commands, 2);
}

/// Answers of one length, however long, are never refused: their rounds grow only as far as there is room.
#[test]
fn writes_that_answer_long_values_share_a_round_only_where_they_fit() {
    let store = MemoryStore::default();
    let mut commands = Vec::new();
    for n in 0..60_u32 {
        let key = format!("a{n}");
        store.put(key.as_bytes(), &vec![b'v'; MIB]);
        commands.push(command(&[b"GET", key.as_bytes()]));
        commands.push(command(&[b"GETDEL", key.as_bytes()]));
    }
    let (mut pipeline, _) = pipeline(&store);
    let (answers, most_bytes) = run(&mut pipeline, &commands.concat());
    assert!(most_bytes <= 34 * MIB, "{most_bytes} bytes at once");
    assert_eq!(answers.len(), 120 * (MIB + 12));
    // And short ones soon share one.
    let input = b"GET a1\r\nSET a1 x\r\nGETSET a1 y\r\n".repeat(100);
    run(&mut pipeline, &input);
    let before = store.batches().len();
    run(&mut pipeline, &input);
    let rounds = store.batches().len() - before;
    assert!(
        rounds <= 7,
        "{rounds} rounds, of 16 reads with a write behind them"
    );
}

/// A pipeline that reads and then deletes its keys was told of some reads that there was no room for their answers, and the
/// deletes behind them ran: the values were gone. Short answers before had let too many share a round.
#[test]
fn a_read_with_a_write_behind_it_is_answered_whatever_it_takes() {
    let store = MemoryStore::default();
    let (pipeline, _) = pipeline(&store);
    let mut pipeline = pipeline.with_room(1000, 1000, 10);
    for n in 0..30 {
        run(&mut pipeline, &b"GET a\r\nDEL a\r\nGETSET b 1\r\n".repeat(n));
    }
    let mut input = Vec::new();
    let mut expected = Vec::new();
    for n in 0..100_u32 {
        let key = format!("a{n}");
        store.put(key.as_bytes(), &[b'v'; 600]);
        input.extend(command(&[b"GET", key.as_bytes()]));
        // Of another key, too: what is read before a lock is given back was so while it was held.
        input.extend(command(&[
            b"DEL",
            if n % 2 == 0 { key.as_bytes() } else { b"lock" },
        ]));
        expected.extend(format!("$600\r\n{}\r\n:{}\r\n", "v".repeat(600), u32::from(n % 2 == 0)).bytes());
    }
    let (answers, _) = run(&mut pipeline, &input);
    assert!(
        answers == expected,
        "{}",
        String::from_utf8_lossy(&answers[..2000])
    );
}

/// What comes behind everything before it, and the end of the connection, wait for reads that were put off.
#[test]
fn what_runs_at_the_end_of_a_round_runs_behind_the_reads_that_were_put_off() {
    let store = MemoryStore::default();
    store.put(b"a", &[b'v'; 1000]);
    let value = format!("$1000\r\n{}\r\n", "v".repeat(1000));
    for (last, answer, ended) in [
        ("DBSIZE", ":1\r\n", Ended::Starved),
        (
            "MULTI\r\nSTRLEN a\r\nEXEC",
            "+OK\r\n+QUEUED\r\n*1\r\n:1000\r\n",
            Ended::Starved,
        ),
        ("WATCH a", "+OK\r\n", Ended::Starved),
        ("QUIT", "+OK\r\n", Ended::Closing),
        (
            "*1\r\n$x",
            "-ERR Protocol error: invalid bulk length\r\n",
            Ended::Closing,
        ),
    ] {
        let input = format!("GET a\r\nGET a\r\nGET a\r\n{last}\r\n");
        let (pipeline, _) = pipeline(&store);
        let mut pipeline = pipeline.with_room(0, 0, 10);
        let (mut rest, mut answers) = (input.as_bytes(), Vec::new());
        let end = loop {
            let round = block_on(pipeline.round(rest));
            rest = &rest[round.consumed..];
            answers.extend(pipeline.output().take().concat());
            if round.ended != Ended::Full {
                break round.ended;
            }
        };
        let heard = String::from_utf8(answers).unwrap();
        assert_eq!(heard, format!("{}{answer}", value.repeat(3)), "{last}");
        assert_eq!(end, ended, "{last}");
    }
}

/// A command on few keys of both shards, with values that fit and values that do not.
fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let key = || prop_oneof![Just("a"), Just("c"), Just("b")];
    let value = || prop_oneof![2 => 0..8_usize, 1 => 50..400_usize].prop_map(|n| "v".repeat(n));
    let line = prop_oneof![
        6 => key().prop_map(|key| format!("GET {key}")),
        2 => (key(), key(), key()).prop_map(|(a, b, c)| format!("MGET {a} {b} {c}")),
        2 => (key(), key()).prop_map(|(a, b)| format!("EXISTS {a} {b} x")),
        1 => (key(), key()).prop_map(|(a, b)| format!("DEL {a} {b}")),
        4 => (key(), value()).prop_map(|(key, value)| format!("SET {key} '{value}'")),
        2 => (key(), value()).prop_map(|(key, value)| format!("APPEND {key} '{value}'")),
        1 => key().prop_map(|key| format!("GETDEL {key}")),
        1 => (key(), value()).prop_map(|(key, value)| format!("GETSET {key} '{value}'")),
        1 => (key(), value()).prop_map(|(key, value)| format!("SET {key} '{value}' GET")),
        1 => key().prop_map(|key| format!("GETEX {key} EX 100")),
        2 => key().prop_map(|key| format!("GETRANGE {key} 1 300")),
        2 => key().prop_map(|key| format!("STRLEN {key}")),
        1 => value().prop_map(|value| format!("MSET a '{value}' c '{value}{value}'")),
        1 => Just("RENAME a c".to_owned()),
        1 => Just("COPY c a REPLACE".to_owned()),
        1 => Just("INCR a".to_owned()),
        1 => Just("PING".to_owned()),
        1 => Just("DBSIZE".to_owned()),
        1 => key().prop_map(|key| format!("MULTI\r\nGET {key}\r\nAPPEND {key} x\r\nEXEC")),
    ];
    line.prop_map(|line| format!("{line}\r\n").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn however_little_room_there_is_the_answers_are_those_of_commands_sent_one_at_a_time(
        commands in proptest::collection::vec(any_command(), 0..40),
        reads_bytes in 0..600_usize,
        wide in any::<bool>(),
        reads_last in any::<bool>(),
        on_device_from in prop_oneof![Just(usize::MAX), 50..400_usize],
    ) {
        let store = MemoryStore::default();
        store.lie_on_device_from(on_device_from);
        if reads_last {
            store.end_reads_last();
        }
        let (pipeline, _) = pipeline(&store);
        // Enough for what cannot be put off: it would be refused.
        let mut pipeline = pipeline.with_room(reads_bytes, 1 << 20, 9);
        if wide {
            run(&mut pipeline, &b"GETSET c 1\r\n".repeat(1400));
            run(&mut pipeline, b"DEL c\r\n");
        }
        let (answers, _) = run(&mut pipeline, &commands.concat());
        let expected = one_by_one(&MemoryStore::default(), &commands);
        prop_assert_eq!(String::from_utf8_lossy(&answers), String::from_utf8_lossy(&expected));
        prop_assert_eq!(pipeline.held_bytes(), 0, "nothing stays behind");
    }
}
