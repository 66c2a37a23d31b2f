//! Many commands at once: order, batching, bounds.

use std::sync::Arc;

use futures_lite::future::block_on;
use proptest::prelude::*;

use crate::command::table;
use crate::pipeline::{FLUSH_BYTES, Pipeline};
use crate::testing::{MemoryStore, answers, command, talk};

#[test]
fn a_pipeline_is_one_message_to_the_store_and_one_send() {
    let store = MemoryStore::default();
    let input: Vec<u8> = (0..32)
        .flat_map(|n| command(&[b"SET", format!("k{n}").as_bytes(), b"v"]))
        .collect();
    let script = talk(&store, [input]);
    assert_eq!(store.batches(), [32]);
    assert_eq!(script.sends(), 1);
    assert_eq!(script.answers(), b"+OK\r\n".repeat(32));
}

#[test]
fn resident_reads_need_no_message() {
    let store = MemoryStore::default();
    store.put(b"b", b"2");
    let script = talk(&store, [b"GET b\r\nEXISTS b d\r\nMGET b d\r\n".to_vec()]);
    assert_eq!(store.batches(), Vec::<usize>::new());
    assert_eq!(script.answers(), b"$1\r\n2\r\n:1\r\n*2\r\n$1\r\n2\r\n$-1\r\n");
}

#[test]
fn a_read_sees_the_writes_before_it_in_its_pipeline() {
    let input = b"SET b 1\r\nGET b\r\nINCR b\r\nGET b\r\nPING\r\nDEL b\r\nEXISTS b\r\nGET b\r\n".to_vec();
    assert_eq!(
        answers([input]),
        b"+OK\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n+PONG\r\n:1\r\n:0\r\n$-1\r\n"
    );
}

#[test]
fn answers_keep_the_order_of_commands_whoever_gives_them() {
    let store = MemoryStore::default();
    store.put(b"b", b"resident");
    store.put(b"a", b"remote");
    let input = b"GET b\r\nGET a\r\nGET b\r\nPING\r\nMGET a b a\r\nNOPE\r\nDBSIZE\r\nGET a\r\n".to_vec();
    let heard = String::from_utf8(talk(&store, [input]).answers()).unwrap();
    assert_eq!(
        heard,
        "$8\r\nresident\r\n$6\r\nremote\r\n$8\r\nresident\r\n+PONG\r\n\
         *3\r\n$6\r\nremote\r\n$8\r\nresident\r\n$6\r\nremote\r\n\
         -ERR unknown command 'NOPE', with args beginning with: \r\n:2\r\n$6\r\nremote\r\n"
    );
}

#[test]
fn reads_in_place_reads_elsewhere_and_writes_mix_in_order() {
    let store = MemoryStore::default();
    store.put(b"b", b"resident");
    store.put(b"a", b"remote");
    let input = b"STRLEN b\r\nSTRLEN a\r\nSTRLEN b\r\nAPPEND b !\r\nSTRLEN b\r\nSET a 1 EX 10\r\nTTL a\r\nGETRANGE b 0 x\r\n\
        EXISTS a b c d\r\nGETDEL a\r\nTYPE a\r\n"
        .to_vec();
    let heard = String::from_utf8(talk(&store, [input]).answers()).unwrap();
    assert_eq!(
        heard,
        ":8\r\n:6\r\n:8\r\n:9\r\n:9\r\n+OK\r\n:10\r\n-ERR value is not an integer or out of range\r\n:2\r\n$1\r\n1\r\n+none\r\n"
    );
    assert_eq!(
        store.batches(),
        [12],
        "one message: STRLEN b alone is answered in place"
    );
}

#[test]
fn a_round_counts_its_commands_by_name_and_its_errors_by_code() {
    let server = Arc::new(crate::testing::server());
    let mut pipeline = Pipeline::new(
        MemoryStore::default(),
        Arc::clone(&server),
        crate::testing::session(1),
    );
    let input = b"GET b\r\nGET a\r\nINCR a\r\nSET b x\r\nINCR b\r\nGET\r\nMULTI\r\nINCR b\r\nPING\r\nEXEC\r\nDEL a b\r\nMSET a 1 b 2\r\n";
    let mut rest: &[u8] = input;
    while !rest.is_empty() {
        let round = block_on(pipeline.round(rest));
        rest = &rest[round.consumed..];
    }
    let totals = server.telemetry().totals();
    let of = |name: &str| {
        let (number, _) = table::find_numbered(name.as_bytes()).unwrap();
        let counts = &totals.by_command[usize::from(number)];
        (counts.calls, counts.failed, counts.rejected)
    };
    assert_eq!(of("get"), (2, 0, 1));
    assert_eq!(of("incr"), (3, 2, 0));
    assert_eq!(
        (of("multi"), of("exec"), of("ping")),
        ((1, 0, 0), (1, 0, 0), (1, 0, 0))
    );
    assert_eq!((of("del"), of("mset")), ((1, 0, 0), (1, 1, 0)));
    assert_eq!(totals.failed_commands, 4);
    let seen: Vec<_> = totals.errors.seen().collect();
    assert_eq!(seen, [("CROSSSLOT", 1), ("ERR", 3)]);
    assert_eq!((totals.hits, totals.misses), (1, 2));
}

