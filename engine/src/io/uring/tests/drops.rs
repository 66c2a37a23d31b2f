//! Futures dropped at any moment, by the thousand: nothing may be left, nothing may be hit.

use std::task::Poll;

use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::io::sim::Rng;

/// Polls a future up to `polls` times with other tasks and the ring in between, then drops it; whether it had ended.
async fn give_up_after<F: Future>(io: &UringIo, polls: u64, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = futures_util::poll!(&mut future) {
            return Some(output);
        }
        io.yield_now().await;
    }
    None
}

/// One caller who begins things on a file and on names, and gives most of them up.
async fn careless_with_files(io: UringIo, dir: PathBuf, seed: u64) {
    let mut rng = Rng::new(seed);
    let path = dir.join(format!("f{seed}"));
    let file = io.open(&path, OpenOptions::CREATE).await.unwrap();
    for page in 0..8 {
        write(&file, filled(&io, PAGE_BYTES, page), page * PAGE).await;
    }
    for _ in 0..40 {
        let (page, polls) = (rng.below(8), rng.below(6));
        match rng.below(8) {
            0..3 => {
                if let Some(read) = give_up_after(&io, polls, file.read_at(page * PAGE, PAGE_BYTES)).await {
                    assert!(
                        *read.unwrap() == *filled(&io, PAGE_BYTES, page),
                        "another operation's bytes"
                    );
                }
            }
            // The same bytes again, so that it does not matter when it happens.
            3 | 4 => {
                let write = file.write_at(filled(&io, PAGE_BYTES, page), page * PAGE);
                drop(give_up_after(&io, polls, write).await);
            }
            5 => drop(give_up_after(&io, polls, io.open(&path, OpenOptions::READ)).await),
            6 => drop(give_up_after(&io, polls, file.sync_data()).await),
            _ => {
                drop(give_up_after(&io, polls, io.sync_dir(&dir)).await);
                drop(give_up_after(&io, polls, io.list_dir(&dir)).await);
                let pause = Duration::from_micros(rng.below(500));
                let _ended = give_up_after(&io, polls, io.sleep(pause)).await;
            }
        }
    }
    for page in 0..8 {
        let read = file.read_at(page * PAGE, PAGE_BYTES).await.unwrap();
        assert!(*read == *filled(&io, PAGE_BYTES, page));
    }
    if rng.below(2) == 0 {
        file.close().await.unwrap();
    }
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("less than a length")
}

/// One caller who connects, sends, receives and accepts, and gives most of it up.
async fn careless_with_sockets(io: UringIo, seed: u64) {
    let mut rng = Rng::new(seed);
    let listener = io.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut open = Vec::new();
    for _ in 0..60 {
        let polls = rng.below(6);
        match rng.below(6) {
            0 => open.extend(
                give_up_after(&io, polls, io.connect(address))
                    .await
                    .and_then(Result::ok),
            ),
            1 => open.extend(
                give_up_after(&io, polls, listener.accept())
                    .await
                    .and_then(Result::ok),
            ),
            _ if open.is_empty() => {}
            2 => {
                let stream = &open[below(&mut rng, open.len())];
                drop(give_up_after(&io, polls, stream.recv()).await);
            }
            3 => {
                let stream = &open[below(&mut rng, open.len())];
                let batch = (0..below(&mut rng, 5)).map(|n| vec![1; n * n * 20_000]).collect();
                drop(give_up_after(&io, polls, stream.send(batch)).await);
            }
            4 => {
                let stream = &open[below(&mut rng, open.len())];
                drop(give_up_after(&io, polls, stream.shutdown()).await);
            }
            _ => drop(open.swap_remove(below(&mut rng, open.len()))),
        }
    }
}

/// The counts are looked at by `on_core`, when all of it is over.
#[test]
fn futures_dropped_at_any_moment_leave_nothing() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        // A seed says all; the cases are not persisted.
        failure_persistence: None,
        ..Config::default()
    });
    let seeds = proptest::arbitrary::any::<u64>();
    let outcome = runner.run(&seeds, |seed| {
        on_core(move |io, dir| async move {
            let mut callers = Vec::new();
            for caller in 0..4 {
                let seed = seed.wrapping_add(caller);
                let files: std::pin::Pin<Box<dyn Future<Output = ()>>> =
                    Box::pin(careless_with_files(io.clone(), dir.clone(), seed));
                callers.push(files);
                callers.push(Box::pin(careless_with_sockets(io.clone(), seed)));
            }
            join_all(callers).await;
        });
        Ok(())
    });
    outcome.unwrap();
}
