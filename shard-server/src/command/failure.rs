//! Error answers, in the words of Redis 7 where Redis has them: clients and people search for them.

use std::borrow::Cow;

use corelane::{Error, ErrorKind};

use crate::resp::ProtocolError;
use crate::resp::request::Arguments;

/// The text of an error answer without its `-`, starting with its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub Cow<'static, str>);

/// How much of a client's own words an error repeats, in bytes (as Redis does).
const QUOTED_BYTES: usize = 128;

impl Failure {
    /// The arguments do not follow the command's grammar.
    pub const SYNTAX: Self = Self::fixed("ERR syntax error");
    /// A number was wanted.
    pub const NOT_AN_INTEGER: Self = Self::fixed("ERR value is not an integer or out of range");
    /// A number of 32 bits was wanted.
    pub const OUT_OF_INT_RANGE: Self =
        Self::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
    /// The sum leaves 64 bits.
    pub const OVERFLOW: Self = Self::fixed("ERR increment or decrement would overflow");
    /// The negated decrement leaves 64 bits.
    pub const DECREMENT_OVERFLOW: Self = Self::fixed("ERR decrement would overflow");
    /// The client has not said who it is.
    pub const NO_AUTH: Self = Self::fixed("NOAUTH Authentication required.");
    /// Who it says it is it did not prove.
    pub const WRONG_PASS: Self = Self::fixed("WRONGPASS invalid username-password pair or user is disabled.");
    /// `HELLO` before it was said who the client is, and without saying so.
    pub const HELLO_NO_AUTH: Self = Self::fixed(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option \
         can be used to authenticate the client and select the RESP protocol version at the same time",
    );
    /// A secret where nobody asks for one.
    pub const NO_PASSWORD: Self = Self::fixed(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?",
    );
    /// Too many secrets are being checked.
    pub const BUSY_AUTH: Self =
        Self::fixed("ERR too many authentications are under way; try again in a second");
    /// A number with a fraction was wanted.
    pub const NOT_A_FLOAT: Self = Self::fixed("ERR value is not a valid float");
    /// The sum of numbers with fractions has no digits.
    pub const NOT_FINITE: Self = Self::fixed("ERR increment would produce NaN or Infinity");
    /// A value would be longer than the longest argument.
    pub const TOO_LONG: Self = Self::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    /// A transaction whose answers are as long as they may be.
    pub const ANSWER_TOO_LONG: Self = Self::fixed("ERR the answers of the transaction take too many bytes");
    /// A place in a value that cannot be.
    pub const OFFSET: Self = Self::fixed("ERR offset is out of range");
    /// A place of a bit that cannot be.
    pub const BIT_OFFSET: Self = Self::fixed("ERR bit offset is not an integer or out of range");
    /// A bit that is neither 0 nor 1.
    pub const BIT: Self = Self::fixed("ERR bit is not an integer or out of range");
    /// The same, as `BITPOS` says it.
    pub const BIT_ARGUMENT: Self = Self::fixed("ERR The bit argument must be 1 or 0.");
    /// The key to be renamed is not there.
    pub const NO_SUCH_KEY: Self = Self::fixed("ERR no such key");
    /// A copy onto itself.
    pub const SAME_OBJECT: Self = Self::fixed("ERR source and destination objects are the same");
    /// There is one database.
    pub const DB_INDEX: Self = Self::fixed("ERR DB index is out of range");
    /// Keys of several shards where one is needed.
    pub const CROSS_SHARD: Self = Self::fixed(
        "CROSSSLOT Keys in request don't hash to the same shard; give them one {hash tag} or send one command a key",
    );
    /// Keys of several slots on the port of one core, in the words of Redis Cluster.
    pub const CROSS_SLOT: Self = Self::fixed("CROSSSLOT Keys in request don't hash to the same slot");
    /// A command of Redis Cluster where there is none.
    pub const CLUSTER_OFF: Self = Self::fixed("ERR This instance has cluster support disabled");
    /// Not all cores listen yet.
    pub const CLUSTER_DOWN: Self = Self::fixed("CLUSTERDOWN The cluster is down");
    /// Another database, on the port of one core.
    pub const CLUSTER_SELECT: Self = Self::fixed("ERR SELECT is not allowed in cluster mode");
    /// A key beyond the engine's limit.
    pub const KEY_TOO_LONG: Self = Self::fixed("ERR key is longer than 65536 bytes");
    /// The engine dropped an update without running it.
    pub const NOT_RUN: Self = Self::fixed("ERR the update was not run; the server is shutting down");

    /// An error whose text is known beforehand.
    pub const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// An error of the general code with this text.
    pub fn err(text: impl std::fmt::Display) -> Self {
        Self(format!("ERR {text}").into())
    }

    /// The command takes another number of arguments. `name` is `command` or `command|subcommand`, in lower case.
    pub fn arity(name: &str) -> Self {
        Self(format!("ERR wrong number of arguments for '{name}' command").into())
    }