#[test]
fn a_command_of_very_many_keys_runs_in_bounded_rounds() {
    let store = MemoryStore::default();
    let keys: Vec<Vec<u8>> = (0..60_000_u32).map(|n| format!("a{n}").into_bytes()).collect();
    for key in &keys {
        store.put(key, b"v");
    }
    for (name, expected) in [
        ("MGET", format!("*60000\r\n{}", "$1\r\nv\r\n".repeat(60_000))),
        ("EXISTS", ":60000\r\n".to_owned()),
        ("DEL", ":60000\r\n".to_owned()),
        ("EXISTS", ":0\r\n".to_owned()),
    ] {
        let arguments: Vec<&[u8]> = std::iter::once(name.as_bytes())
            .chain(keys.iter().map(Vec::as_slice))
            .collect();
        let heard = talk(&store, [command(&arguments), command(&[b"PING"])]).answers();
        assert!(
            heard == format!("{expected}+PONG\r\n").as_bytes(),
            "{name}: {} bytes",
            heard.len()
        );
    }
    assert!(store.batches().iter().all(|&ops| ops <= 1024));
}

#[test]
fn answers_are_sent_before_many_more_are_made() {
    let store = MemoryStore::default();
    store.put(b"b", &[1; 100_000]);
    let input: Vec<u8> = (0..200).flat_map(|_| command(&[b"GET", b"b"])).collect();
    let script = talk(&store, [input]);
    assert_eq!(script.answers().len(), 200 * (100_000 + 11));
    assert!(
        script.largest_send() < FLUSH_BYTES + 100_100,
        "{}",
        script.largest_send()
    );
}

#[test]
fn large_answers_from_the_store_make_the_rounds_smaller() {
    let store = MemoryStore::default();
    store.put(b"a", &vec![1; 1 << 20]);
    let input: Vec<u8> = (0..600).flat_map(|_| command(&[b"GET", b"a"])).collect();
    let script = talk(&store, [input]);
    assert_eq!(script.answers().len(), 600 * ((1 << 20) + 12));
    let batches = store.batches();
    assert!(
        batches[0] <= 128 && batches[1..].iter().all(|&ops| ops <= 8),
        "{batches:?}"
    );
}

/// A command line with keys of both shards, most of them sensible.
fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("GET"),
        Just("SET"),
        Just("INCR"),
        Just("MGET"),
        Just("MSET"),
        Just("DEL"),
        Just("EXISTS"),
        Just("PING"),
        Just("ECHO"),
        Just("KV.SCAN"),
        Just("DBSIZE"),
        Just("HELLO"),
        Just("NOPE"),
        Just("SCAN"),
        Just("TTL"),
        Just("STRLEN"),
        Just("APPEND"),
        Just("RENAME"),
        Just("MULTI"),
        Just("EXEC"),
        Just("WATCH"),
    ];
    let argument = prop_oneof![
        Just("a"),
        Just("b"),
        Just("c"),
        Just("d"),
        Just("1"),
        Just("3"),
        Just("0"),
        Just("")
    ];
    let line = (word, proptest::collection::vec(argument, 0..4));
    (line, any::<bool>()).prop_map(|((word, arguments), inline)| {
        if inline {
            let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
            return format!("{word} {}\r\n", quoted.join(" ")).into_bytes();
        }
        let words: Vec<&[u8]> = std::iter::once(word)
            .chain(arguments)
            .map(str::as_bytes)
            .collect();
        command(&words)
    })
}

proptest! {
    #[test]
    fn however_the_bytes_arrive_the_answers_are_the_same(
        commands in proptest::collection::vec(any_command(), 0..20),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let input = commands.concat();
        let one_by_one = answers(commands);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let in_pieces = answers(cuts.windows(2).map(|pair| input[pair[0]..pair[1]].to_vec()));
        prop_assert_eq!(String::from_utf8_lossy(&in_pieces), String::from_utf8_lossy(&one_by_one));
        let byte_by_byte = answers(input.iter().map(|&byte| vec![byte]));
        prop_assert_eq!(byte_by_byte, one_by_one);
    }
}

/// Steps were counted from nought in each round, so that a client of short rounds never let anything more urgent in, whatever
/// each of its commands cost: compactions and other clients waited for as long as it sent.
#[test]
fn short_rounds_and_long_reads_make_way_for_what_is_more_urgent() {
    let store = MemoryStore::default();
    store.put(b"b", &vec![1; 1 << 20]);
    let (server, session) = (crate::testing::server(), crate::testing::session(1));
    let mut pipeline = Pipeline::new(store.clone(), Arc::new(server), session);
    for _ in 0..80 {
        block_on(pipeline.round(b"PING\r\n"));
    }
    assert!(store.yields() >= 10, "{} times in 80 rounds", store.yields());
    let before = store.yields();
    block_on(pipeline.round(&b"BITCOUNT b\r\n".repeat(20)));
    let between = store.yields() - before;
    assert!(between >= 20, "{between} times in twenty long reads");
}
