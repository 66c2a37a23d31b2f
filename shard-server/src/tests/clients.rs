//! `CLIENT` over several clients of one core.

use super::auth::with_users;
use super::limits::Core;
use crate::clients::Reason;
use crate::config::Limits;
use crate::testing::server;

#[test]
fn a_list_has_a_line_for_each_and_the_asker_is_at_its_list() {
    Core::run(server(), async |core| {
        let ((one, _), (other, _)) = (core.client(), core.client());
        other.say(b"CLIENT SETNAME other\r\nGET a\r\n");
        core.rest().await;
        one.say(b"CLIENT LIST\r\n");
        core.rest().await;
        let heard = one.heard();
        let lines: Vec<&str> = heard.lines().filter(|line| line.starts_with("id=")).collect();
        assert_eq!(lines.len(), 2, "{heard}");
        assert!(lines[0].starts_with("id=1 ") && lines[0].contains(" cmd=client|list "));
        assert!(lines[1].contains(" name=other ") && lines[1].contains(" cmd=get "));
        one.say(b"CLIENT LIST ID 9 2\r\nCLIENT LIST TYPE pubsub\r\nHELLO 3\r\nCLIENT INFO\r\n");
        core.rest().await;
        let heard = one.heard();
        assert_eq!(heard.matches("id=2 ").count(), 1, "{heard}");
        assert!(heard.contains("\r\n$0\r\n\r\n%7\r\n"), "{heard}");
        assert!(
            heard.contains("\r\ntxt:id=1 ") && heard.contains(" resp=3 "),
            "{heard}"
        );
    });
}

#[test]
fn a_killed_client_goes_at_the_next_sweep_and_whoever_kills_itself_gets_its_answer() {
    Core::run(server(), async |core| {
        let ((one, me), (other, victim)) = (core.client(), core.client());
        one.say(b"CLIENT KILL ID 2\r\nCLIENT KILL ID 1\r\nCLIENT KILL 9.9.9.9:9\r\n");
        core.rest().await;
        assert_eq!(one.heard(), ":1\r\n:0\r\n-ERR No such client\r\n");
        core.sweep(0).await;
        assert_eq!(victim.doomed(), Some(Reason::Killed));
        assert_eq!((other.heard(), core.server.clients()), (String::new(), 1));
        one.say(b"CLIENT KILL ID 1 SKIPME no\r\nPING\r\n");
        core.rest().await;
        assert_eq!((one.heard().as_str(), me.doomed()), (":1\r\n", None));
        assert_eq!(core.server.clients(), 0);
    });
}

#[test]
fn reset_makes_a_connection_as_new() {
    Core::run(server(), async |core| {
        let (one, client) = core.client();
        one.say(b"HELLO 3 SETNAME me\r\nCLIENT NO-EVICT ON\r\nGET a\r\nRESET\r\nGET a\r\nCLIENT GETNAME\r\n");
        core.rest().await;
        let heard = one.heard();
        assert!(heard.ends_with("+OK\r\n_\r\n+RESET\r\n$-1\r\n$-1\r\n"), "{heard}");
        assert!(!client.no_evict());
    });
}

/// What the pace of new connections goes by: a storm of connections that are of no use to anybody is slowed, and clients
/// that are served never are.
#[test]
fn a_client_was_served_that_ran_a_command_as_somebody_known() {
    let was_served = |server: fn() -> crate::server::Server, says: &'static [u8]| {
        let served = std::cell::Cell::new(None);
        Core::run(server(), async |core| {
            let (socket, client) = core.client();
            socket.say(says);
            core.rest().await;
            served.set(Some(client.was_served()));
        });
        served.get().expect("it ran")
    };
    let known = || with_users(Limits::default());
    assert!(was_served(server, b"PING\r\n") && was_served(server, b"PING\r\n*1048577\r\n"));
    for futile in [&b""[..], b"*1048577\r\n", b"*2\r\n$3\r\nGET\r\n"] {
        assert!(!was_served(server, futile), "{}", futile.escape_ascii());
    }
    assert!(!was_served(known, b"PING\r\n"));
}