    /// The user's role does not go so far. `name` is `command` or `command|subcommand`.
    pub fn no_permission(name: &str) -> Self {
        Self(format!("NOPERM this user has no permissions to run the '{name}' command").into())
    }

    /// The key's slot is served at another address; an empty host stands for the one that the client used.
    pub fn moved(slot: u16, host: &str, port: u16) -> Self {
        Self(format!("MOVED {slot} {host}:{port}").into())
    }

    /// A time that is not above zero or cannot be reached, given to `command` (in lower case).
    pub fn expire_time(command: &str) -> Self {
        Self(format!("ERR invalid expire time in '{command}' command").into())
    }

    /// A command (in lower case) that cannot be part of a transaction here.
    pub fn not_in_transaction(command: &str) -> Self {
        Self::err(format_args!(
            "'{command}' is not supported between MULTI and EXEC"
        ))
    }

    /// An `EXEC` that was refused itself, which ends its transaction.
    pub fn exec_abort(self) -> Self {
        let why = self.0.strip_prefix("ERR ").unwrap_or(&self.0);
        Self(format!("EXECABORT Transaction discarded because of: {why}").into())
    }

    /// An option that `EXPIRE` does not have.
    pub fn unsupported_option(option: &[u8]) -> Self {
        Self::err(format_args!(
            "Unsupported option {}",
            quoted(option, QUOTED_BYTES)
        ))
    }

    /// Redis has this command (in lower case), this server does not.
    pub fn unsupported(command: &str) -> Self {
        Self::err(format_args!(
            "'{command}' is a command of Redis that this server does not support; it keeps strings only"
        ))
    }

    /// An answer that cannot be had later, and for which a pipeline has no more room.
    pub fn pipeline_too_long(most_bytes: usize) -> Self {
        Self::err(format_args!(
            "the answers of this pipeline take more than {most_bytes} bytes of memory (limits.output_hard_bytes); this command \
             was not run, send fewer at once"
        ))
    }

    /// There is no such command.
    pub fn unknown_command(arguments: Arguments<'_>) -> Self {
        let mut shown = String::new();
        for argument in arguments.from(1) {
            if shown.len() >= QUOTED_BYTES {
                break;
            }
            let room = QUOTED_BYTES - shown.len();
            shown.push_str(&format!("'{}' ", quoted(argument, room)));
        }
        let name = quoted(arguments.at(0), QUOTED_BYTES);
        Self(format!("ERR unknown command '{name}', with args beginning with: {shown}").into())
    }

    /// A subcommand of `command` (in lower case) is not, or not with these arguments.
    pub fn subcommand_syntax(command: &str, subcommand: &[u8]) -> Self {
        let (name, command) = (quoted(subcommand, QUOTED_BYTES), command.to_uppercase());
        Self(
            format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {command} HELP.")
                .into(),
        )
    }

    /// There is no such subcommand of `command` (in lower case).
    pub fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Self {
        let (name, command) = (quoted(subcommand, QUOTED_BYTES), command.to_uppercase());
        Self(format!("ERR unknown subcommand '{name}'. Try {command} HELP.").into())
    }
}

/// The client's own bytes as text: at most `most`, up to a NUL.
fn quoted(bytes: &[u8], most: usize) -> Cow<'_, str> {
    let bytes = &bytes[..bytes.len().min(most)];
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self::err(error)
    }
}

impl From<&Error> for Failure {
    /// `MISCONF` is what Redis answers to writes while it cannot persist them; reads go on there, as here.
    fn from(error: &Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NoSpace | ErrorKind::Poisoned => "MISCONF",
            ErrorKind::CrossShard => "CROSSSLOT",
            ErrorKind::Busy => "TRYAGAIN",
            _ => "ERR",
        };
        Self(format!("{code} {error}").into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_are_quoted_as_redis_does() {
        let bytes = b"fooab";
        let arguments = Arguments::new(bytes, &[(0, 3), (3, 4), (4, 5)]);
        assert_eq!(
            Failure::unknown_command(arguments).0,
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
        );
        let long = [b'x'; 1000];
        let arguments = Arguments::new(&long, &[(0, 1000), (0, 500), (0, 500)]);
        let text = Failure::unknown_command(arguments).0;
        assert!(text.len() < 2 * QUOTED_BYTES + 60, "{} bytes", text.len());
    }

    #[test]
    fn an_engine_error_keeps_its_words_and_gets_a_code() {
        let full = Error::new(ErrorKind::NoSpace, "writing", "no space left");
        assert!(
            Failure::from(&full)
                .0
                .starts_with("MISCONF writing: no space left")
        );
        let other = Error::new(ErrorKind::Corruption, "reading", "bad checksum");
        assert!(Failure::from(&other).0.starts_with("ERR reading: bad checksum"));
    }
}
