//! Who a client is and what it speaks: `AUTH`, `HELLO`.
//!
//! Both wait until everything before them was answered: the one because secrets are checked elsewhere, the other because
//! it changes the protocol.

use super::client::{MAX_NAME_BYTES, checked_name};
use super::table::{NO_AUTH, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::auth::{DEFAULT_USER, delay};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::{Protocol, reply};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "auth",
        -2,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Says who the client is.",
        auth,
    ),
    spec(
        "hello",
        -1,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Chooses the protocol, and says who the client is.",
        hello,
    ),
];

/// Who a client says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Vec<u8>,
    secret: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    /// Without the secret, and without the name, which may be a secret in the wrong place: neither must get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// `AUTH [user] secret`.
pub fn auth(call: &mut Call<'_>) -> Result<Action, Failure> {
    let (user, secret) = match call.arguments.count() {
        2 if call.server.auth().is_open() => return Err(Failure::NO_PASSWORD),
        2 => (DEFAULT_USER.as_bytes(), call.arguments.at(1)),
        3 => (call.arguments.at(1), call.arguments.at(2)),
        _ => return Err(Failure::SYNTAX),
    };
    let (user, secret) = (user.to_vec(), secret.to_vec());
    Ok(Action::Query(Query::Auth(Credentials { user, secret })))
}

/// Checks who a client says it is, and takes its word from then on. Whoever fails hears of it late.
///
/// # Errors
/// The answer to whoever failed.
pub async fn identify<S: Store>(
    credentials: Credentials,
    store: &S,
    server: &Server,
    session: &mut Session,
) -> Result<(), Failure> {
    let Credentials { user, secret } = credentials;
    let (client, address) = (session.id, session.client.address);
    let verified = server.verify(&user, &secret, address.ip(), |delay| store.sleep(delay));
    let denied = match verified.await {
        Ok(user) => {
            session.identify(user);
            return Ok(());
        }
        Err(denied) if denied.is_unchecked() => return Err(denied.failure),
        Err(denied) => denied,
    };
    let failures = server.failed_auth(address.ip());
    let user = server.auth().name_to_tell(&user);
    tracing::warn!(client, %address, user, failures, "authentication failed");
    store.sleep(delay(failures)).await;
    Err(denied.failure)
}

/// What a `HELLO` asks for, to be done once everything before it was answered in the old protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    protocol: Option<Protocol>,
    name: Option<Vec<u8>>,
    credentials: Option<Credentials>,
}

/// `HELLO [2|3 [AUTH user secret] [SETNAME name]]`.
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
    let (mut name, mut credentials) = (None, None);
    let mut place = 2;
    while let Some(option) = call.arguments.get(place) {
        let value = |n: usize| call.arguments.get(place + n);
        match (option.to_ascii_uppercase().as_slice(), value(1), value(2)) {
            (b"SETNAME", Some(wanted), _) => {
                name = Some(checked_name(wanted, "Client names")?);
                place += 2;
            }
            (b"AUTH", Some(user), Some(secret)) => {
                credentials = Some(Credentials {
                    user: user.to_vec(),
                    secret: secret.to_vec(),
                });
                place += 3;
            }
            _ => {
                let option = String::from_utf8_lossy(&option[..option.len().min(MAX_NAME_BYTES)]);
                return Err(Failure::err(format_args!(
                    "Syntax error in HELLO option '{option}'"
                )));
            }
        }
    }
    if !call.session.authenticated && credentials.is_none() {
        return Err(Failure::HELLO_NO_AUTH);
    }
    Ok(Action::Query(Query::Hello(Hello {
        protocol,
        name,
        credentials,
    })))
}

/// Does what `HELLO` asked for and describes the server.
///
/// # Errors
/// The answer to a client that is not who it says it is; nothing was changed then.
pub async fn hello_done<S: Store>(
    hello: Hello,
    store: &S,
    server: &Server,
    session: &mut Session,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    if let Some(credentials) = hello.credentials {
        identify(credentials, store, server, session).await?;
    }
    session.speak(hello.protocol.unwrap_or(session.protocol));
    if let Some(name) = hello.name {
        session.client.names().name = name;
    }
    greet(session, out);
    Ok(())
}

/// Describes the server.
fn greet(session: &Session, out: &mut Vec<u8>) {
    reply::map(out, 7, session.protocol);
    reply::text_entry(out, "server", "corelane");
    reply::text_entry(out, "version", super::server::REDIS_VERSION);
    reply::number_entry(
        out,
        "proto",
        if session.protocol == Protocol::Resp2 { 2 } else { 3 },
    );
    reply::number_entry(out, "id", i64::try_from(session.id).unwrap_or(i64::MAX));
    let mode = if session.own_core { "cluster" } else { "standalone" };
    reply::text_entry(out, "mode", mode);
    reply::text_entry(out, "role", "master");
    reply::bulk(out, b"modules");
    reply::array(out, 0);
}
