//! `POST /api/v1/batch`: several writes as one, atomic on the one shard that all their keys belong to.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use corelane::api::Batch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{self, bytes_of};
use super::plane::Plane;
use super::problem::{Problem, ProblemBody};
use crate::config::storage::Durability;

/// Several writes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// The writes, in their order.
    pub operations: Vec<Operation>,
    /// When they are acknowledged; as the server is set up where it is not there.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "sync")]
    pub durability: Option<Durability>,
}

/// One write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Operation {
    /// The key gets this value.
    Put {
        /// The key, where it is UTF-8.
        #[serde(default)]
        key: Option<String>,
        /// The key in base64.
        #[serde(default)]
        key_base64: Option<String>,
        /// The value, where it is UTF-8.
        #[serde(default)]
        value: Option<String>,
        /// The value in base64.
        #[serde(default)]
        value_base64: Option<String>,
        /// After how many milliseconds the key goes away; never where it is not there.
        #[serde(default)]
        ttl_ms: Option<u64>,
    },
    /// The key is removed.
    Delete {
        /// The key, where it is UTF-8.
        #[serde(default)]
        key: Option<String>,
        /// The key in base64.
        #[serde(default)]
        key_base64: Option<String>,
    },
}

/// What came of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// How many were applied: all.
    pub applied: usize,
}

/// Most operations of one batch: their bytes are bounded by the body's.
const MAX_OPERATIONS: usize = 100_000;

/// The batch of some operations, at a moment in milliseconds since the Unix epoch.
pub(crate) fn batch_of(operations: Vec<Operation>, now_ms: u64) -> Result<Batch, Problem> {
    if operations.len() > MAX_OPERATIONS {
        return Err(Problem::bad_request(format!(
            "a batch of {} operations; at most {MAX_OPERATIONS} are taken",
            operations.len()
        )));
    }
    let mut batch = Batch::new();
    for operation in operations {
        match operation {
            Operation::Put {
                key,
                key_base64,
                value,
                value_base64,
                ttl_ms,
            } => {
                let key = bytes_of("key", key, key_base64)?;
                let value = bytes_of("value", value, value_base64)?;
                match ttl_ms {
                    None => batch.put(&key, &value)?,
                    Some(0) => return Err(Problem::bad_request("ttl_ms: a time to live of 0 is none")),
                    Some(ttl_ms) => batch.put_until(&key, &value, now_ms.saturating_add(ttl_ms))?,
                };
            }
            Operation::Delete { key, key_base64 } => {
                batch.delete(&bytes_of("key", key, key_base64)?)?;
            }
        }
    }
    Ok(batch)
}

/// The time on the shard that the writes belong to: whether a key has ended is told by its clock, which never goes back,
/// and not by the machine's. Where no write has a time to live none is needed, and 0 does.
async fn now_ms(plane: &Plane, operations: &[Operation]) -> Result<u64, Problem> {
    let ending = operations.iter().find_map(|operation| match operation {
        Operation::Put {
            key,
            key_base64,
            ttl_ms: Some(_),
            ..
        } => Some((key.clone(), key_base64.clone())),
        _ => None,
    });
    let Some((key, key_base64)) = ending else {
        return Ok(0);
    };
    let key = bytes_of("key", key, key_base64)?;
    Ok(plane.db.look(&key, |found| found.now_ms).await?)
}

/// Applies several writes atomically.
#[utoipa::path(
    post, path = "/api/v1/batch", tag = "keys", request_body = BatchBody,
    responses(
        (status = 200, description = "All were applied", body = BatchAnswer),
        (status = 400, description = "A bad body", body = ProblemBody<'_>),
        (status = 409, description = "The keys belong to several shards; nothing was written", body = ProblemBody<'_>),
        (status = 413, description = "A key, a value or the body is too large", body = ProblemBody<'_>),
        (status = 415, description = "The body is no JSON", body = ProblemBody<'_>),
    )
)]
pub async fn post(
    State(plane): State<Arc<Plane>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchAnswer>, Problem> {
    let asked: BatchBody = body::json(body, &headers, plane.limits.body_bytes).await?;
    let applied = asked.operations.len();
    let durability = asked.durability.map_or(plane.durability, Into::into);
    let now_ms = now_ms(&plane, &asked.operations).await?;
    let batch = batch_of(asked.operations, now_ms)?;
    plane.db.write(batch, durability).await?;
    Ok(Json(BatchAnswer { applied }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> Result<Vec<Vec<u8>>, Problem> {
        let asked: BatchBody = body::parse(json.as_bytes())?;
        let batch = batch_of(asked.operations, 0)?;
        Ok(batch.keys().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn operations_become_one_batch_in_their_order() {
        let json = r#"{"operations": [
            {"op": "put", "key": "a", "value": "1", "ttl_ms": 5},
            {"op": "delete", "key_base64": "/w=="},
            {"op": "put", "key": "", "value_base64": "AA=="}]}"#;
        assert_eq!(keys(json), Ok(vec![b"a".to_vec(), b"\xff".to_vec(), Vec::new()]));
    }

    #[test]
    fn operations_that_are_none_are_refused() {
        for json in [
            r#"{"operations": [{"op": "add", "key": "a"}]}"#,
            r#"{"operations": [{"op": "put", "key": "a"}]}"#,
            r#"{"operations": [{"op": "put", "key": "a", "key_base64": "", "value": ""}]}"#,
            r#"{"operations": [{"op": "put", "key": "a", "value": "", "ttl_ms": 0}]}"#,
            r#"{"operations": [], "durability": "perhaps"}"#,
            r#"{"operations": [], "more": 1}"#,
            "{}",
        ] {
            assert!(keys(json).is_err(), "{json}");
        }
    }
}
