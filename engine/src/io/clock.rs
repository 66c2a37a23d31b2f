//! The clocks and the randomness of a real machine, for the runtimes that run on one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since a start that is one for the process, so that times of different cores compare; never goes back.
#[expect(clippy::disallowed_methods, reason = "this is the seam's clock")]
pub(in crate::io) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Milliseconds since the Unix epoch; may jump both ways.
#[expect(clippy::disallowed_methods, reason = "this is the seam's clock")]
pub(in crate::io) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The standard library's hash keys: seeded by the operating system, different at every call.
pub(in crate::io) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
