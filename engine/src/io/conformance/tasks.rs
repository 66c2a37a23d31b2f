//! Tasks of every class, and timers.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::{Class, File, Io, OpenOptions, STALL};
use super::files::{read_bytes, write_pages};
use super::until;
use crate::types::PAGE_BYTES;

/// Tasks run, take turns, spawn others, and run under every class.
pub async fn tasks<I: Io>(io: I) {
    let done = Rc::new(RefCell::new(Vec::new()));
    for class in Class::ALL {
        io.set_shares(class, 1 + class as u32 * 10);
        let (inner, done) = (io.clone(), Rc::clone(&done));
        io.spawn(class, async move {
            inner.yield_now().await;
            let nested = Rc::clone(&done);
            inner.spawn(class, async move { nested.borrow_mut().push(class) });
        });
    }
    until(&io, "a spawned task of every class ends", || {
        done.borrow().len() == Class::ALL.len()
    })
    .await;
    done.borrow_mut().sort();
    assert_eq!(*done.borrow(), Class::ALL, "each task ran once");

    // Two tasks that only yield must both get on: neither may keep the core to itself.
    let turns = Rc::new((Cell::new(0_u32), Cell::new(0_u32)));
    let (mine, theirs) = (io.clone(), Rc::clone(&turns));
    io.spawn(Class::Foreground, async move {
        while theirs.0.get() < 100 {
            theirs.1.set(theirs.1.get() + 1);
            mine.yield_now().await;
        }
    });
    until(&io, "the other task gets a turn", || turns.1.get() > 0).await;
    for _ in 0..100 {
        turns.0.set(turns.0.get() + 1);
        io.yield_now().await;
    }
    let mut asked = 0_u32;
    let start = io.now();
    // A bounded look only: how soon a core should yield is the runtime's to say.
    while !io.should_yield() && asked < 1_000_000 {
        asked += 1;
    }
    assert!(io.now() >= start);
    let (a, b, c) = (io.random_u64(), io.random_u64(), io.random_u64());
    assert!(a != b || b != c, "random numbers differ");
}

/// Keeps the core busy as a well-behaved task does, until `stop`; counts its steps.
pub async fn work<I: Io>(io: I, steps: Rc<Cell<u64>>, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        for _ in 0..100 {
            std::hint::black_box(io.random_u64());
        }
        steps.set(steps.get() + 1);
        if io.should_yield() {
            io.yield_now().await;
        }
    }
}

/// No class starves beside a foreground that is never idle.
pub async fn classes<I: Io>(io: I) {
    let stop = Rc::new(Cell::new(false));
    io.spawn(
        Class::Foreground,
        work(io.clone(), Rc::default(), Rc::clone(&stop)),
    );
    let counts: Vec<_> = Class::ALL[1..]
        .iter()
        .map(|&class| {
            let steps = Rc::new(Cell::new(0));
            io.spawn(class, work(io.clone(), Rc::clone(&steps), Rc::clone(&stop)));
            steps
        })
        .collect();
    while counts.iter().any(|steps| steps.get() < 100) {
        io.yield_now().await;
    }
    stop.set(true);
}

/// Reads and timers complete while background work wants the whole core.
pub async fn busy_background<I: Io>(io: I, dir: &Path) {
    let file = io
        .open(&dir.join("file"), OpenOptions::CREATE)
        .await
        .expect("a new file");
    write_pages(&io, &file, 0, 1, 6).await;
    let stop = Rc::new(Cell::new(false));
    io.spawn(
        Class::Compaction,
        work(io.clone(), Rc::default(), Rc::clone(&stop)),
    );
    for _ in 0..100 {
        assert_eq!(read_bytes(&file, 0, 1).await, vec![6; PAGE_BYTES]);
        io.sleep(Duration::from_micros(100)).await;
    }
    stop.set(true);
    file.close().await.expect("closing");
}

/// Sleeping takes at least as long as asked, and deadlines are kept in order.
pub async fn timers<I: Io>(io: I) {
    let start = io.now();
    io.sleep(Duration::from_millis(5)).await;
    assert!(
        io.now() - start >= Duration::from_millis(5),
        "a sleep is not shorter than asked"
    );
    io.sleep(Duration::ZERO).await;

    let order = RefCell::new(Vec::new());
    let sleeper = |ms: u64| {
        let (io, order) = (io.clone(), &order);
        async move {
            io.sleep(Duration::from_millis(ms)).await;
            order.borrow_mut().push(ms);
        }
    };
    join_all([400, 10, 200].map(sleeper)).await;
    assert_eq!(*order.borrow(), [10, 200, 400]);

    let mut dropped = Box::pin(io.sleep(Duration::from_secs(3600)));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    let mut last = io.now();
    for _ in 0..100 {
        let now = io.now();
        assert!(now >= last, "the clock never goes back");
        last = now;
    }
    let before = io.now();
    io.yield_now().await;
    let (polled, now) = (io.polled_at(), io.now());
    assert!(
        before <= polled && polled <= now,
        "{before:?}, {polled:?}, {now:?}"
    );
    io.sleep(Duration::from_millis(1)).await;
    assert!(io.polled_at() > now, "a task is polled anew after each wait");
    if let Some(before) = io.class_times() {
        let kept = io.now();
        while io.now() - kept < 2 * STALL {}
        io.yield_now().await;
        let (class, now) = (Class::Foreground, io.class_times().expect("it counts"));
        let (before, now) = (before.of(class), now.of(class));
        assert!(
            now.stalls > before.stalls && now.longest >= 2 * STALL,
            "{before:?}, {now:?}"
        );
        assert!(now.ran - before.ran >= 2 * STALL && now.polls > before.polls);
    }
    assert!(
        io.wall_clock_ms() > 1_600_000_000_000,
        "the wall clock counts from 1970"
    );
}
