//! The runtime on the real machine: its filesystem, its loopback, its cores.
//!
//! What every runtime keeps is for the conformance suite over [`Io`], which runs here through [`on_core`]. These are
//! the tests of what only this one has: real devices, threads and scheduling.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the machine from outside the seam too"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use tempfile::TempDir;

use super::super::conformance::work;
use super::super::cores::{CoreThread, StartOptions, available_cores};
use super::super::mailbox::{Receiver, Sender, mailbox};
use super::super::{File, OpenMode};
use super::*;
use crate::types::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// Waits for executors to end; one that hangs fails its test instead of hanging with it.
fn join_within_a_minute(threads: Vec<CoreThread>) {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let ends: Vec<_> = threads.into_iter().map(CoreThread::join).collect();
        done.send(ends)
    });
    for end in wait
        .recv_timeout(Duration::from_secs(60))
        .expect("still running after a minute")
    {
        if let Err(panic) = end {
            panic!("on the core: {}", panic.text);
        }
    }
}

/// Runs `test` on an executor of its own, with a directory on a real filesystem.
fn on_core<M: Future<Output = ()> + 'static>(
    test: impl Fn(GlommioIo, PathBuf) -> M + Send + Sync + 'static,
) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().to_owned();
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), move |_, io| {
        test(io, path.clone())
    });
    join_within_a_minute(threads.expect("an executor starts here"));
    dir
}

/// Two cores, or the only one twice.
fn two_cores() -> [usize; 2] {
    let cores = available_cores();
    [cores[0], cores[cores.len() - 1]]
}

/// A buffer whose pages all differ, and differ with `seed`.
fn filled(io: &GlommioIo, bytes: usize, seed: u64) -> WriteBuf {
    let mut buf = io.alloc(bytes);
    for (i, word) in buf.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i as u64).to_le_bytes());
    }
    buf
}

/// Writes it whole, checks what came back, and returns the buffer.
async fn write(file: &GlommioFile, buf: WriteBuf, position: u64) -> WriteBuf {
    let (asked, copy) = (buf.len(), buf.to_vec());
    let (written, buf) = file.write_at(buf, position).await;
    assert_eq!(written.unwrap(), asked);
    assert!(*buf == *copy, "the buffer comes back as it went");
    buf
}

#[test]
fn a_new_empty_file_is_written_and_read_back_as_the_first_of_its_device() {
    let dir = on_core(|io, dir| async move {
        let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
        assert_eq!(file.bytes().await.unwrap(), 0);
        assert!(
            file.read_at(0, PAGE_BYTES).await.unwrap().is_empty(),
            "nothing is there yet"
        );
        let buf = write(&file, filled(&io, 4 * PAGE_BYTES, 1), 0).await;
        assert_eq!(file.bytes().await.unwrap(), 4 * PAGE);
        assert!(*file.read_at(PAGE, PAGE_BYTES).await.unwrap() == buf[PAGE_BYTES..2 * PAGE_BYTES]);
        file.sync_data().await.unwrap();
        file.close().await.unwrap();

        let file = io.open(&dir.join("f"), OpenOptions::READ).await.unwrap();
        assert!(*file.read_at(0, 4 * PAGE_BYTES).await.unwrap() == *buf);
        file.close().await.unwrap();
    });
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["f"], "priming the device leaves nothing behind");
}

#[test]
fn a_transfer_longer_than_the_device_takes_at_once_is_whole() {
    on_core(|io, dir| async move {
        let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
        // Not a whole number of parts, so that the last one is short.
        let bytes = 3 * device::MAX_PART_BYTES + 5 * PAGE_BYTES;
        let buf = write(&file, filled(&io, bytes, 3), PAGE).await;
        let read = file.read_at(PAGE, bytes).await.unwrap();
        assert!(*read == *buf);
        let read = file.read_at(PAGE, 3 * bytes).await.unwrap();
        assert!(*read == *buf, "the end falls between the parts");
        file.close().await.unwrap();
    });
}

