//! The admin plane: REST, metrics and health over HTTP, on one thread of its own that no core of the engine knows.
//!
//! ```text
//! listen      the thread: its runtime, listener, connections, certificates, end
//!  └─ routes      which path is whose; what surrounds all of them
//!      ├─ guard       id, Host and Origin, rate, who may, places, time, problems, log
//!      │   └─ hosts  rate  access                                pure, but for the tables they keep
//!      ├─ kv  batch  scan  maintenance      handlers: a request to the engine's mailbox, an answer
//!      │   └─ body  query  etag  cursor  problem                  pure
//!      ├─ probes ─ health (pure)  metrics (pure)  facts
//!      └─ openapi
//! ```
//!
//! Handlers never touch a shard: they send one bounded message to the core that owns it and await the answer, as any
//! other thread's use of [`corelane::api::Db`] does. So the worst that this plane can do to the data plane is to make
//! as many requests at once as `admin.requests` allows.

pub mod access;
pub mod batch;
pub mod body;
pub mod cursor;
pub mod etag;
pub mod facts;
pub mod guard;
pub mod health;
pub mod hosts;
pub mod kv;
pub mod listen;
pub mod maintenance;
pub mod metrics;
pub mod openapi;
pub mod plane;
pub mod probes;
pub mod problem;
pub mod query;
pub mod rate;
pub mod routes;
pub mod scan;
#[cfg(test)]
mod tests;

pub use listen::{Running, THREAD_NAME, start};
pub use plane::Plane;
