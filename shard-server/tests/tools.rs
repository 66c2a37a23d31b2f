//! The tools of the binary, run as an operator runs them: the console against a server and beside the real `redis-cli`,
//! the doctor on this machine, the rest by what they print.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use common::{Server, reply_bytes};

fn corelane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).env_remove("REDISCLI_AUTH");
    command
}

/// The console on a server, without what this shell may know.
fn cli(server: SocketAddr, arguments: &[&str]) -> Command {
    let port = server.port().to_string();
    let mut command = corelane(&["cli", "-h", "127.0.0.1", "-p", &port]);
    command.args(arguments);
    command
}

/// Runs a command with this on its standard input.
fn fed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is there");
    // A child that ends early reads no more, which is its right.
    let _gone = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    child.wait_with_output().expect("it is ours")
}

fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// Whether the real `redis-cli` is here to be compared with; where it must be, it is an error if it is not.
fn redis_cli() -> bool {
    let here = Command::new("redis-cli").arg("--version").output().is_ok();
    assert!(
        here || std::env::var_os("CORELANE_REQUIRE_REDIS").is_none(),
        "redis-cli is not installed: apt-get install redis-tools"
    );
    if !here {
        eprintln!("skipped: redis-cli is not installed");
    }
    here
}

/// A server that answers everything with these bytes, for as long as the test runs.
fn scripted(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket of this test")]
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve_script(stream, &answer);
        }
    });
    address
}

fn serve_script(mut stream: TcpStream, answer: &[u8]) {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(bytes) = stream.read(&mut chunk) {
        received.extend_from_slice(&chunk[..bytes]);
        while let Some(bytes) = (!received.is_empty()).then(|| reply_bytes(&received)).flatten() {
            received.drain(..bytes);
            if stream.write_all(answer).is_err() {
                return;
            }
        }
        if bytes == 0 {
            return;
        }
    }
}

/// Answers of every type, empty, nested, with bytes that need quoting.
const ANSWERS: &[&[u8]] = &[
    b"+OK\r\n",
    b"-ERR no such thing\r\n",
    b":42\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"_\r\n",
    b"$0\r\n\r\n",
    b"$12\r\na\"b\\\r\n\t\x00\xff\x07\x08~\r\n",
    b"*0\r\n",
    b"*3\r\n$1\r\na\r\n$-1\r\n:3\r\n",
    b"*11\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n*2\r\n+a\r\n*1\r\n+b\r\n-ERR in the middle\r\n",
    b"*2\r\n*2\r\n*2\r\n+a\r\n+b\r\n*0\r\n*1\r\n*1\r\n+c\r\n",
    b"#t\r\n",
    b"#f\r\n",
    b",3.5\r\n",
    b",10\r\n",
    b",inf\r\n",
    b"%0\r\n",
    b"~0\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n$1\r\nc\r\n*2\r\n:1\r\n:2\r\n",
    b"~2\r\n+a\r\n~1\r\n+b\r\n",
    b"*1\r\n%2\r\n$1\r\nk\r\n*2\r\n+x\r\n+y\r\n$1\r\nl\r\n#t\r\n",
    b"=15\r\ntxt:Some \"text\"\r\n",
];

#[test]
fn replies_are_shown_as_the_real_redis_cli_shows_them() {
    if !redis_cli() {
        return;
    }
    for answer in ANSWERS {
        let server = scripted(answer.to_vec());
        let port = server.port().to_string();
        for format in ["--no-raw", "--raw"] {
            let theirs = Command::new("redis-cli")
                .args(["-p", &port, format, "ANY"])
                .output()
                .unwrap();
            let ours = cli(server, &[format, "ANY"]).output().unwrap();
            assert_eq!(
                ours.stdout.escape_ascii().to_string(),
                theirs.stdout.escape_ascii().to_string(),
                "{format} {}",
                answer.escape_ascii()
            );
        }
    }
}

#[test]
fn lines_from_a_pipe_are_read_as_the_real_redis_cli_reads_them() {
    if !redis_cli() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--shards", "1"]);
    let port = server.address.port().to_string();
    let script: &[u8] = b"SET 'a b' \"x\\x41\\n\"\nGET 'a b'\n\n  PING  \nGET \"unbalanced\n3 PING hello\nECHO ''\nMGET 'a b' nothing\nnonsense\nDEL 'a b'\nquit\nPING never\n";
    for format in ["--no-raw", "--raw"] {
        let mut theirs = Command::new("redis-cli");
        theirs.args(["-p", &port, format]);
        let theirs = fed(theirs, script);
        let ours = fed(cli(server.address, &[format]), script);
        let (ours, theirs) = (said(&ours), said(&theirs));
        // They complain of a quote on standard output, among the answers.
        assert_eq!(ours.0, theirs.0.replace("Invalid argument(s)\n", ""), "{format}");
        assert!(ours.1.contains("Invalid argument(s)"), "{}", ours.1);
        assert_eq!(ours.2, Some(0));
    }
    server.stop();
}