#[test]
fn r1_a_file_opened_with_dsync_has_the_flag_and_is_written_in_place() {
    on_core(|io, dir| async move {
        let file = io.open(&dir.join("wal"), OpenOptions::CREATE).await.unwrap();
        file.allocate(16 * PAGE).await.unwrap();
        assert_eq!(file.bytes().await.unwrap(), 16 * PAGE);
        assert!(
            file.read_at(0, 16 * PAGE_BYTES)
                .await
                .unwrap()
                .iter()
                .all(|&b| b == 0)
        );
        write(&file, io.alloc(16 * PAGE_BYTES), 0).await;
        file.close().await.unwrap();

        let options = OpenOptions {
            mode: OpenMode::Write,
            dsync: false,
        }
        .dsync();
        let file = io.open(&dir.join("wal"), options).await.unwrap();
        let flags = file.status_flags();
        assert_ne!(flags & libc::O_DSYNC, 0, "{flags:o}");
        assert_ne!(flags & libc::O_DIRECT, 0, "{flags:o}");
        let buf = write(&file, filled(&io, PAGE_BYTES, 4), 5 * PAGE).await;
        assert!(*file.read_at(5 * PAGE, PAGE_BYTES).await.unwrap() == *buf);
        assert_eq!(file.bytes().await.unwrap(), 16 * PAGE);
        file.close().await.unwrap();
    });
}

#[test]
fn a_transfer_in_parts_fails_with_the_operating_systems_code() {
    on_core(|io, dir| async move {
        let path = dir.join("f");
        let file = io.open(&path, OpenOptions::CREATE).await.unwrap();
        file.close().await.unwrap();
        let file = io.open(&path, OpenOptions::READ).await.unwrap();
        let (written, _) = file.write_at(io.alloc(2 * device::MAX_PART_BYTES), 0).await;
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EBADF));
        file.close().await.unwrap();
    });
}

#[test]
fn r14_a_full_device_is_storage_full_however_glommio_wraps_it() {
    let full = || io::Error::from_raw_os_error(libc::ENOSPC);
    let enhanced = GlommioError::<()>::EnhancedIoError {
        source: full(),
        op: "Writing",
        path: None,
        fd: Some(3),
    };
    for error in [GlommioError::IoError(full()), enhanced] {
        let error = os_error(error);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}

#[test]
fn r12_a_lock_keeps_others_out_until_it_is_dropped() {
    on_core(|io, dir| async move {
        let path = dir.join("LOCK");
        let lock = io.lock(&path).await.unwrap();
        let error = io.lock(&path).await.expect_err("it is held");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains("this process"), "{error}");
        drop(lock);
        let lock = io.lock(&path).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            std::process::id().to_string()
        );
        drop(lock);
    });
}

/// Moves one-time values into executors' `main`s, which are `Fn`.
struct Handed<T>(Vec<std::sync::Mutex<Option<T>>>);

impl<T> Handed<T> {
    fn new(values: impl IntoIterator<Item = T>) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| std::sync::Mutex::new(Some(value)))
                .collect(),
        )
    }

    fn take(&self, index: usize) -> T {
        self.0[index].lock().unwrap().take().expect("each is taken once")
    }
}

#[test]
fn messages_go_back_and_forth_between_sleeping_cores() {
    const ROUNDS: u64 = 2_000;
    let (to_first, first): (Sender<u64>, Receiver<u64>) = mailbox(4);
    let (to_second, second) = mailbox(4);
    let ends = Handed::new([(to_second, first), (to_first, second)]);
    let threads = start(&two_cores(), StartOptions::default(), move |index, _| {
        let (sender, mut receiver) = ends.take(index);
        async move {
            if index == 0 {
                sender.try_send(0).unwrap();
            }
            let mut batch = Vec::new();
            while receiver.recv_batch(&mut batch, 4).await > 0 {
                for message in batch.drain(..) {
                    if message == ROUNDS {
                        return;
                    }
                    sender.try_send(message + 1).unwrap();
                }
            }
        }
    });
    join_within_a_minute(threads.unwrap());
}

#[test]
fn foreign_threads_fill_a_mailbox_and_the_core_answers_every_one() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let (sender, receiver) = mailbox::<(u64, mpsc::Sender<u64>)>(2);
    let receivers = Handed::new([receiver]);
    let threads = start(
        &[available_cores()[0]],
        StartOptions::default(),
        move |index, _| {
            let mut receiver = receivers.take(index);
            async move {
                let mut batch = Vec::new();
                while receiver.recv_batch(&mut batch, 8).await > 0 {
                    for (n, reply) in batch.drain(..) {
                        reply.send(n * 2).expect("the caller waits");
                    }
                }
            }
        },
    );
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

