//! Commands on keys whatever they hold: `DEL`, `EXISTS`, `DBSIZE`.

use super::{Action, Call, Failure};
use crate::query::Query;

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
