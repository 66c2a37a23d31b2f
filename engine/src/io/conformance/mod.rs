//! What every implementation of the seam must do, as checks that run on any of them.
//!
//! Each check takes an [`Io`] and, where it touches files, a directory of its own that exists and is empty; it panics
//! with what is wrong. The simulator, glommio and our own runtime run the same suite. What only the simulator can show (what
//! a crash leaves) is tested there. Nothing here asserts how long anything takes, only order and lower bounds.
//!
//! `files.rs` and `names.rs` look at the disk, `tasks.rs` at the scheduler and the clock, `sockets.rs` at the network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Io;

mod files;
mod names;
mod sockets;
mod tasks;

pub use tasks::work;

/// How often a check looks again for something that another task must do, a millisecond apart.
const PATIENCE: u32 = 10_000;

/// Every check, in `dir`, which exists and is empty.
pub async fn all<I: Io>(io: I, dir: &Path) {
    files::files(io.clone(), &fresh_dir(&io, dir, "files").await).await;
    files::lengths(io.clone(), &fresh_dir(&io, dir, "lengths").await).await;
    files::long_transfers(io.clone(), &fresh_dir(&io, dir, "long").await).await;
    files::concurrent(io.clone(), &fresh_dir(&io, dir, "concurrent").await).await;
    files::misuse(io.clone(), &fresh_dir(&io, dir, "misuse").await).await;
    names::names(io.clone(), &fresh_dir(&io, dir, "names").await).await;
    names::open_files_and_names(io.clone(), &fresh_dir(&io, dir, "renamed").await).await;
    names::errors(io.clone(), &fresh_dir(&io, dir, "errors").await).await;
    names::locks(io.clone(), &fresh_dir(&io, dir, "locks").await).await;
    tasks::tasks(io.clone()).await;
    tasks::classes(io.clone()).await;
    tasks::busy_background(io.clone(), &fresh_dir(&io, dir, "busy").await).await;
    tasks::timers(io.clone()).await;
    sockets::sockets(io.clone()).await;
    sockets::listeners(io.clone()).await;
    sockets::under_load(io.clone()).await;
    sockets::back_pressure(io.clone()).await;
    sockets::dropped_futures(io.clone()).await;
    sockets::ends(io).await;
}

async fn fresh_dir<I: Io>(io: &I, dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    io.create_dir(&path).await.expect("a directory can be created");
    io.sync_dir(dir).await.expect("a directory can be synced");
    path
}

/// Waits until `done`, letting the others run.
async fn until<I: Io>(io: &I, what: &str, done: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
        io.sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
}