#[test]
fn one_command_is_run_and_its_status_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let run = |arguments: &[&str]| said(&cli(server.address, arguments).output().unwrap());
    assert_eq!(run(&["SET", "k", "-v"]).0, "OK\n");
    assert_eq!(run(&["--no-raw", "GET", "k"]).0, "\"-v\"\n");
    assert_eq!(run(&["--json", "MGET", "k", "nothing"]).0, "[\"-v\",null]\n");
    assert!(run(&["--table", "KV.SCAN", "-", "+"]).0.contains("│ k   ┆ -v"));
    let failed = run(&["-e", "INCR", "k"]);
    assert_eq!(
        (failed.0.as_str(), failed.2),
        ("ERR value is not an integer or out of range\n\n", Some(1))
    );
    assert_eq!(run(&["INCR", "k"]).2, Some(0));
    let stored = fed(cli(server.address, &["-x", "SET", "bytes"]), b"\x00\xff\n");
    assert_eq!(stored.stdout, b"OK\n");
    assert_eq!(run(&["--no-raw", "GET", "bytes"]).0, "\"\\x00\\xff\\n\"\n");
    let mut client = server.client();
    assert_eq!(client.call(&[b"GET", b"bytes"]), b"$3\r\n\x00\xff\n\r\n");
    let address = server.address;
    server.stop();
    let gone = said(&cli(address, &["PING"]).output().unwrap());
    assert!(
        gone.2 == Some(1) && gone.1.contains("Could not connect"),
        "{gone:?}"
    );
}

#[test]
fn a_file_is_run_up_to_its_first_failure_or_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# a comment\nSET a x\n\nINCR a\nSET b 1\n")
        .unwrap();
    let path = file.path().to_str().unwrap();
    let stopped = said(&cli(server.address, &["--eval", path]).output().unwrap());
    assert_eq!(stopped.2, Some(1));
    assert!(stopped.1.contains("line 4"), "{}", stopped.1);
    assert_eq!(server.client().say("EXISTS b"), ":0\r\n");
    let kept = said(
        &cli(server.address, &["--eval", path, "--keep-going"])
            .output()
            .unwrap(),
    );
    assert_eq!(kept.2, Some(1));
    assert_eq!(server.client().say("GET b"), "$1\r\n1\r\n");
    let absent = said(
        &cli(server.address, &["--eval", "/nowhere/script"])
            .output()
            .unwrap(),
    );
    assert!(
        absent.2 == Some(1) && absent.1.contains("/nowhere/script"),
        "{absent:?}"
    );
    server.stop();
}

#[test]
fn the_console_goes_on_with_a_server_that_came_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let address = server.address;
    let mut child = cli(address, &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut next = |bytes: usize| {
        let mut got = vec![0; bytes];
        output.read_exact(&mut got).unwrap();
        String::from_utf8(got).unwrap()
    };
    input.write_all(b"SET a 1\n").unwrap();
    assert_eq!(next(3), "OK\n");
    server.stop();
    let port = address.port().to_string();
    let again = Server::start(dir.path(), &["--port", &port]);
    input.write_all(b"GET a\n").unwrap();
    assert_eq!(next(2), "1\n");
    drop(input);
    assert!(child.wait().unwrap().success());
    again.stop();
}

#[test]
fn the_doctor_ends_with_a_report_and_a_status_that_agrees_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let report = said(&corelane(&["doctor", "--data-dir", data]).output().unwrap());
    for part in [
        "kernel",
        "io_uring",
        "filesystem",
        "write cache",
        "free space",
        " failures\n",
    ] {
        assert!(report.0.contains(part), "{part:?} in\n{}", report.0);
    }
    let json = said(
        &corelane(&["doctor", "--json", "--data-dir", data])
            .output()
            .unwrap(),
    );
    let findings: serde_json::Value = serde_json::from_str(&json.0).unwrap();
    let verdicts = findings.as_array().unwrap().iter().map(|finding| {
        let told = |field: &str| finding[field].as_str().unwrap();
        assert_eq!(told("verdict") == "ok", told("mend").is_empty(), "{finding}");
        ["ok", "warn", "fail"]
            .iter()
            .position(|verdict| *verdict == told("verdict"))
            .unwrap()
    });
    assert_eq!(json.2, verdicts.max().and_then(|worst| i32::try_from(worst).ok()));
    assert_eq!(json.2, report.2);
    assert!(!std::path::Path::new(data).exists(), "it looks and makes nothing");
    let wrong = said(&corelane(&["doctor", "--cores", "x"]).output().unwrap());
    assert!(wrong.2 == Some(2) && wrong.1.contains("cores"), "{wrong:?}");
}

