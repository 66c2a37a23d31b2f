//! The clocks and the randomness of a real machine, for the runtimes that run on one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since a start that is one for the process, so that times of different cores compare; never goes back.
///
/// It is read several times for each request, so the start is a whole second: there is nothing to carry, and it takes half of
/// what a difference of two [`Instant`](std::time::Instant)s takes.
pub(in crate::io) fn now() -> Duration {
    static START_S: OnceLock<u64> = OnceLock::new();
    // Before the time is read: another thread may come in between and be the first.
    let start_s = *START_S.get_or_init(|| monotonic().0);
    let (seconds, nanos) = monotonic();
    Duration::new(seconds - start_s, nanos)
}

/// The machine's monotonic clock: seconds, and nanoseconds below one.
#[expect(clippy::disallowed_methods, reason = "this is the seam's clock")]
fn monotonic() -> (u64, u32) {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    (time.tv_sec.unsigned_abs(), nanos)
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
