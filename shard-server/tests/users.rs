//! Users on the real server: secrets are checked while others are served, and a bare server stays on its machine.

mod common;

use std::path::Path;

use common::{Server, command, encode};
use corelane_server::auth::hash_secret;

#[expect(clippy::disallowed_methods, reason = "the operator's own file, in a test")]
fn configuration(dir: &Path) -> String {
    let path = dir.join("corelane.toml");
    let (one, two) = (
        hash_secret("one").expect("the test made what it takes"),
        hash_secret("two").expect("the test made what it takes"),
    );
    let text = format!(
        "[admin]\nenabled = false\n[[users]]\nname = \"default\"\nrole = \"read\"\nsecret_hash = \"{one}\"\n\
         [[users]]\nname = \"root\"\nrole = \"admin\"\nsecret_hash = \"{two}\"\n"
    );
    std::fs::write(&path, text).expect("the test made what it takes");
    path.to_string_lossy().into_owned()
}

#[test]
fn secrets_open_the_server_and_guessing_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path());
    // An address beyond loopback is fine once there are users.
    let flags = ["--config", &config, "--bind", "0.0.0.0", "--cores", "0"];
    let server = Server::start(&dir.path().join("data"), &flags);
    let mut root = common::Client::connect(([127, 0, 0, 1], server.address.port()).into());
    assert_eq!(root.say("SET a 1"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(root.say("AUTH root two"), "+OK\r\n");
    let mut guessers: Vec<_> = (0..8)
        .map(|_| common::Client::connect(([127, 0, 0, 1], server.address.port()).into()))
        .collect();
    for guesser in &mut guessers {
        guesser.write(&encode(&[b"AUTH", b"root", b"guess"]).repeat(2));
    }
    for n in 0..200 {
        assert_eq!(root.say(&format!("SET a {n}")), "+OK\r\n");
    }
    let list = root.say("CLIENT LIST");
    assert!(
        list.contains("user=root") && list.matches("id=").count() == 9,
        "{list}"
    );
    for mut guesser in guessers {
        let refused = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        assert_eq!(
            (guesser.reply(), guesser.reply()),
            (refused.to_vec(), refused.to_vec())
        );
    }
    let mut reader = common::Client::connect(([127, 0, 0, 1], server.address.port()).into());
    assert!(reader.say("HELLO 3 AUTH default one").starts_with("%7\r\n"));
    assert_eq!(reader.say("GET a"), "$3\r\n199\r\n");
    assert_eq!(
        reader.say("SET a 2"),
        "-NOPERM this user has no permissions to run the 'set' command\r\n"
    );
    // A kill reaches the clients of every core.
    assert_eq!(root.say("CLIENT KILL USER default"), ":1\r\n");
    assert_eq!(reader.rest(), b"");
    server.stop();
}

#[test]
fn without_users_an_address_beyond_this_machine_is_refused_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--bind", "0.0.0.0", "--no-admin"];
    let output = command(&dir.path().join("data"), &flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("protected_mode"),
        "{said}"
    );
    let mut open = command(&dir.path().join("data"), &flags);
    open.env("CORELANE_SERVER__PROTECTED_MODE", "false");
    Server::spawn(open).stop();
}
