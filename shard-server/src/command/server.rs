//! Commands about the process: `INFO`, `TIME`, `SHUTDOWN`, and those that ask for a checkpoint.

use super::table::{ADMIN, FAST, STALE, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::info::Sections;
use crate::query::Query;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "bgrewriteaof",
        1,
        ADMIN,
        Keys::NONE,
        "server",
        "Refuses: logs are kept short by themselves.",
        no_checkpoint,
    ),
    spec(
        "bgsave",
        -1,
        ADMIN,
        Keys::NONE,
        "server",
        "Refuses: there are no checkpoints.",
        no_checkpoint,
    ),
    spec(
        "info",
        -1,
        STALE,
        Keys::NONE,
        "server",
        "Tells how the server is.",
        info,
    ),
    spec(
        "lastsave",
        1,
        FAST,
        Keys::NONE,
        "server",
        "Refuses: there are no checkpoints.",
        no_checkpoint,
    ),
    spec(
        "save",
        1,
        ADMIN,
        Keys::NONE,
        "server",
        "Refuses: there are no checkpoints.",
        no_checkpoint,
    ),
    spec(
        "shutdown",
        -1,
        ADMIN,
        Keys::NONE,
        "server",
        "Drains and ends the server.",
        shutdown,
    ),
    spec(
        "time",
        1,
        FAST,
        Keys::NONE,
        "server",
        "Returns the server's time.",
        time,
    ),
];

/// The version of Redis whose commands and words are followed: clients decide by it what they may use.
pub const REDIS_VERSION: &str = "7.0.0";

/// `INFO [section …]`.
pub fn info(call: &mut Call<'_>) -> Result<Action, Failure> {
    let sections = Sections::named(call.arguments.from(1));
    Ok(Action::Query(Query::Info(sections)))
}

/// `TIME`.
pub fn time(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Time))
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE]`: there is nothing to save that was acknowledged, and the drain is always
/// bounded, so the options change nothing. `SHUTDOWN ABORT` finds nothing to abort.
pub fn shutdown(call: &mut Call<'_>) -> Result<Action, Failure> {
    let (mut save, mut no_save, mut other, mut abort) = (false, false, false, false);
    for option in call.arguments.from(1) {
        match option.to_ascii_uppercase().as_slice() {
            b"SAVE" => save = true,
            b"NOSAVE" => no_save = true,
            b"NOW" | b"FORCE" => other = true,
            b"ABORT" => abort = true,
            _ => return Err(Failure::SYNTAX),
        }
    }
    if save && no_save || abort && (save || no_save || other) {
        return Err(Failure::SYNTAX);
    }
    if abort {
        return Err(Failure::fixed("ERR No shutdown in progress."));
    }
    Ok(Action::Query(Query::Shutdown))
}

/// `SAVE`, `BGSAVE`, `LASTSAVE`, `BGREWRITEAOF`.
pub fn no_checkpoint(call: &mut Call<'_>) -> Result<Action, Failure> {
    let name = String::from_utf8_lossy(call.arguments.at(0)).to_ascii_uppercase();
    Err(Failure::err(format_args!(
        "{name} is not supported: there are no checkpoints; every write is as durable as the server's durability says by \
         the time it is answered"
    )))
}