#[test]
fn shares_divide_the_core_and_change_while_it_runs() {
    on_core(|io, _| async move {
        let stop = Rc::new(Cell::new(false));
        let [flush, compaction] = [Class::Flush, Class::Compaction].map(|class| {
            let steps = Rc::new(Cell::new(0));
            io.spawn(class, work(io.clone(), Rc::clone(&steps), Rc::clone(&stop)));
            steps
        });
        for (flush_shares, compaction_shares) in [(1000, 20), (20, 1000), (1000, 20)] {
            io.set_shares(Class::Flush, flush_shares);
            io.set_shares(Class::Compaction, compaction_shares);
            flush.set(0);
            compaction.set(0);
            while flush.get() + compaction.get() < 20_000 {
                io.sleep(Duration::from_millis(1)).await;
            }
            let (more, less) = if flush_shares > compaction_shares {
                (&flush, &compaction)
            } else {
                (&compaction, &flush)
            };
            // Fifty to one by the shares; three to one allows for what is left of the scheduler's memory.
            assert!(
                more.get() > 3 * less.get(),
                "{flush_shares}:{compaction_shares} {more:?} {less:?}"
            );
        }
        stop.set(true);
    });
}

#[test]
fn an_executor_that_ends_waits_for_the_write_under_way() {
    let dir = on_core(|io, dir| async move {
        let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
        let buf = filled(&io, 64 * PAGE_BYTES, 7);
        let begun = Rc::new(Cell::new(false));
        let begins = Rc::clone(&begun);
        io.spawn(Class::Flush, async move {
            let write = file.write_at(buf, 0);
            begins.set(true);
            // Never looked at: the executor has been told to end before it completes.
            let _outcome = write.await;
        });
        while !begun.get() {
            io.yield_now().await;
        }
    });
    assert_eq!(std::fs::metadata(dir.path().join("f")).unwrap().len(), 64 * PAGE);
}

#[test]
fn operations_given_up_midway_and_tasks_left_waiting_harm_nothing() {
    for _ in 0..10 {
        on_core(|io, dir| async move {
            let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
            write(&file, filled(&io, 8 * PAGE_BYTES, 8), 0).await;
            for page in 0..8 {
                let mut read = Box::pin(file.read_at(page * PAGE, PAGE_BYTES));
                // Polled once, so that it is under way, and then dropped.
                std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx).is_pending())).await;
            }
            let waits = file.clone();
            io.spawn(Class::Compaction, async move {
                std::future::pending::<()>().await;
                drop(waits);
            });
            assert_eq!(file.read_at(0, PAGE_BYTES).await.unwrap().len(), PAGE_BYTES);
        });
    }
}

#[test]
fn cores_start_and_end_again_and_again() {
    for _ in 0..10 {
        let threads = start(&two_cores(), StartOptions::default(), |_, io| async move {
            io.sleep(Duration::from_micros(10)).await;
        });
        join_within_a_minute(threads.unwrap());
    }
}

#[test]
fn the_conformance_suite_holds_on_the_real_machine() {
    on_core(|io, dir| async move { crate::io::conformance::all(io, &dir).await });
}

/// A panic drops every future of its core, and what they had begun was counted by those futures: the executor went after
/// two milliseconds, with writes on their way to the device and a rename on its thread, and the lock was free for another
/// process to be hit by them.
#[test]
fn r12_what_a_panic_drops_halfway_has_ended_when_the_core_has() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("file");
    let renamed = Arc::new(AtomicBool::new(false));
    let (written_to, renames) = (path.clone(), Arc::clone(&renamed));
    let bytes = 8 * device::MAX_PART_BYTES;
    let threads = start(&[available_cores()[0]], StartOptions::default(), move |_, io| {
        let (path, renames) = (written_to.clone(), Arc::clone(&renames));
        async move {
            let file = io.open(&path, OpenOptions::CREATE).await.expect("it is new");
            let mut buf = io.alloc(bytes);
            buf.fill(7);
            let rename = blocking::blocking(io.0.in_flight.enter(), move || {
                std::thread::sleep(Duration::from_millis(100));
                renames.store(true, Ordering::SeqCst);
                Ok(())
            });
            let (write, rename) = (Box::pin(file.write_at(buf, 0)), Box::pin(rename));
            let begun = futures_util::future::select(write, rename);
            // One turn for each: both have begun.
            let out_of_time = futures_util::future::select(begun, Box::pin(io.yield_now())).await;
            assert!(
                matches!(out_of_time, futures_util::future::Either::Left(_)),
                "as planned"
            );
        }
    })
    .expect("an executor starts here");
    for thread in threads {
        let panic = thread.join().expect_err("it panicked");
        assert!(panic.text.contains("as planned"), "{panic:?}");
        assert!(panic.settled, "what was dropped is waited for");
    }
    assert!(
        renamed.load(Ordering::SeqCst),
        "the blocking thread was waited for"
    );
    let found = std::fs::read(&path).expect("it is there");
    assert!(
        found.len() == bytes && found.iter().all(|&byte| byte == 7),
        "the write has ended whole"
    );
}
