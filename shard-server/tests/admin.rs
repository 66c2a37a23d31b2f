//! The admin plane of the real server, over real sockets: what it agrees on with the data plane, how it starts, is
//! protected, reloads and ends. What each route answers is tested beside the code.

mod common;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Server, command};
use ureq::Agent;

const PATIENCE: Duration = Duration::from_secs(30);

/// Lets others work for a while.
#[expect(clippy::disallowed_methods, reason = "a test on threads")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A client whose answers are answers, whatever their status.
fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

/// A server with its admin plane, and where that is.
fn start(data: &Path, flags: &[&str]) -> (Server, String) {
    let mut command = command(data, &[&["--admin-port", "0"], flags].concat());
    // All clients of these tests are one peer.
    command.env("CORELANE_ADMIN__RATE_PER_S", "0");
    let mut server = Server::spawn(command);
    let address = server.told("admin       ");
    (server, address)
}

fn get(agent: &Agent, url: &str) -> (u16, String) {
    let mut response = agent.get(url).call().expect("an answer");
    let text = response.body_mut().read_to_string().expect("text");
    (response.status().as_u16(), text)
}

#[test]
fn both_planes_see_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let (server, admin) = start(&dir.path().join("data"), &["--shards", "2"]);
    let (agent, mut client) = (agent(), server.client());
    let url = format!("{admin}/api/v1/kv/a%20key");
    let response = agent
        .put(&url)
        .header("x-request-id", "mine")
        .send("over http")
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-request-id"]),
        (201, &"mine".parse().unwrap())
    );
    assert_eq!(client.call(&[b"GET", b"a key"]), b"$9\r\nover http\r\n");
    assert_eq!(client.call(&[b"SET", b"a key", b"over resp"]), b"+OK\r\n");
    assert_eq!(get(&agent, &url), (200, "over resp".to_owned()));
    assert_eq!(agent.delete(&url).call().unwrap().status(), 204);
    assert_eq!(client.call(&[b"GET", b"a key"]), b"$-1\r\n");
    let (status, metrics) = get(&agent, &format!("{admin}/metrics"));
    assert_eq!(status, 200);
    for line in [
        "corelane_connections_total 1",
        "corelane_commands_total{command=\"set\",outcome=\"ok\"} 1",
        "corelane_commands_total{command=\"get\",outcome=\"ok\"} 2",
        "corelane_clients 1",
        "corelane_shard_state{shard=\"1\",state=\"healthy\"} 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} is not in\n{metrics}"
        );
    }
    assert_eq!(
        get(&agent, &format!("{admin}/readyz")),
        (200, "ready\n".to_owned())
    );
    let level = format!("{admin}/api/v1/log-level");
    let set = agent
        .put(&level)
        .header("content-type", "application/json")
        .send(r#"{"level":"debug"}"#)
        .unwrap();
    assert_eq!(set.status(), 200);
    assert_eq!(get(&agent, &level), (200, r#"{"level":"debug"}"#.to_owned()));
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_fatal_only_where_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = dir.path().join("data");
    let output = command(&data, &["--admin-port", &port])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("the admin plane: listening on"),
        "{said}"
    );
    // The default port may be somebody's on this machine, or free: either way the server starts.
    let _perhaps_ours = TcpListener::bind("127.0.0.1:7380");
    let mut without = Command::new(env!("CARGO_BIN_EXE_corelane"));
    without.args(["serve", "--port", "0", "--data-dir"]).arg(&data);
    let server = Server::spawn(without);
    assert_eq!(server.client().say("PING"), "+PONG\r\n");
    server.stop();
}

/// Writers on both planes, and connections that are kept open, do not keep the server from its end.
#[test]
fn sigterm_under_load_ends_in_order_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (server, admin) = start(&data, &[]);
    let ended = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (admin, ended) = (&admin, &ended);
                scope.spawn(move || {
                    let agent = agent();
                    let mut written = Vec::new();
                    for n in 0..1_000_000 {
                        let key = format!("{writer}-{n}");
                        match agent.put(format!("{admin}/api/v1/kv/{key}")).send(&key) {
                            Ok(response) if response.status() == 201 => written.push(key),
                            Ok(response) => assert_eq!(response.status(), 503, "it closes, and says so"),
                            Err(_) if ended.load(Ordering::Acquire) => break,
                            Err(_) => pause(1),
                        }
                    }
                    written
                })
            })
            .collect();
        pause(300);
        server.stop();
        ended.store(true, Ordering::Release);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(!written.is_empty());
    let (server, _) = start(&data, &[]);
    let mut client = server.client();
    for key in written {
        assert_eq!(
            client.call(&[b"EXISTS", key.as_bytes()]),
            b":1\r\n",
            "{key} was acknowledged"
        );
    }
    server.stop();
}

