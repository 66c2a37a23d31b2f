//! `CLIENT`: names of this connection, and the register of all of them.

use super::table::{STALE, spec};
use super::{Action, Call, Failure, Keys, Spec, takes};
use crate::clients::filter::{Kill, Kind, List};
use crate::clients::line::line;
use crate::clients::{Client, Reason};
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "client",
    -2,
    STALE,
    Keys::NONE,
    "connection",
    "Names this connection; lists and ends connections.",
    client,
)];

/// Longest name of a client or its library, in bytes: it is shown on one line.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// What `CLIENT HELP` answers.
const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    The name of this connection.",
    "ID",
    "    The number of this connection.",
    "INFO",
    "    This connection's line of CLIENT LIST.",
    "KILL <ip:port>",
    "    Ends the connection from that address.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Ends all connections that fit every option: ADDR <ip:port>, LADDR <ip:port>, ID <id>,",
    "    TYPE (NORMAL|MASTER|REPLICA|PUBSUB), USER <name>; SKIPME (YES|NO) spares this one (default: yes).",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [...]]",
    "    One line for each connection.",
    "NO-EVICT (ON|OFF)",
    "    Spares this connection when all connections together hold too much memory.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted; reads leave no trace here in any case.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Says which library this client uses.",
    "SETNAME <name>",
    "    Names this connection.",
    "HELP",
    "    Prints this help.",
];

type Subcommand = fn(&mut Call<'_>) -> Result<Action, Failure>;

/// `CLIENT GETNAME|HELP|ID|INFO|KILL|LIST|NO-EVICT|NO-TOUCH|SETINFO|SETNAME`.
pub fn client(call: &mut Call<'_>) -> Result<Action, Failure> {
    let subcommand = call.arguments.at(1).to_ascii_lowercase();
    let (arity, run): (i32, Subcommand) = match subcommand.as_slice() {
        b"getname" => (2, get_name),
        b"help" => (2, help),
        b"id" => (2, id),
        b"info" => (2, info),
        b"kill" => (-3, kill),
        b"list" => (-2, list),
        b"no-evict" => (3, no_evict),
        b"no-touch" => (3, no_touch),
        b"setinfo" => (4, set_info),
        b"setname" => (3, set_name),
        _ => return Err(Failure::unknown_subcommand("client", call.arguments.at(1))),
    };
    if !takes(arity, call.arguments.count()) {
        return Err(Failure::arity(&format!(
            "client|{}",
            String::from_utf8_lossy(&subcommand)
        )));
    }
    run(call)
}

fn ok(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

fn set_name(call: &mut Call<'_>) -> Result<Action, Failure> {
    let name = checked_name(call.arguments.at(2), "Client names")?;
    call.session.client.names().name = name;
    ok(call)
}

fn get_name(call: &mut Call<'_>) -> Result<Action, Failure> {
    match call.session.client.names().name.as_slice() {
        [] => reply::null(call.out, call.session.protocol),
        name => reply::bulk(call.out, name),
    }
    Ok(Action::Replied)
}

fn id(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::integer(call.out, i64::try_from(call.session.id).unwrap_or(i64::MAX));
    Ok(Action::Replied)
}

fn help(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::array(call.out, HELP.len());
    HELP.iter().for_each(|line| reply::simple(call.out, line));
    Ok(Action::Replied)
}

fn set_info(call: &mut Call<'_>) -> Result<Action, Failure> {
    let (option, value) = (call.arguments.at(2), call.arguments.at(3));
    match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => call.session.client.names().library_name = checked_name(value, "lib-name")?,
        b"lib-ver" => call.session.client.names().library_version = checked_name(value, "lib-ver")?,
        _ => {
            let option = String::from_utf8_lossy(&option[..option.len().min(MAX_NAME_BYTES)]);
            return Err(Failure::err(format_args!("Unrecognized option '{option}'")));
        }
    }
    ok(call)
}

fn on_or_off(call: &Call<'_>) -> Result<bool, Failure> {
    match call.arguments.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(Failure::SYNTAX),
    }
}

fn no_evict(call: &mut Call<'_>) -> Result<Action, Failure> {
    call.session.client.set_no_evict(on_or_off(call)?);
    ok(call)
}

fn no_touch(call: &mut Call<'_>) -> Result<Action, Failure> {
    call.session.client.set_no_touch(on_or_off(call)?);
    ok(call)
}

/// Lines of clients, the one that asks shown at the command that it runs now.
fn lines<'a>(call: &Call<'_>, clients: impl Iterator<Item = &'a Client>, now: &str) -> String {
    let mut text = String::new();
    for client in clients {
        let command = (client.id == call.session.id).then_some(now);
        text.push_str(&line(client, command, call.server.now_ms()));
        text.push('\n');
    }
    text
}

fn info(call: &mut Call<'_>) -> Result<Action, Failure> {
    let text = lines(call, std::iter::once(&*call.session.client), "client|info");
    reply::verbatim(call.out, &text, call.session.protocol);
    Ok(Action::Replied)
}

fn list(call: &mut Call<'_>) -> Result<Action, Failure> {
    let wanted = List::parse(call.arguments)?;
    let all = match &wanted {
        List::Kind(Kind::Absent) => Vec::new(),
        _ => call.server.registry().all(),
    };
    let text = match &wanted {
        List::Ids(ids) => {
            let by_id = |id| all.binary_search_by_key(id, |client| client.id).ok();
            let found = ids.iter().filter_map(by_id).map(|place| &*all[place]);
            lines(call, found, "client|list")
        }
        _ => lines(call, all.iter().map(|client| &**client), "client|list"),
    };
    reply::verbatim(call.out, &text, call.session.protocol);
    Ok(Action::Replied)
}

/// Ends clients of any core; the one that asks ends behind its answer.
fn kill(call: &mut Call<'_>) -> Result<Action, Failure> {
    let wanted = Kill::parse(call.arguments, |user| call.server.auth().knows(user))?;
    let (mut killed, mut myself) = (0, false);
    for client in call.server.registry().all() {
        if wanted.means(&client, call.session.id) {
            killed += 1;
            if client.id == call.session.id {
                myself = true;
            } else {
                call.server.registry().doom(&client, Reason::Killed);
            }
        }
    }
    match (wanted.by_address, killed) {
        (true, 0) => return Err(Failure::fixed("ERR No such client")),
        (true, _) => reply::simple(call.out, "OK"),
        (false, killed) => reply::integer(call.out, killed),
    }
    Ok(if myself { Action::Close } else { Action::Replied })
}

/// A name that can be shown on one line.
pub(super) fn checked_name(name: &[u8], what: &str) -> Result<Vec<u8>, Failure> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Failure::err(format_args!(
            "{what} cannot be longer than {MAX_NAME_BYTES} bytes"
        )));
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Failure::err(format_args!(
            "{what} cannot contain spaces, newlines or special characters."
        )));
    }
    Ok(name.to_vec())
}
