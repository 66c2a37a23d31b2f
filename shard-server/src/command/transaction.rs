//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`: what they do to the client's own state. What a transaction is, and how
//! it runs, is in [`crate::transaction`].

use super::table::spec;
use super::{Action, Call, Failure, Keys, Spec};
use crate::resp::reply;
use crate::transaction::{Transaction, Watched};

/// What most of these commands are.
const FLAGS: &[&str] = &["noscript", "loading", "stale", "fast", "allow_busy"];

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "discard",
        1,
        FLAGS,
        Keys::NONE,
        "transactions",
        "Forgets the transaction.",
        discard,
    ),
    spec(
        "exec",
        1,
        &["noscript", "loading", "stale", "skip_slowlog"],
        Keys::NONE,
        "transactions",
        "Runs the transaction.",
        exec,
    ),
    spec(
        "multi",
        1,
        FLAGS,
        Keys::NONE,
        "transactions",
        "Begins a transaction.",
        multi,
    ),
    spec(
        "unwatch",
        1,
        FLAGS,
        Keys::NONE,
        "transactions",
        "Forgets the watched keys.",
        unwatch,
    ),
    spec(
        "watch",
        -2,
        FLAGS,
        Keys::ALL,
        "transactions",
        "Has the next transaction run only where no other client has changed the keys.",
        watch,
    ),
];

/// `MULTI`.
pub fn multi(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.session.transaction.is_some() {
        return Err(Failure::fixed("ERR MULTI calls can not be nested"));
    }
    call.session.transaction = Some(Transaction::default());
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

/// `DISCARD`.
pub fn discard(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.session.transaction.is_none() {
        return Err(Failure::fixed("ERR DISCARD without MULTI"));
    }
    call.session.forget_transaction();
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

/// `EXEC`.
pub fn exec(call: &mut Call<'_>) -> Result<Action, Failure> {
    match &call.session.transaction {
        None => Err(Failure::fixed("ERR EXEC without MULTI")),
        Some(transaction) if transaction.is_broken() => {
            call.session.forget_transaction();
            Err(Failure::fixed(
                "EXECABORT Transaction discarded because of previous errors.",
            ))
        }
        Some(_) => Ok(Action::Exec),
    }
}

/// `WATCH key [key …]`.
pub fn watch(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.session.transaction.is_some() {
        return Err(Failure::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    Ok(Action::Watch)
}

/// `UNWATCH`.
pub fn unwatch(call: &mut Call<'_>) -> Result<Action, Failure> {
    call.session.watched = Watched::default();
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}