/// What curl gets: the status, and what it said.
fn curl(flags: &[&str], url: &str) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--output",
            "-",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(flags)
        .arg(url)
        .output()
        .expect("curl is installed where these tests run");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let status = String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned();
    (status, said)
}

#[expect(clippy::disallowed_methods, reason = "files of the test")]
fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("a directory of our own");
    path.to_str().expect("its name is text").to_owned()
}

#[test]
fn tls_with_a_certificate_that_sighup_reads_again_and_users_with_roles() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write(&key, &made.signing_key.serialize_pem());
        write(&cert, &made.cert.pem())
    };
    let cert_path = make();
    let hash = corelane_server::auth::hash_secret("right").unwrap();
    let config = write(
        &dir.path().join("c.toml"),
        &format!(
            "[admin]\ntls = true\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[[users]]\nname = \"ops\"\nrole = \"read\"\n\
             secret_hash = {hash:?}\n"
        ),
    );
    let (server, admin) = start(&dir.path().join("data"), &["--config", &config]);
    let port = admin.rsplit(':').next().unwrap();
    assert!(admin.starts_with("https://"));
    let at = |path: &str| format!("https://localhost:{port}{path}");
    let trusted = ["--cacert", &cert_path];
    assert_eq!(curl(&trusted, &at("/livez")).0, "200");
    assert_eq!(curl(&trusted, &at("/api/v1/kv/a")).0, "401");
    let with = |user| [trusted.as_slice(), &["--user", user]].concat();
    assert_eq!(curl(&with("ops:wrong"), &at("/api/v1/kv/a")).0, "401");
    assert_eq!(curl(&with("ops:right"), &at("/api/v1/kv/a")).0, "404");
    let put = [with("ops:right").as_slice(), &["--request", "PUT", "--data", "x"]].concat();
    assert_eq!(curl(&put, &at("/api/v1/kv/a")).0, "403");

    let old = write(
        &dir.path().join("old.pem"),
        &std::fs::read_to_string(&cert).unwrap(),
    );
    make();
    assert_eq!(
        curl(&["--cacert", &old], &at("/livez")).0,
        "200",
        "not before it is told"
    );
    server.signal("HUP");
    let renewed = (0..300).any(|_| {
        pause(20);
        curl(&trusted, &at("/livez")).0 == "200"
    });
    assert!(renewed, "{:?}", curl(&trusted, &at("/livez")));
    assert_ne!(curl(&["--cacert", &old], &at("/livez")).0, "200");
    let new = write(
        &dir.path().join("new.pem"),
        &std::fs::read_to_string(&cert).unwrap(),
    );
    write(&cert, "no certificate");
    server.signal("HUP");
    for _ in 0..10 {
        pause(20);
        assert_eq!(
            curl(&["--cacert", &new], &at("/livez")).0,
            "200",
            "one that cannot be used changes nothing"
        );
    }
    server.stop();
}

#[test]
fn systemd_is_told_when_it_is_ready_that_it_works_and_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut with_manager = command(&dir.path().join("data"), &[]);
    with_manager
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "60000")
        .env_remove("WATCHDOG_PID");
    let server = Server::spawn(with_manager);
    let heard = || {
        let mut message = [0; 256];
        let bytes = manager.recv(&mut message).expect("a word in time");
        String::from_utf8_lossy(&message[..bytes]).trim().to_owned()
    };
    // A sign of life may come first: the watchdog begins before clients are served.
    assert!((0..3).map(|_| heard()).any(|word| word == "READY=1"));
    assert_eq!(heard(), "WATCHDOG=1");
    server.stop();
    let said: Vec<_> = std::iter::from_fn(|| Some(heard()))
        .take_while(|word| word == "WATCHDOG=1" || word == "STOPPING=1")
        .find(|word| word == "STOPPING=1")
        .into_iter()
        .collect();
    assert_eq!(said, ["STOPPING=1"]);
}
