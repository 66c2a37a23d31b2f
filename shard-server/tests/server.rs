//! The real server over a real directory: what a client sees on the wire, and how the process starts and ends.

mod common;

use std::io::Write as _;
use std::net::Shutdown;
use std::process::Stdio;

use common::{Client, Server, bulk, command, encode};

fn with_server(flags: &[&str], test: impl FnOnce(&Server)) {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let server = Server::start(&dir.path().join("data"), flags);
    test(&server);
    server.stop();
}

#[test]
fn every_command_over_the_real_engine() {
    with_server(&["--shards", "4"], |server| {
        let mut client = server.client();
        for (said, heard) in [
            ("PING", "+PONG\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("GET a", "$1\r\n1\r\n"),
            ("GET b", "$-1\r\n"),
            ("SET a 2 NX", "$-1\r\n"),
            ("SET a 2 XX GET", "$1\r\n1\r\n"),
            ("INCR n", ":1\r\n"),
            ("INCRBY n 9", ":10\r\n"),
            ("DECRBY n 3", ":7\r\n"),
            ("DECR n", ":6\r\n"),
            ("INCR a", ":3\r\n"),
            ("MSET {t}1 x {t}2 y", "+OK\r\n"),
            (
                "MGET {t}1 nope {t}2 n",
                "*4\r\n$1\r\nx\r\n$-1\r\n$1\r\ny\r\n$1\r\n6\r\n",
            ),
            ("EXISTS a n {t}1 nope a", ":4\r\n"),
            ("DBSIZE", ":4\r\n"),
            (
                "KV.SCAN - +",
                "*8\r\n$1\r\na\r\n$1\r\n3\r\n$1\r\nn\r\n$1\r\n6\r\n$4\r\n{t}1\r\n$1\r\nx\r\n$4\r\n{t}2\r\n$1\r\ny\r\n",
            ),
            (
                "KV.SCAN b {t}2 LIMIT 5",
                "*4\r\n$1\r\nn\r\n$1\r\n6\r\n$4\r\n{t}1\r\n$1\r\nx\r\n",
            ),
            (
                "SCAN 0 MATCH {t}* COUNT 100",
                "*2\r\n$1\r\n0\r\n*2\r\n$4\r\n{t}1\r\n$4\r\n{t}2\r\n",
            ),
            ("DEL a n nope", ":2\r\n"),
            ("DBSIZE", ":2\r\n"),
            ("SELECT 0", "+OK\r\n"),
            ("CLIENT SETNAME me", "+OK\r\n"),
            ("CLIENT GETNAME", "$2\r\nme\r\n"),
            (
                "CONFIG GET appendfsync",
                "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n",
            ),
        ] {
            assert_eq!(client.say(said), heard, "{said}");
        }
        assert!(
            client
                .say("INFO")
                .contains("db0:keys=2,expires=0,avg_ttl=0,exact=1")
        );
        assert!(
            client
                .say("MSET a 1 b 2 c 3 d 4 e 5 f 6")
                .starts_with("-CROSSSLOT ")
        );
        assert_eq!(
            client.say("MGET a b c"),
            "*3\r\n$-1\r\n$-1\r\n$-1\r\n",
            "nothing of it was written"
        );
        assert!(client.say("HELLO 3").starts_with("%7\r\n"));
        assert_eq!(client.say("GET nope"), "_\r\n");
        assert_eq!(client.say("QUIT"), "+OK\r\n");
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn any_bytes_are_keys_and_values_the_empty_ones_included() {
    with_server(&[], |server| {
        let mut client = server.client();
        let all: Vec<u8> = (0..=255).collect();
        for (key, value) in [(b"".as_slice(), b"".as_slice()), (b"\r\n", b"\0"), (&all, &all)] {
            assert_eq!(client.call(&[b"SET", key, value]), b"+OK\r\n");
            assert_eq!(client.call(&[b"GET", key]), bulk(value));
        }
        assert_eq!(client.say("DBSIZE"), ":3\r\n");
    });
}

#[test]
fn the_largest_value_goes_in_and_out_and_a_larger_one_is_refused() {
    with_server(&[], |server| {
        let mut client = server.client();
        let value: Vec<u8> = (0..64 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        assert_eq!(client.call(&[b"SET", b"big", &value]), b"+OK\r\n");
        assert!(client.call(&[b"GET", b"big"]) == bulk(&value));
        let half = vec![1; 40 << 20];
        let both = client.call(&[b"MSET", b"{t}1", &half, b"{t}2", &half]);
        let refused = String::from_utf8(both).unwrap();
        assert!(
            refused.starts_with("-ERR ") && refused.contains("batch"),
            "{refused}"
        );
        assert_eq!(client.say("EXISTS {t}1 {t}2"), ":0\r\n");
        client.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108865\r\n");
        assert_eq!(client.rest(), b"-ERR Protocol error: invalid bulk length\r\n");
        assert_eq!(server.client().say("PING"), "+PONG\r\n");
    });
}

#[test]
fn a_long_pipeline_is_answered_in_order_while_it_is_still_being_sent() {
    with_server(&[], |server| {
        let mut client = server.client();
        let mut writer = client.writer();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..20_000 {
                    let key = format!("key:{}", n % 700);
                    let value = n.to_string();
                    let mut both = encode(&[b"SET", key.as_bytes(), value.as_bytes()]);
                    both.extend(encode(&[b"GET", key.as_bytes()]));
                    writer.write_all(&both).unwrap();
                }
                writer.shutdown(Shutdown::Write).unwrap();
            });
            for n in 0..20_000 {
                assert_eq!(client.reply(), b"+OK\r\n");
                assert_eq!(client.reply(), bulk(n.to_string().as_bytes()), "the {n}th");
            }
        });
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn commands_may_arrive_byte_by_byte() {
    with_server(&[], |server| {
        let mut client = server.client();
        for byte in [encode(&[b"SET", b"k", b"v\r\n"]), b"GET k\r\nPING\n".to_vec()].concat() {
            client.write(&[byte]);
        }
        assert_eq!(client.reply(), b"+OK\r\n");
        assert_eq!(client.reply(), bulk(b"v\r\n"));
        assert_eq!(client.reply(), b"+PONG\r\n");
    });
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    with_server(&[], |server| {
        let mut witness = server.client();
        let garbage: [&[u8]; 8] = [
            b"*1\r\n*1\r\n",
            b"*3\r\n$3\r\nSET\r\n$-5\r\n",
            b"*999999999\r\n",
            b"*2147483648\r\n",
            b"ECHO 'open\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"*1\r\n$99999999999\r\n",
            b"*x\r\n",
        ];
        for bytes in garbage {
            let mut client = server.client();
            client.write(bytes);
            let heard = client.rest();
            let fits = heard.is_empty() || (heard.starts_with(b"-ERR ") && heard.ends_with(b"\r\n"));
            assert!(
                fits,
                "{} was answered {}",
                bytes.escape_ascii(),
                heard.escape_ascii()
            );
            assert_eq!(witness.say("PING"), "+PONG\r\n");
        }
        let mut half = server.client();
        half.write(b"*2\r\n$3\r\nGET\r\n$100\r\nabc");
        drop(half);
        assert_eq!(witness.say("PING"), "+PONG\r\n");
    });
}

#[test]
fn clients_beyond_the_limit_are_told_so_and_their_places_come_back() {
    with_server(&["--max-clients", "3"], |server| {
        let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
        clients
            .iter_mut()
            .for_each(|client| assert_eq!(client.say("PING"), "+PONG\r\n"));
        let turned_away = server.client();
        assert_eq!(turned_away.rest(), b"-ERR max number of clients reached\r\n");
        assert_eq!(clients.remove(0).say("QUIT"), "+OK\r\n");
        // The place is free a moment after the client's end.
        let admitted = (0..500).any(|_| {
            let mut client = server.client();
            client.try_write(&encode(&[b"PING"])) && client.try_reply().as_deref() == Some(b"+PONG\r\n")
        });
        assert!(admitted);
    });
}

#[test]
fn data_and_shards_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--shards", "3", "--cores", "0"]);
    let mut client = server.client();
    let keys: Vec<String> = (0..300).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        assert_eq!(client.call(&[b"SET", key.as_bytes(), key.as_bytes()]), b"+OK\r\n");
    }
    server.stop();
    let server = Server::start(&data, &[]);
    let mut client = server.client();
    for key in &keys {
        assert_eq!(client.call(&[b"GET", key.as_bytes()]), bulk(key.as_bytes()));
    }
    assert!(client.say("INFO persistence").contains("torn_tail_bytes:0"));
    server.stop();
}

#[test]
fn sigterm_drains_what_is_under_way_and_ends_idle_connections() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let idle = server.client();
    let mut busy = server.client();
    let mut writer = busy.writer();
    let acknowledged = std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0_u64.. {
                let key = format!("key:{n}");
                if writer
                    .write_all(&encode(&[b"SET", key.as_bytes(), key.as_bytes()]))
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut acknowledged = 0_u64;
        while let Some(reply) = busy.try_reply() {
            assert_eq!(reply, b"+OK\r\n", "no write fails while the server drains");
            acknowledged += 1;
            if acknowledged == 2000 {
                server.signal("TERM");
            }
        }
        acknowledged
    });
    assert!(acknowledged >= 2000);
    assert_eq!(idle.rest(), b"");
    let (status, said) = server.wait();
    assert!(status.success() && said.ends_with("closed\n"), "{status}: {said}");
    let server = Server::start(&data, &[]);
    let mut client = server.client();
    for n in 0..acknowledged {
        let key = format!("key:{n}");
        assert_eq!(
            client.call(&[b"GET", key.as_bytes()]),
            bulk(key.as_bytes()),
            "{key} of {acknowledged}"
        );
    }
    assert!(client.say("INFO persistence").contains("torn_tail_bytes:0"));
    server.stop();
}

