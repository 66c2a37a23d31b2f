//! How a core starts and ends, and what it leaves: nothing under way, nothing open.

use super::*;

#[test]
fn a_core_that_does_not_exist_starts_nothing() {
    let real = available_cores()[0];
    let error = start(&[real, 1 << 20], StartOptions::default(), |_, _| async {
        panic!("it must not run")
    })
    .expect_err("there is no such core");
    assert!(error.to_string().contains("core 1048576"), "{error}");
}

#[test]
fn a_panic_comes_back_as_text() {
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), |index, _| async move {
        assert_ne!(index, 0, "the reason");
    });
    for end in ends_within_a_minute(threads.expect("a core starts here")) {
        let panic = end.expect_err("it panicked");
        assert!(panic.text.contains("the reason"), "{panic:?}");
        assert!(panic.settled, "nothing was under way");
    }
}

#[test]
fn cores_start_and_end_again_and_again_and_leave_no_descriptor() {
    let cores = available_cores();
    let rings = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().contains("io_uring"))
            .count()
    };
    for _ in 0..50 {
        let two = [cores[0], cores[cores.len() - 1]];
        let threads = start(&two, StartOptions::default(), |_, io| async move {
            io.sleep(Duration::from_micros(10)).await;
        });
        join_within_a_minute(threads.unwrap());
    }
    // Tests beside this one have rings of their own, but not fifty.
    assert!(rings() < 50, "{} rings are open", rings());
}

#[test]
fn a_core_that_ends_waits_for_the_write_under_way() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("f");
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), move |_, io| {
        let path = path.clone();
        async move {
            let file = io.open(&path, OpenOptions::CREATE).await.unwrap();
            let buf = filled(&io, 64 * PAGE_BYTES, 7);
            let begun = Rc::new(Cell::new(false));
            let begins = Rc::clone(&begun);
            io.spawn(Class::Flush, async move {
                begins.set(true);
                // Never looked at: the core has been told to end before it completes.
                let _outcome = file.write_at(buf, 0).await;
            });
            while !begun.get() {
                io.yield_now().await;
            }
        }
    });
    join_within_a_minute(threads.unwrap());
    let found = std::fs::metadata(dir.path().join("f")).unwrap().len();
    assert_eq!(found, 64 * PAGE);
}

/// What waits for its turn to be sent the kernel has never seen.
#[test]
fn a_core_may_end_with_sends_that_wait_for_their_turn() {
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), move |_, io| async move {
        for _ in 0..40 {
            let (sender, receiver) = connected(&io).await;
            io.spawn(Class::Foreground, async move {
                let _receiver = receiver;
                let _outcome = sender.send(vec![vec![1; 1 << 20]]).await;
            });
        }
        while io.0.reactor.waiting() == 0 {
            io.yield_now().await;
        }
    });
    join_within_a_minute(threads.unwrap());
}

/// A connection that nobody speaks on and a listener that nobody connects to wait for ever; the core does not.
#[test]
fn a_core_that_ends_cancels_what_waits_for_others() {
    let core = available_cores()[0];
    let threads = start(&[core], StartOptions::default(), move |_, io| async move {
        let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let (client, server) = connected(&io).await;
        let waiting = client.clone();
        io.spawn(Class::Foreground, async move {
            let _nothing = waiting.recv().await;
        });
        io.spawn(Class::Foreground, async move {
            let _nobody = listener.accept().await;
        });
        // More than the sockets hold, to a peer that does not read.
        io.spawn(Class::Foreground, async move {
            let _stuck = client.send(vec![vec![1; 32 << 20]]).await;
        });
        io.sleep(Duration::from_millis(20)).await;
        drop(server);
    });
    let before = std::time::Instant::now();
    join_within_a_minute(threads.unwrap());
    assert!(
        before.elapsed() < Duration::from_secs(4),
        "it was not waited for in vain"
    );
}

/// A panic drops every future of its core; what they had begun must be over when the core is, for the next opener of its
/// files must not be hit by it (R12).
#[test]
fn r12_what_a_panic_drops_halfway_has_ended_when_the_core_has() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("file");
    let called = Arc::new(AtomicBool::new(false));
    let (written_to, calls) = (path.clone(), Arc::clone(&called));
    let bytes = 4 << 20;
    let threads = start(&[available_cores()[0]], StartOptions::default(), move |_, io| {
        let (path, calls) = (written_to.clone(), Arc::clone(&calls));
        async move {
            let file = io.open(&path, OpenOptions::CREATE).await.expect("it is new");
            let mut buf = io.alloc(bytes);
            buf.fill(7);
            let call = io.0.reactor.blocking.run(move || {
                std::thread::sleep(Duration::from_millis(100));
                calls.store(true, Ordering::SeqCst);
                Ok(())
            });
            let (write, call) = (Box::pin(file.write_at(buf, 0)), Box::pin(call));
            let begun = futures_util::future::select(write, call);
            // One turn for each: both have begun.
            let out_of_time = futures_util::future::select(begun, Box::pin(io.yield_now())).await;
            assert!(
                matches!(out_of_time, futures_util::future::Either::Left(_)),
                "as planned"
            );
        }
    });
    for end in ends_within_a_minute(threads.expect("a core starts here")) {
        let panic = end.expect_err("it panicked");
        assert!(panic.text.contains("as planned"), "{panic:?}");
        assert!(panic.settled, "what was dropped is waited for");
    }
    assert!(
        called.load(Ordering::SeqCst),
        "the blocking thread was waited for"
    );
    let found = std::fs::read(&path).expect("it is there");
    assert!(
        found.len() == bytes && found.iter().all(|&byte| byte == 7),
        "the write has ended whole"
    );
}

/// Processor time of this thread so far, in clock ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_core_takes_next_to_no_time_though_it_may_spin() {
    let options = StartOptions {
        spin_before_park_us: 100,
        ..StartOptions::default()
    };
    let taken = Arc::new(AtomicU64::new(u64::MAX));
    let takes = Arc::clone(&taken);
    let threads = start(&[available_cores()[0]], options, move |_, io| {
        let takes = Arc::clone(&takes);
        async move {
            let before = ticks();
            for _ in 0..50 {
                io.sleep(Duration::from_millis(20)).await;
            }
            takes.store(ticks() - before, Ordering::SeqCst);
        }
    });
    join_within_a_minute(threads.unwrap());
    // Of a hundred ticks.
    assert!(
        taken.load(Ordering::SeqCst) <= 5,
        "{taken:?} hundredths of the core"
    );
}
