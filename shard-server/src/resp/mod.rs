//! The wire: where a request ends ([`guard`]), what its arguments are ([`request`]), how answers look ([`reply`]).
//!
//! Pure functions over bytes; nothing here waits or knows a command.

pub mod guard;
pub mod inline;
pub mod number;
pub mod reply;
pub mod request;

/// Which protocol a connection speaks; chosen by `HELLO`, 2 until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2: nulls are `$-1`, maps are flat arrays.
    #[default]
    Resp2,
    /// RESP3: nulls, maps, sets and verbatim strings have types of their own.
    Resp3,
}

/// Longest line without its end, in bytes: a length prefix or an inline command (Redis: `PROTO_INLINE_MAX_SIZE`).
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Most arguments of one command, its name included: `MSET` of 32 Ki pairs.
pub const MAX_ARGUMENTS: usize = 64 * 1024;

/// Longest argument in bytes: the engine's longest value.
pub const MAX_BULK_BYTES: usize = corelane::types::MAX_VALUE_BYTES;

/// Most bytes of one command, its lengths included: two of the longest arguments, as Redis's query buffer is bounded.
pub const MAX_COMMAND_BYTES: usize = 128 * 1024 * 1024;

/// Why the bytes are not a request. The connection is told and then closed: what follows cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// The argument count is not a number from -1 to [`MAX_ARGUMENTS`].
    MultibulkLength,
    /// An argument's length is not a number from 0 to [`MAX_BULK_BYTES`].
    BulkLength,
    /// An argument does not start with `$` but with this byte.
    ExpectedDollar(u8),
    /// The line of an argument count goes on without end.
    MultibulkLine,
    /// The line of an argument's length goes on without end.
    BulkLine,
    /// An inline command goes on without end.
    InlineLine,
    /// An inline command opens a quote and does not close it, or text follows its end.
    UnbalancedQuotes,
    /// The command is longer than so many bytes.
    CommandBytes(usize),
    /// Before it has said who it is a client may not send so many arguments.
    UnknownMultibulkLength,
    /// … nor one so long.
    UnknownBulkLength,
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::MultibulkLength => f.write_str("invalid multibulk length"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedDollar(byte) => {
                let shown = if byte.is_ascii() { char::from(*byte) } else { '?' };
                write!(f, "expected '$', got '{shown}'")
            }
            Self::MultibulkLine => f.write_str("too big mbulk count string"),
            Self::BulkLine => f.write_str("too big bulk count string"),
            Self::InlineLine => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::CommandBytes(most) => write!(f, "command longer than {most} bytes"),
            Self::UnknownMultibulkLength => f.write_str("unauthenticated multibulk length"),
            Self::UnknownBulkLength => f.write_str("unauthenticated bulk length"),
        }
    }
}