#[test]
fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut deaf = server.client();
    let value = vec![7; 1 << 20];
    assert_eq!(deaf.call(&[b"SET", b"k", &value]), b"+OK\r\n");
    deaf.write(&encode(&[b"GET", b"k"]).repeat(200));
    assert_eq!(server.client().say("PING"), "+PONG\r\n");
    server.stop();
    drop(deaf);
}

#[test]
fn a_server_that_ends_leaves_its_port_to_the_next_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let port = server.address.port().to_string();
    // Closed by the server, so that its end of the connection lingers.
    let client = server.client();
    server.stop();
    assert_eq!(client.rest(), b"");
    let server = Server::start(&data, &["--port", &port]);
    assert_eq!(server.client().say("PING"), "+PONG\r\n");
    server.stop();
}

#[test]
fn shutdown_is_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut client = server.client();
    client.write(&[encode(&[b"SET", b"k", b"v"]), encode(&[b"SHUTDOWN", b"NOSAVE"])].concat());
    assert_eq!(client.rest(), b"+OK\r\n");
    let (status, said) = server.wait();
    assert!(status.success() && said.ends_with("closed\n"), "{status}: {said}");
}

#[test]
fn what_cannot_start_says_why_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--shards", "2"]);
    let port = server.address.port().to_string();
    let other = dir.path().join("other");
    let cases: [(&std::path::Path, &[&str], &str); 4] = [
        (&data, &[], "close the other opener first"),
        (&other, &["--port", &port], "somebody listens there already"),
        (&other, &["--bind", "0.0.0.0"], "without authentication"),
        (&other, &["--cores", "x"], "neither a core's number nor a range"),
    ];
    for (data, flags, why) in cases {
        let output = command(data, flags).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && said.contains(why),
            "{flags:?}: {} {said}",
            output.status
        );
    }
    server.stop();
    let output = command(&data, &["--shards", "5"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("shards"),
        "{said}"
    );
}
