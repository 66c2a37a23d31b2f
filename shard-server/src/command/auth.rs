//! Who a client is and what it speaks: `HELLO`.

use super::client::{MAX_NAME_BYTES, checked_name};
use super::table::{NO_AUTH, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::{Protocol, reply};
use crate::session::Session;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "hello",
    -1,
    NO_AUTH,
    Keys::NONE,
    "connection",
    "Chooses the protocol, and says who the client is.",
    hello,
)];

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
    session.speak(hello.protocol.unwrap_or(session.protocol));
    if let Some(name) = hello.name {
        session.client.names().name = name;
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
