//! `OBJECT`: what Redis tells of how it keeps a value. Here every value is a string of bytes; the answers are those that
//! Redis gives for a string freshly set.

use corelane::types::MAX_KEY_BYTES;

use super::subcommand::{Container, Subcommand};
use super::table::{READ_MANY, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::{Aspect, Query};

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "object",
    -2,
    &[],
    Keys::NONE,
    "generic",
    "Tells how a value is kept.",
    object,
)];

const fn part(
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>) -> Result<Action, Failure>,
) -> Subcommand {
    Subcommand {
        name,
        arity: 3,
        flags: READ_MANY,
        keys: Keys {
            first: 2,
            last: 2,
            step: 1,
        },
        usage,
        summary,
        run,
    }
}

/// `OBJECT` and its parts.
pub const CONTAINER: Container = Container {
    name: "object",
    subcommands: &[
        part(
            "encoding",
            "ENCODING <key>",
            "Returns int, embstr or raw, by the value's form and length.",
            |call| inspect(call, Aspect::Encoding),
        ),
        part(
            "freq",
            "FREQ <key>",
            "Refuses: no frequencies are kept.",
            |call| inspect(call, Aspect::Frequency),
        ),
        part(
            "idletime",
            "IDLETIME <key>",
            "Returns 0: no times of access are kept.",
            |call| inspect(call, Aspect::Idle),
        ),
        part("refcount", "REFCOUNT <key>", "Returns 1.", |call| {
            inspect(call, Aspect::References)
        }),
    ],
};

/// `OBJECT subcommand`.
pub fn object(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

/// Asks about the key behind a subcommand.
pub(super) fn inspect(call: &mut Call<'_>, aspect: Aspect) -> Result<Action, Failure> {
    let key = call.arguments.at(2);
    if key.len() > MAX_KEY_BYTES {
        return Err(Failure::KEY_TOO_LONG);
    }
    Ok(Action::Query(Query::Inspect {
        key: key.to_vec(),
        aspect,
    }))
}
