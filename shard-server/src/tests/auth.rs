//! Saying who a client is, and what follows from it.

use std::sync::Arc;

use corelane::io::Stream as _;

use super::limits::{Core, Open};
use crate::auth::{Auth, delay, hash_secret};
use crate::config::{Limits, Role, User};
use crate::server::Server;
use crate::store::Store as _;
use crate::testing::{MemoryStore, Script, server, talk_to};

/// A server with a user of each role.
pub(super) fn with_users(limits: Limits) -> Server {
    let user = |name: &str, role, secret: &str| User {
        name: name.to_owned(),
        role,
        secret_hash: hash_secret(secret).unwrap(),
    };
    let users = vec![
        user("default", Role::Read, "readers"),
        user("ada", Role::Write, "one"),
        user("root", Role::Admin, "two"),
    ];
    server().with_limits(limits).with_auth(Auth::new(&users).unwrap())
}

/// Says lines, and waits until as many answers of one line each were heard.
async fn say(core: &Core, socket: &Open, lines: &[&str]) -> String {
    let mut heard = String::new();
    socket.say(
        lines
            .iter()
            .map(|line| format!("{line}\r\n"))
            .collect::<String>()
            .as_bytes(),
    );
    while heard.lines().count() < lines.len() {
        core.rest().await;
        // Secrets are checked on threads of the real world, which the simulated one does not wait for.
        std::thread::yield_now();
        heard += &socket.heard();
    }
    heard
}

const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