#[test]
fn stats_tell_what_a_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let port = server.address.port().to_string();
    let mut client = server.client();
    for number in 0..100 {
        client.say(&format!("SET key:{number} value"));
    }
    let table = said(&corelane(&["stats", "-p", &port]).output().unwrap());
    assert!(table.2 == Some(0) && table.0.contains("commands/s"), "{table:?}");
    let lines = corelane(&["stats", "-p", &port, "--watch", "--count", "2", "--json"])
        .output()
        .unwrap();
    let lines = said(&lines).0;
    let looks: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(looks.len(), 2);
    assert!(looks[0]["commands_per_s"].as_f64().is_some() && looks[0]["wal_writes_per_s"].as_f64().is_some());
    server.stop();
    let gone = said(&corelane(&["stats", "-p", &port]).output().unwrap());
    assert!(
        gone.2 == Some(1) && gone.1.contains("Could not connect"),
        "{gone:?}"
    );
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let text = said(&corelane(&["completions", shell]).output().unwrap());
        assert!(text.2 == Some(0) && text.0.contains("doctor"), "{shell}");
    }
    let page = said(&corelane(&["man"]).output().unwrap());
    assert!(
        page.2 == Some(0) && page.0.contains(".SH SUBCOMMANDS"),
        "{}",
        page.0
    );
}

#[test]
fn a_secret_is_hashed_and_the_hash_lets_its_user_in_and_no_other() {
    let hash = |secret: &[u8]| said(&fed(corelane(&["user", "hash"]), secret));
    let (first, second) = (hash(b"open sesame\n"), hash(b"open sesame"));
    assert!(
        first.0.starts_with("$argon2id$v=19$") && first.0.ends_with('\n'),
        "{first:?}"
    );
    assert_ne!(first.0, second.0, "each under a salt of its own");
    assert!(!first.0.contains("sesame"));
    let mut checker = corelane_server::auth::hash::Checker::default();
    for hash in [&first.0, &second.0] {
        assert!(checker.is_right(hash.trim(), b"open sesame"));
        assert!(!checker.is_right(hash.trim(), b"open sesame\n"));
    }
    let empty = hash(b"\n");
    assert!(empty.2 == Some(1) && empty.1.contains("empty"), "{empty:?}");
}

/// A failure that could not be told ended in a panic, with a status of its own.
#[test]
fn a_failure_that_nobody_hears_of_keeps_its_status() {
    for (arguments, wanted) in [
        (&["config", "check", "/nowhere.toml"][..], 1),
        (&["serve", "--config", "/nowhere.toml"], 1),
        (&["doctor", "--config", "/nowhere.toml"], 2),
    ] {
        let (reader, nobody_reads) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = corelane(arguments).stderr(nobody_reads).status();
        assert_eq!(status.expect("it runs").code(), Some(wanted), "{arguments:?}");
    }
}

/// `corelane doctor | head -1` left a core file: a tool that printed to a reader who had gone panicked, and the process ended
/// with its first panic. Whoever does not read on is no failure of ours.
#[test]
fn a_reader_that_has_gone_ends_no_tool_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let port = server.address.port().to_string();
    let missing = ["doctor", "--data-dir", "/nowhere/data"];
    for (arguments, fails) in [
        (&["completions", "bash"][..], false),
        (&["man"], false),
        (&["config", "default"], false),
        (&["config", "show"], false),
        (&["stats", "-p", &port], false),
        (&["cli", "-p", &port, "INFO"], false),
        (&["user", "hash"], false),
        // Its status is that of what it found.
        (&missing, true),
    ] {
        let (reader, nobody_reads) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut child = corelane(arguments)
            .stdin(Stdio::piped())
            .stdout(nobody_reads)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is there");
        // Those who ask nothing do not read it.
        let _not_asked = child.stdin.take().map(|mut stdin| stdin.write_all(b"secret\n"));
        let (_, told, status) = said(&child.wait_with_output().expect("it is ours"));
        assert_eq!(told, "", "{arguments:?}");
        assert!(
            status == Some(0) || (fails && status.is_some()),
            "{arguments:?}: {status:?}"
        );
    }
}
