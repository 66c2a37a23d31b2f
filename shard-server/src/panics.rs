//! What the server process does when something in it panics.

use crate::admin;

/// Ends the process with its first panic, once that has told its story on standard error.
///
/// A core that panics has met a bug and can neither serve nor close. Ending at once is safe, as after `kill -9`: everything
/// acknowledged is on stable storage; going on would leave its clients hanging. A request of the admin plane that panics on
/// the plane's own thread is answered as such, and keeps no core from anything.
pub fn end_with_the_first() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name() != Some(admin::THREAD_NAME) {
            std::process::abort();
        }
    }));
}
