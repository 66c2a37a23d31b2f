//! The process ends with the first panic of a core, and outlives those of the admin plane. Each is shown by this very test
//! binary, run again as a process of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use corelane_server::{admin, panics};

/// Names the thread that panics, in the process that is to end of it.
const THREAD: &str = "CORELANE_TEST_PANICKING_THREAD";

/// The number of SIGABRT, which leaves a core file where these are kept.
const ABORTED: i32 = 6;

/// Not a test of its own: what the processes of the others run. Alone it does nothing.
#[test]
fn a_thread_panics() {
    let Ok(name) = std::env::var(THREAD) else {
        return;
    };
    panics::end_with_the_first();
    let thread = std::thread::Builder::new().name(name);
    let panicking = thread.spawn(|| panic!("made for this test")).expect("a thread");
    // Whoever is still there after it goes on.
    assert!(panicking.join().is_err());
    println!("it goes on");
}

fn panic_on(thread: &str) -> Output {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "a_thread_panics", "--nocapture"])
        .env(THREAD, thread)
        .output()
        .expect("it runs")
}

/// A core that panicked left a server that took clients and answered none of them. Nothing showed that the process ends
/// instead: with the hook gone every test passed.
#[test]
fn a_panic_of_a_core_ends_the_process_at_once() {
    let ended = panic_on("corelane-core-0");
    assert_eq!(ended.status.signal(), Some(ABORTED), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("made for this test"), "{told}");
}

#[test]
fn a_panic_of_the_admin_plane_ends_nothing() {
    let ended = panic_on(admin::THREAD_NAME);
    let (told, said) = (
        String::from_utf8_lossy(&ended.stderr),
        String::from_utf8_lossy(&ended.stdout),
    );
    assert!(
        ended.status.success() && said.contains("it goes on"),
        "{said}{told}"
    );
    assert!(told.contains("made for this test"), "{told}");
}
