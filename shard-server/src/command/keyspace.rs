//! Commands on keys whatever they hold: `DEL`, `EXISTS`, `DBSIZE`.

use super::table::{READ, READ_MANY, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::Query;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "dbsize",
        1,
        READ_MANY,
        Keys::NONE,
        "server",
        "Counts the keys by walking them.",
        dbsize,
    ),
    spec("del", -2, &["write"], Keys::ALL, "generic", "Deletes keys.", del),
    spec(
        "exists",
        -2,
        READ,
        Keys::ALL,
        "generic",
        "Counts which of the keys are there.",
        exists,
    ),
];

/// `DEL key [key …]`. Each key goes on its own: only a crash can leave some of them behind.
pub fn del(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Delete)
}

/// `EXISTS key [key …]`.
pub fn exists(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Present)
}

/// `DBSIZE`: exact, by walking all keys.
pub fn dbsize(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Count))
}
