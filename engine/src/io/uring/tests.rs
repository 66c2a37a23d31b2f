//! The runtime on the real machine: its filesystem, its loopback, its cores.
//!
//! What every runtime keeps is for the conformance suite, which runs here on every way that a ring can be made on this
//! kernel. These are the tests of what only this one has: operations that outlive their futures, buffers that run out, ends.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the machine from outside the seam too"
)]

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use futures_util::future::{join, join_all};
use tempfile::TempDir;

use super::super::cores::{CoreFailure, CoreThread, StartOptions, available_cores};
use super::super::mailbox::{Receiver, Sender, mailbox};
use super::super::{File, Listener, Stream};
use super::in_flight::Wanted;
use super::*;
use crate::types::PAGE_BYTES;

mod drops;
mod ends;
mod sockets;
mod storage;
mod wakes;

const PAGE: u64 = PAGE_BYTES as u64;

/// A port of the kernel's choice.
const LOOPBACK: &str = "127.0.0.1:0";

/// A small ring, so that it runs full; the best that this kernel has.
const WANTED: Wanted = Wanted {
    depth: 16,
    setup: Setup::Deferred,
    multishot_receive: true,
    messages: true,
    files: 8,
};

/// Waits for cores to end; one that hangs fails its test instead of hanging with it.
fn ends_within_a_minute(threads: Vec<CoreThread>) -> Vec<Result<(), CoreFailure>> {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let ends: Vec<_> = threads.into_iter().map(CoreThread::join).collect();
        done.send(ends)
    });
    let ends = wait.recv_timeout(Duration::from_secs(60));
    ends.expect("still running after a minute")
}

fn join_within_a_minute(threads: Vec<CoreThread>) {
    for end in ends_within_a_minute(threads) {
        if let Err(panic) = end {
            panic!("on the core: {}", panic.text);
        }
    }
}

/// Runs `test` on a core made as `wanted`, with a directory on a real filesystem. When its future has ended, nothing must be
/// held but the watch for wake-ups, as soon as what was dropped has completed.
fn on_core_as<M: Future<Output = ()> + 'static>(
    wanted: Wanted,
    options: StartOptions,
    test: impl Fn(UringIo, PathBuf) -> M + Send + Sync + 'static,
) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().to_owned();
    let core = available_cores()[0];
    let main = move |_, io: UringIo| {
        let test = test(io.clone(), path.clone());
        async move {
            test.await;
            nothing_is_held(&io).await;
        }
    };
    let threads = run::start_wanted(&[core], options, wanted, main, |_, _| {});
    join_within_a_minute(threads.expect("a core starts here"));
    dir
}

fn on_core<M: Future<Output = ()> + 'static>(
    test: impl Fn(UringIo, PathBuf) -> M + Send + Sync + 'static,
) -> TempDir {
    on_core_as(WANTED, StartOptions::default(), test)
}

/// Both ends of a connection over loopback.
async fn connected(io: &UringIo) -> (UringStream, UringStream) {
    let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = join(io.connect(address), listener.accept()).await;
    (client.unwrap(), server.unwrap())
}

/// Waits until what was dropped has completed, and fails if that never happens.
async fn nothing_is_held(io: &UringIo) {
    // The one who looks, and the watch for wake-ups.
    let nothing = Held {
        tasks: 1,
        operations: 1,
        ..Held::default()
    };
    for _ in 0..5_000 {
        if held(io) == nothing {
            return;
        }
        io.sleep(Duration::from_millis(1)).await;
    }
    panic!("held for ever: {:?}", held(io));
}

fn held(io: &UringIo) -> Held {
    io.held().expect("this runtime counts")
}

/// A buffer whose pages all differ, and differ with `seed`.
fn filled(io: &UringIo, bytes: usize, seed: u64) -> WriteBuf {
    let mut buf = io.alloc(bytes);
    for (i, word) in buf.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i as u64).to_le_bytes());
    }
    buf
}

/// Writes it whole, checks what came back, and returns the buffer.
async fn write(file: &UringFile, buf: WriteBuf, position: u64) -> WriteBuf {
    let (asked, copy) = (buf.len(), buf.to_vec());
    let (written, buf) = file.write_at(buf, position).await;
    assert_eq!(written.unwrap(), asked);
    assert!(*buf == *copy, "the buffer comes back as it went");
    buf
}

#[test]
fn the_conformance_suite_holds_on_the_best_ring() {
    on_core(|io, dir| async move { crate::io::conformance::all(io, &dir).await });
}

#[test]
fn the_conformance_suite_holds_on_what_older_kernels_have() {
    for setup in [Setup::DeferredWithArray, Setup::Cooperative] {
        let wanted = Wanted {
            setup,
            multishot_receive: setup != Setup::Cooperative,
            messages: false,
            files: 0,
            ..WANTED
        };
        on_core_as(wanted, StartOptions::default(), move |io, dir| async move {
            assert_eq!(io.ability().setup, setup);
            assert_eq!(io.ability().registered_files, 0);
            crate::io::conformance::all(io, &dir).await;
        });
    }
}

#[test]
fn the_conformance_suite_holds_without_registered_memory_and_on_a_core_that_spins() {
    let options = StartOptions {
        io_memory_bytes: 0,
        spin_before_park_us: 50,
        ..StartOptions::default()
    };
    on_core_as(WANTED, options, |io, dir| async move {
        assert_eq!(io.ability().registered_bytes, 0);
        crate::io::conformance::all(io, &dir).await;
    });
}

/// Moves one-time values into the cores' `main`s, which are `Fn`.
struct Handed<T>(Vec<Mutex<Option<T>>>);

impl<T> Handed<T> {
    fn new(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().map(|value| Mutex::new(Some(value))).collect())
    }

    fn take(&self, index: usize) -> T {
        self.0[index].lock().unwrap().take().expect("each is taken once")
    }
}

#[test]
fn foreign_threads_fill_a_mailbox_and_the_core_answers_every_one() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let (sender, receiver) = mailbox::<(u64, mpsc::Sender<u64>)>(2);
    let receivers = Handed::new([receiver]);
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), move |index, _| {
        let mut receiver = receivers.take(index);
        async move {
            let mut batch = Vec::new();
            while receiver.recv_batch(&mut batch, 8).await > 0 {
                for (n, reply) in batch.drain(..) {
                    reply.send(n * 2).expect("the caller waits");
                }
            }
        }
    });
    let callers: Vec<_> = (0..THREADS)
        .map(|id| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for n in id * EACH..(id + 1) * EACH {
                    let (reply, answer) = mpsc::channel();
                    sender.send_blocking((n, reply)).unwrap();
                    assert_eq!(answer.recv_timeout(Duration::from_secs(60)), Ok(n * 2));
                }
            })
        })
        .collect();
    drop(sender);
    for caller in callers {
        caller.join().unwrap();
    }
    join_within_a_minute(threads.unwrap());
}