#[test]
fn nothing_but_saying_who_it_is_works_before_it() {
    Core::run(with_users(Limits::default()), async |core| {
        let (socket, client) = core.client();
        let lines = [
            "PING",
            "GET a",
            "SET a 1",
            "CLIENT ID",
            "COMMAND COUNT",
            "INFO",
            "FOO",
            "GET",
        ];
        let heard = say(core, &socket, &lines).await;
        assert_eq!(
            heard,
            NO_AUTH.repeat(6)
                + "-ERR unknown command 'FOO', with args beginning with: \r\n\
                   -ERR wrong number of arguments for 'get' command\r\n"
        );
        let heard = say(core, &socket, &["HELLO 3", "RESET", "AUTH a b c"]).await;
        assert!(heard.starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
        assert!(heard.ends_with("+RESET\r\n-ERR syntax error\r\n"), "{heard}");
        assert!(!client.is_authenticated());
    });
}

#[test]
fn a_secret_opens_what_its_role_may_do_from_there_on() {
    Core::run(with_users(Limits::default()), async |core| {
        let (socket, client) = core.client();
        let lines = [
            "AUTH nope",
            "AUTH ada two",
            "GET a",
            "AUTH ada one",
            "SET a 1",
            "CONFIG GET port",
            "CLIENT KILL ID 5",
        ];
        let heard = say(core, &socket, &lines).await;
        assert_eq!(
            heard,
            [
                WRONG,
                WRONG,
                NO_AUTH,
                "+OK\r\n+OK\r\n",
                "-NOPERM this user has no permissions to run the 'config|get' command\r\n",
                "-NOPERM this user has no permissions to run the 'client|kill' command\r\n",
            ]
            .concat()
        );
        assert_eq!(client.names().user, "ada");
        let heard = say(
            core,
            &socket,
            &["AUTH readers", "SET a 2", "AUTH root two", "CLIENT KILL ID 5"],
        )
        .await;
        assert!(
            heard.starts_with("+OK\r\n-NOPERM this user has no permissions to run the 'set' command\r\n")
        );
        assert!(heard.ends_with("+OK\r\n:0\r\n"), "{heard}");
        let heard = say(core, &socket, &["RESET", "GET a"]).await;
        assert_eq!(heard, format!("+RESET\r\n{NO_AUTH}"));
    });
}

#[test]
fn hello_says_who_it_is_and_changes_nothing_where_that_is_wrong() {
    Core::run(with_users(Limits::default()), async |core| {
        let (socket, client) = core.client();
        let heard = say(
            core,
            &socket,
            &["HELLO 3 AUTH ada two SETNAME me", "HELLO 3 AUTH ada"],
        )
        .await;
        assert_eq!(
            heard,
            format!("{WRONG}-ERR Syntax error in HELLO option 'AUTH'\r\n")
        );
        assert_eq!(client.names().name, b"");
        let heard = say(
            core,
            &socket,
            &["HELLO 3 SETNAME me AUTH ada one", "CLIENT GETNAME", "GET a"],
        )
        .await;
        assert!(
            heard.starts_with("%7\r\n") && heard.ends_with("$2\r\nme\r\n_\r\n"),
            "{heard}"
        );
    });
}

#[test]
fn long_commands_wait_for_the_secret_and_the_widest_for_their_kind() {
    let limits = Limits {
        arguments: 12,
        ..Limits::default()
    };
    Core::run(with_users(limits), async |core| {
        let many = |name: &str, n| format!("{name}{}", " x".repeat(n));
        let (socket, _) = core.client();
        let array = |n: usize| format!("*{n}\r\n{}", "$1\r\nx\r\n".repeat(n)).into_bytes();
        socket.say(&array(11));
        core.rest().await;
        assert_eq!(
            socket.heard(),
            "-ERR Protocol error: unauthenticated multibulk length\r\n"
        );
        let (socket, _) = core.client();
        let lines = ["AUTH root two", &many("EXISTS", 20), &many("CLIENT LIST ID", 20)];
        assert_eq!(
            say(core, &socket, &lines).await,
            "+OK\r\n:0\r\n-ERR too many arguments for 'client' command; the limit is 12\r\n"
        );
    });
}

/// `RESET` made a client unknown since it had come: one that had been there for longer than `limits.unknown_ms`, or had
/// sent more than `limits.unknown_input_bytes`, as pooled connections have, was ended before it could say who it is.
#[test]
fn who_resets_has_as_long_as_one_that_has_just_come() {
    let limits = Limits {
        unknown_ms: 1000,
        unknown_input_bytes: 100,
        ..Limits::default()
    };
    Core::run(with_users(limits), async |core| {
        let (socket, client) = core.client();
        let long = format!("SET a {}", "x".repeat(200));
        assert_eq!(say(core, &socket, &["AUTH ada one"]).await, "+OK\r\n");
        assert_eq!(say(core, &socket, &[&long]).await, "+OK\r\n");
        core.sweep(5000).await;
        assert_eq!(say(core, &socket, &["RESET"]).await, "+RESET\r\n");
        core.sweep(6000).await;
        let heard = say(core, &socket, &["AUTH ada one", "RESET"]).await;
        assert_eq!(heard, "+OK\r\n+RESET\r\n");
        core.sweep(7001).await;
        assert_eq!(client.doomed(), Some(crate::clients::Reason::Unknown));
    });
}

/// Failures were counted by connection: whoever guessed and came anew each time waited the shortest time for ever.
#[test]
fn whoever_comes_anew_waits_as_long_as_one_that_stayed() {
    let (store, server) = (MemoryStore::default(), Arc::new(with_users(Limits::default())));
    for failures in 1..=4 {
        let before = store.now();
        let script = Script::new([b"AUTH nope\r\n".to_vec()]);
        talk_to(&server, &store, script.clone());
        assert_eq!(script.answers(), WRONG.as_bytes());
        assert_eq!(
            store.now().saturating_sub(before),
            delay(failures),
            "after {failures}"
        );
    }
    let script = Script::new([b"AUTH readers\r\n".to_vec()]);
    talk_to(&server, &store, script.clone());
    assert_eq!(script.answers(), b"+OK\r\n", "and is let in when it is right");
}

/// "Too many authentications" came at once: whoever flooded the server with guesses could go on as fast as it heard so.
#[test]
fn who_hears_that_nobody_looked_waits_as_long_as_who_was_wrong() {
    let users = vec![User {
        name: "ada".to_owned(),
        role: Role::Write,
        secret_hash: hash_secret("one").unwrap(),
    }];
    let (store, server) = (
        MemoryStore::default(),
        Arc::new(server().with_auth(Auth::busy(&users))),
    );
    for failures in 0..4 {
        let before = store.now();
        let script = Script::new([b"AUTH ada one\r\n".to_vec()]);
        talk_to(&server, &store, script.clone());
        let heard = script.answers();
        assert!(heard.starts_with(b"-ERR too many authentications"), "{heard:?}");
        // What nobody looked at was not wrong, and makes nobody wait longer; what is wrong does.
        let waited = store.now().saturating_sub(before);
        assert_eq!(waited, delay(failures), "after {failures}");
        server.failed_auth(script.peer_addr().unwrap().ip());
    }
}
