//! One port a core: the real server, a cluster client of another library, and what raw bytes see.

mod common;

use common::{Client, Server, bulk, command, encode, free_port};
use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};

/// Starts the server with a port for each core; returns the first of them, too.
fn start(dir: &std::path::Path, flags: &[&str], cores: u16) -> (Server, u16) {
    let first = free_port(cores);
    let mut command = command(&dir.join("data"), flags);
    command
        .env("CORELANE_CLUSTER__ENABLED", "true")
        .env("CORELANE_CLUSTER__FIRST_PORT", first.to_string())
        .env("CORELANE_ADMIN__ENABLED", "false");
    (Server::spawn(command), first)
}

fn with_cluster(flags: &[&str], cores: u16, test: impl FnOnce(&Server, u16)) {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let (server, first) = start(dir.path(), flags, cores);
    test(&server, first);
    server.stop();
}

fn node(first: u16, core: u16) -> Client {
    Client::connect(([127, 0, 0, 1], first + core).into())
}

fn cluster_client(port: u16) -> ClusterConnection {
    let client = ClusterClient::new([format!("redis://127.0.0.1:{port}")]).expect("an address");
    client.get_connection().expect("the cluster answers")
}

/// Keys of both halves of the slots, written and read by a cluster client, one by one and in pipelines.
fn converse(server: &Server, seed: u16) {
    let mut cluster = cluster_client(seed);
    for n in 0..200 {
        let key = format!("key:{n}");
        let () = redis::cmd("SET")
            .arg(&key)
            .arg(n)
            .query(&mut cluster)
            .expect("the cluster answers");
    }
    let mut pipe = cluster_pipe();
    for n in 0..200 {
        pipe.cmd("INCRBY").arg(format!("key:{n}")).arg(1000).ignore();
        pipe.cmd("GET").arg(format!("key:{n}"));
    }
    let found: Vec<u32> = pipe.query(&mut cluster).expect("the cluster answers");
    assert_eq!(found, (1000..1200).collect::<Vec<_>>());
    let keys: Vec<String> = (0..200).map(|n| format!("key:{n}")).collect();
    let found: Vec<u32> = redis::cmd("MGET")
        .arg(&keys)
        .query(&mut cluster)
        .expect("the cluster answers");
    assert_eq!(
        found,
        (1000..1200).collect::<Vec<_>>(),
        "split by slot and put together"
    );
    // The common port serves every key.
    let mut client = server.client();
    for n in 0..200 {
        let key = format!("key:{n}");
        assert_eq!(
            client.call(&[b"GET", key.as_bytes()]),
            bulk((1000 + n).to_string().as_bytes())
        );
    }
}

#[test]
fn a_cluster_client_finds_every_key_on_two_cores() {
    with_cluster(&["--cores", "0-1", "--shards", "2"], 2, |server, first| {
        converse(server, first);
        converse(server, first + 1);
        converse(server, server.address.port());
    });
}

#[test]
fn one_core_of_two_shards_is_one_node_with_all_slots() {
    with_cluster(&["--cores", "0", "--shards", "2"], 1, |server, first| {
        converse(server, first);
        let mut client = node(first, 0);
        let slots = client.say("CLUSTER SLOTS");
        assert!(
            slots.starts_with(&format!(
                "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$9\r\n127.0.0.1\r\n:{first}\r\n$40\r\n"
            )),
            "{slots}"
        );
        assert_eq!(client.say("SET foo 1"), "+OK\r\n");
        assert_eq!(client.say("SET bar 1"), "+OK\r\n");
    });
}

