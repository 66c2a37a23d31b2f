//! Commands about the connection: `PING`, `ECHO`, `HELLO`, `CLIENT`, `SELECT`, `QUIT`.

use super::table::{FAST, STALE, spec};
use super::{Action, Call, Failure, Keys, Spec, takes};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::{Protocol, reply};
use crate::session::Session;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "client",
        -2,
        STALE,
        Keys::NONE,
        "connection",
        "Names and numbers this connection.",
        client,
    ),
    spec(
        "echo",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Returns its argument.",
        echo,
    ),
    spec(
        "hello",
        -1,
        FAST,
        Keys::NONE,
        "connection",
        "Chooses the protocol.",
        hello,
    ),
    spec(
        "host:",
        -1,
        STALE,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        http,
    ),
    spec("ping", -1, &["fast"], Keys::NONE, "connection", "Answers.", ping),
    spec(
        "post",
        -1,
        STALE,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        http,
    ),
    spec(
        "quit",
        -1,
        FAST,
        Keys::NONE,
        "connection",
        "Ends the connection.",
        quit,
    ),
    spec(
        "select",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Accepts database 0.",
        select,
    ),
];

/// Longest name of a client or its library, in bytes: it is shown on one line.
const MAX_NAME_BYTES: usize = 256;

/// `PING [message]`.
pub fn ping(call: &mut Call<'_>) -> Result<Action, Failure> {
    match call.arguments.count() {
        1 => reply::simple(call.out, "PONG"),
        2 => reply::bulk(call.out, call.arguments.at(1)),
        _ => return Err(Failure::arity("ping")),
    }
    Ok(Action::Replied)
}

/// `ECHO message`.
pub fn echo(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::bulk(call.out, call.arguments.at(1));
    Ok(Action::Replied)
}

/// `QUIT`.
pub fn quit(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::simple(call.out, "OK");
    Ok(Action::Close)
}

/// What browsers send to a port that is not theirs. The connection ends at once, so that a page cannot smuggle
/// commands in the body of its request (Redis does the same).
pub fn http(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Close)
}

/// `SELECT 0`.
pub fn select(call: &mut Call<'_>) -> Result<Action, Failure> {
    let index = parse_i64(call.arguments.at(1)).ok_or(Failure::NOT_AN_INTEGER)?;
    match i32::try_from(index).map_err(|_| Failure::OUT_OF_INT_RANGE)? {
        0 => reply::simple(call.out, "OK"),
        _ => return Err(Failure::DB_INDEX),
    }
    Ok(Action::Replied)
}

/// What a `HELLO` asks for, to be done once everything before it was answered in the old protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    protocol: Option<Protocol>,
    name: Option<Vec<u8>>,
}

/// `HELLO [2|3 [SETNAME name]]`.
pub fn hello(call: &mut Call<'_>) -> Result<Action, Failure> {
    let protocol = match call.arguments.get(1).map(parse_i64) {
        None => None,
        Some(None) => {
            return Err(Failure::fixed(
                "ERR Protocol version is not an integer or out of range",
            ));
        }
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return Err(Failure::fixed("NOPROTO unsupported protocol version")),
    };
    let mut name = None;
    let mut place = 2;
    while let Some(option) = call.arguments.get(place) {
        match (
            option.to_ascii_uppercase().as_slice(),
            call.arguments.get(place + 1),
        ) {
            (b"SETNAME", Some(wanted)) => name = Some(checked_name(wanted, "Client names")?),
            (b"AUTH", Some(_)) => {
                return Err(Failure::fixed(
                    "ERR HELLO AUTH is not supported yet: this server has no users",
                ));
            }
            _ => {
                let option = String::from_utf8_lossy(&option[..option.len().min(MAX_NAME_BYTES)]);
                return Err(Failure::err(format_args!(
                    "Syntax error in HELLO option '{option}'"
                )));
            }
        }
        place += 2;
    }
    Ok(Action::Query(Query::Hello(Hello { protocol, name })))
}

/// Does what `HELLO` asked for and describes the server.
pub fn greet(hello: Hello, session: &mut Session, out: &mut Vec<u8>) {
    session.protocol = hello.protocol.unwrap_or(session.protocol);
    if let Some(name) = hello.name {
        session.name = name;
    }
    let text = |out: &mut Vec<u8>, key: &str, value: &str| {
        reply::bulk(out, key.as_bytes());
        reply::bulk(out, value.as_bytes());
    };
    let number = |out: &mut Vec<u8>, key: &str, value: i64| {
        reply::bulk(out, key.as_bytes());
        reply::integer(out, value);
    };
    reply::map(out, 7, session.protocol);
    text(out, "server", "corelane");
    text(out, "version", super::server::REDIS_VERSION);
    number(
        out,
        "proto",
        if session.protocol == Protocol::Resp2 { 2 } else { 3 },
    );
    number(out, "id", i64::try_from(session.id).unwrap_or(i64::MAX));
    text(out, "mode", "standalone");
    text(out, "role", "master");
    reply::bulk(out, b"modules");
    reply::array(out, 0);
}

type Subcommand = fn(&mut Call<'_>) -> Result<(), Failure>;

/// `CLIENT SETNAME|GETNAME|SETINFO|ID`.
pub fn client(call: &mut Call<'_>) -> Result<Action, Failure> {
    let subcommand = call.arguments.at(1).to_ascii_lowercase();
    let (arity, run): (i32, Subcommand) = match subcommand.as_slice() {
        b"setname" => (3, set_name),
        b"getname" => (2, get_name),
        b"setinfo" => (4, set_info),
        b"id" => (2, id),
        _ => return Err(Failure::unknown_subcommand("client", call.arguments.at(1))),
    };
    if !takes(arity, call.arguments.count()) {
        return Err(Failure::arity(&format!(
            "client|{}",
            String::from_utf8_lossy(&subcommand)
        )));
    }
    run(call)?;
    Ok(Action::Replied)
}

fn set_name(call: &mut Call<'_>) -> Result<(), Failure> {
    call.session.name = checked_name(call.arguments.at(2), "Client names")?;
    reply::simple(call.out, "OK");
    Ok(())
}

fn get_name(call: &mut Call<'_>) -> Result<(), Failure> {
    match call.session.name.as_slice() {
        [] => reply::null(call.out, call.session.protocol),
        name => reply::bulk(call.out, name),
    }
    Ok(())
}

fn id(call: &mut Call<'_>) -> Result<(), Failure> {
    reply::integer(call.out, i64::try_from(call.session.id).unwrap_or(i64::MAX));
    Ok(())
}

fn set_info(call: &mut Call<'_>) -> Result<(), Failure> {
    let (option, value) = (call.arguments.at(2), call.arguments.at(3));
    match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => call.session.library_name = checked_name(value, "lib-name")?,
        b"lib-ver" => call.session.library_version = checked_name(value, "lib-ver")?,
        _ => {
            let option = String::from_utf8_lossy(&option[..option.len().min(MAX_NAME_BYTES)]);
            return Err(Failure::err(format_args!("Unrecognized option '{option}'")));
        }
    }
    reply::simple(call.out, "OK");
    Ok(())
}

fn checked_name(name: &[u8], what: &str) -> Result<Vec<u8>, Failure> {
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