#[test]
fn a_core_says_where_keys_of_another_are_and_serves_its_own() {
    with_cluster(&["--cores", "0-1", "--shards", "2"], 2, |server, first| {
        let (mut low, mut high) = (node(first, 0), node(first, 1));
        // bar is of slot 5061, the lower half; foo of 12182, the upper one.
        assert_eq!(low.say("SET bar 1"), "+OK\r\n");
        assert_eq!(high.say("SET foo 2"), "+OK\r\n");
        assert_eq!(
            low.say("GET foo"),
            format!("-MOVED 12182 127.0.0.1:{}\r\n", first + 1)
        );
        assert_eq!(
            high.say("SET bar 3"),
            format!("-MOVED 5061 127.0.0.1:{first}\r\n")
        );
        low.write(
            &[
                encode(&[b"GET", b"bar"]),
                encode(&[b"GET", b"foo"]),
                encode(&[b"PING"]),
            ]
            .concat(),
        );
        let heard: Vec<_> = (0..3).map(|_| String::from_utf8(low.reply()).unwrap()).collect();
        assert_eq!(heard[0], "$1\r\n1\r\n");
        assert!(heard[1].starts_with("-MOVED 12182 ") && heard[2] == "+PONG\r\n");
        let crossed = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        assert_eq!(low.say("MGET bar foo"), crossed);
        assert_eq!(high.say("MSET {foo}1 a {foo}2 b"), "+OK\r\n");
        assert_eq!(high.say("DEL {foo}1 {foo}2"), ":2\r\n");
        assert_eq!(
            low.say("SELECT 1"),
            "-ERR SELECT is not allowed in cluster mode\r\n"
        );
        assert_eq!(
            server.client().say("MGET bar foo"),
            "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"
        );
        // Whoever kills need not be on the core of whom they kill.
        let mut victim = node(first, 1);
        let id = victim.say("CLIENT ID");
        let killed = low.say(&format!("CLIENT KILL ID {}", id[1..].trim()));
        assert_eq!((killed.as_str(), victim.rest()), (":1\r\n", Vec::new()));
    });
}

#[test]
fn each_core_tells_which_slots_are_whose_and_lets_nobody_change_that() {
    with_cluster(&["--cores", "0-1", "--shards", "2"], 2, |_, first| {
        let (mut low, mut high) = (node(first, 0), node(first, 1));
        assert_ne!(low.say("CLUSTER MYID"), high.say("CLUSTER MYID"));
        assert!(
            low.say("CLUSTER NODES")
                .contains(&format!(":{first}@0 myself,master - 0 0 1 connected 0-8191\n"))
        );
        assert!(
            high.say("CLUSTER INFO")
                .contains("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n")
        );
        assert!(
            high.say("CLUSTER SHARDS")
                .contains("$5\r\nslots\r\n*2\r\n:8192\r\n:16383\r\n")
        );
        assert_eq!(low.say("CLUSTER KEYSLOT foo"), ":12182\r\n");
        for said in ["READONLY", "READWRITE", "ASKING"] {
            assert_eq!(low.say(said), "+OK\r\n", "{said}");
        }
        for said in [
            "CLUSTER RESET",
            "CLUSTER MEET 127.0.0.1 1",
            "CLUSTER COUNTKEYSINSLOT 1",
        ] {
            let heard = low.say(said);
            assert!(
                heard.starts_with("-ERR CLUSTER ") && heard.contains("not supported"),
                "{heard}"
            );
        }
        assert_eq!(
            low.say("CLUSTER NOPE"),
            "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP.\r\n"
        );
    });
}

#[test]
fn without_it_there_is_no_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--no-admin"]);
    let mut client = server.client();
    for said in ["CLUSTER SLOTS", "CLUSTER INFO", "READONLY", "ASKING"] {
        assert_eq!(
            client.say(said),
            "-ERR This instance has cluster support disabled\r\n",
            "{said}"
        );
    }
    server.stop();
}

#[test]
fn a_drain_ends_the_clients_of_every_port_with_their_writes_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (server, first) = start(dir.path(), &["--cores", "0-1", "--shards", "2"], 2);
    let mut high = node(first, 1);
    let idle = node(first, 0);
    assert_eq!(high.say("SET foo kept"), "+OK\r\n");
    server.stop();
    assert_eq!((high.rest(), idle.rest()), (Vec::new(), Vec::new()));
    let server = Server::start(&dir.path().join("data"), &["--no-admin"]);
    assert_eq!(server.client().say("GET foo"), "$4\r\nkept\r\n");
    server.stop();
}
