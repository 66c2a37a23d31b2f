//! The scheduler, the clock, power cuts and kills.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::*;
use crate::io::Class;
use crate::io::sim::SimMachine;

/// Some of everything on two cores; the digest of the run and the order in which its tasks ended.
fn traced(seed: u64) -> (u64, Vec<u64>) {
    let disk = disk_with_file(8);
    let order = Rc::new(RefCell::new(Vec::new()));
    let ended = Rc::clone(&order);
    let trace = run(seed, &disk, 2, |machine| async move {
        for number in 0..8_u64 {
            let io = machine.core(usize::from(number % 2 == 0));
            let (task, ended) = (io.clone(), Rc::clone(&ended));
            io.spawn(Class::Foreground, async move {
                let file = open(&task, "/f", OpenOptions::WRITE).await;
                write_page(&task, &file, number, 0xbb).await;
                task.yield_now().await;
                ended.borrow_mut().push(number);
            });
        }
        while ended.borrow().len() < 8 {
            machine.core(0).sleep(Duration::from_millis(1)).await;
        }
        machine.trace_hash()
    });
    let order = order.borrow().clone();
    (trace.unwrap(), order)
}

#[test]
fn an_equal_seed_gives_an_equal_run_and_another_seed_another() {
    let runs: Vec<_> = (0..20).map(traced).collect();
    assert_eq!(runs, (0..20).map(traced).collect::<Vec<_>>());
    let traces: BTreeSet<u64> = runs.iter().map(|run| run.0).collect();
    let orders: BTreeSet<&Vec<u64>> = runs.iter().map(|run| &run.1).collect();
    assert_eq!(traces.len(), 20);
    assert!(orders.len() > 10, "completions come in many orders: {orders:?}");
}

#[test]
#[should_panic(expected = "deadlock")]
fn waiting_for_nothing_is_a_deadlock() {
    run(1, &SimDisk::new(), 1, |_| pending::<()>());
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_dropped_timer_does_not_hide_a_deadlock() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        let mut sleep = Box::pin(machine.core(0).sleep(Duration::from_secs(1)));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        drop(sleep);
        pending::<()>().await;
    });
}

#[test]
#[should_panic(expected = "no end after 1000 steps")]
fn an_endless_loop_meets_the_step_limit() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(1000);
        loop {
            machine.core(0).yield_now().await;
        }
    });
}

#[test]
#[should_panic(expected = "the task's own words")]
fn a_panic_in_a_task_reaches_the_caller() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine
            .core(0)
            .spawn(Class::Flush, async { panic!("the task's own words") });
        machine.core(0).sleep(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_waker_works_from_another_thread() {
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let woken = Rc::clone(&waker);
    run(1, &SimDisk::new(), 2, |machine| async move {
        let polled = Rc::new(Cell::new(0));
        let count = Rc::clone(&polled);
        machine.core(1).spawn(
            Class::Foreground,
            poll_fn(move |cx| {
                count.set(count.get() + 1);
                *waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }),
        );
        machine.core(0).sleep(Duration::from_millis(1)).await;
        assert_eq!(polled.get(), 1, "a task that nobody wakes does not run");
        let waker = woken.borrow().clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake_by_ref());
        });
        machine.core(0).sleep(Duration::from_millis(1)).await;
        assert_eq!(polled.get(), 2, "two wakes before a run would be one");
    });
}

#[test]
fn time_passes_without_waiting_and_in_loops_that_never_await() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        let io = machine.core(0);
        let start = io.now();
        io.sleep(Duration::from_secs(86_400)).await;
        assert!(io.now() - start >= Duration::from_secs(86_400));
        let start = io.now();
        while io.now() - start < Duration::from_micros(200) {}
        while !io.should_yield() {}
    });
}

#[test]
fn a_more_urgent_task_asks_a_less_urgent_one_to_yield() {
    run(3, &SimDisk::new(), 1, |machine| async move {
        let io = machine.core(0);
        let asked = Rc::new(Cell::new(0));
        let (inner, count) = (io.clone(), Rc::clone(&asked));
        io.spawn(Class::Compaction, async move {
            inner.spawn(Class::Foreground, async {});
            // The coin alone would say no in most of these.
            count.set((0..50).filter(|_| inner.should_yield()).count());
        });
        io.sleep(Duration::from_millis(1)).await;
        assert_eq!(asked.get(), 50);
    });
}

#[test]
fn a_class_with_more_shares_gets_more_turns_and_none_starves() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        let io = machine.core(0);
        io.set_shares(Class::Foreground, 900);
        io.set_shares(Class::Compaction, 100);
        let turns = Rc::new(RefCell::new([0_u32; 2]));
        for (index, class) in [Class::Foreground, Class::Compaction].into_iter().enumerate() {
            let (io, turns) = (io.clone(), Rc::clone(&turns));
            io.clone().spawn(class, async move {
                loop {
                    turns.borrow_mut()[index] += 1;
                    io.yield_now().await;
                }
            });
        }
        io.sleep(Duration::from_millis(10)).await;
        let [more, less] = *turns.borrow();
        assert!(less > 100 && more > 4 * less, "{more} and {less} turns");
    });
}

/// Says when it is dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_power_cut_drops_every_task_and_ends_everything() {
    let dropped = Rc::new(Cell::new(0));
    let disk = disk_with_file(1);
    let machine = SimMachine::new(1, &disk, 2);
    for core in 0..2 {
        let (io, guard) = (machine.core(core), Dropped(Rc::clone(&dropped)));
        machine.core(core).spawn(Class::Foreground, async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            loop {
                write_page(&io, &file, 0, 0xbb).await;
                let _ = &guard;
            }
        });
    }
    assert_eq!(machine.run_for(Duration::from_millis(5)), Some(()));
    machine.cut_power();
    assert_eq!(machine.run_for(Duration::from_millis(5)), None);
    assert_eq!(dropped.get(), 2);
    assert_eq!(machine.run_until(async { 1 }), None, "nothing runs any more");
    drop(machine);
    disk.crash(1);
}

#[test]
fn the_end_of_a_run_drops_the_tasks_that_still_wait() {
    let dropped = Rc::new(Cell::new(0));
    let disk = disk_with_file(1);
    run(1, &disk, 1, |machine| {
        let (io, guard) = (machine.core(0), Dropped(Rc::clone(&dropped)));
        machine.core(0).spawn(Class::Maintenance, async move {
            let _file = open(&io, "/f", OpenOptions::READ).await;
            pending::<()>().await;
            drop(guard);
        });
        let io = machine.core(0);
        async move { io.sleep(Duration::from_millis(10)).await }
    });
    assert_eq!(dropped.get(), 1);
    disk.remove("/f");
    let root_alone = SimDisk::new().free_bytes();
    assert_eq!(disk.free_bytes(), root_alone, "its files are closed too");
}

#[test]
#[should_panic(expected = "call SimDisk::crash first")]
fn a_disk_that_lost_power_is_not_used_before_its_crash_is_drawn() {
    let disk = SimDisk::new();
    let machine = SimMachine::new(1, &disk, 1);
    machine.cut_power();
    SimMachine::new(2, &disk, 1);
}

/// How many of three pages written one after another by `dsync` were acknowledged when the power went at `cut`.
fn acknowledged(seed: u64, disk: &SimDisk, cut: Option<u64>) -> (Option<u64>, usize) {
    let acknowledged = Rc::new(Cell::new(0));
    let count = Rc::clone(&acknowledged);
    let ops = run(seed, disk, 1, |machine| async move {
        if let Some(cut) = cut {
            machine.cut_power_after(cut);
        }
        let io = machine.core(0);
        let file = open(&io, "/f", OpenOptions::WRITE.dsync()).await;
        for page in 0..3 {
            write_page(&io, &file, page, 0xbb).await;
            count.set(count.get() + 1);
        }
        machine.disk_ops()
    });
    (ops, acknowledged.get())
}

#[test]
fn r1_a_cut_at_every_operation_keeps_what_was_acknowledged() {
    let (ops, all) = acknowledged(0, &disk_with_file(3), None);
    assert_eq!((ops, all), (Some(4), 3), "one open and three writes");
    let mut unacknowledged_but_there = 0;
    for seed in 0..100 {
        for cut in 1..=4 {
            let disk = disk_with_file(3);
            let (ended, count) = acknowledged(seed, &disk, Some(cut));
            assert_eq!(ended, None, "seed {seed}, cut {cut}");
            assert!(count < 3, "the last write is cut before its answer");
            disk.crash(seed);
            for index in 0..count {
                assert_eq!(
                    page(&disk, "/f", index),
                    Page::New,
                    "seed {seed}, cut {cut}, page {index}"
                );
            }
            unacknowledged_but_there += u32::from(page(&disk, "/f", count) == Page::New);
        }
        let (ended, _) = acknowledged(seed, &disk_with_file(3), Some(5));
        assert_eq!(ended, Some(4), "a cut that is never reached");
    }
    assert!(
        unacknowledged_but_there > 20,
        "a cut may fall on a completion too"
    );
}

#[test]
fn r12_a_lock_is_released_by_a_kill_and_by_a_crash() {
    let disk = SimDisk::new();
    for crash in [false, true] {
        let ended = run(1, &disk, 2, |machine| async move {
            let held = machine.core(0).lock(Path::new("/LOCK")).await.unwrap();
            let refused = machine.core(1).lock(Path::new("/LOCK")).await.err().unwrap();
            assert_eq!(refused.kind(), ErrorKind::WouldBlock);
            assert!(refused.to_string().contains("process"), "{refused}");
            if crash {
                machine.cut_power();
            } else {
                machine.kill();
            }
            machine.core(0).yield_now().await;
            drop(held);
        });
        assert_eq!(ended, None);
        if crash {
            disk.crash(1);
        }
        let locked = run(2, &disk, 1, |machine| async move {
            machine.core(0).lock(Path::new("/LOCK")).await.is_ok()
        });
        assert_eq!(locked, Some(true));
    }
}

#[test]
fn a_killed_process_leaves_its_submitted_and_its_volatile_writes_to_the_next() {
    for seed in 0..50 {
        let disk = disk_with_file(2);
        let ended = run(seed, &disk, 1, |machine| async move {
            let io = machine.core(0);
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
            let mut second = Box::pin(write_page(&io, &file, 1, 0xbb));
            assert!(futures_util::poll!(&mut second).is_pending());
            machine.kill();
            second.await;
        });
        assert_eq!(ended, None);
        assert_eq!(
            (page(&disk, "/f", 0), page(&disk, "/f", 1)),
            (Page::New, Page::New)
        );
    }
}

#[test]
fn r18_the_wall_clock_jumps_both_ways_while_the_other_clock_goes_on() {
    const DAY_MS: i64 = 86_400_000;
    let disk = SimDisk::new();
    let last = run(1, &disk, 1, |machine| async move {
        let io = machine.core(0);
        let (wall, now) = (io.wall_clock_ms(), io.now());
        machine.jump_wall_clock(DAY_MS);
        assert_eq!(io.wall_clock_ms(), wall + DAY_MS.unsigned_abs());
        machine.jump_wall_clock(-2 * DAY_MS);
        assert_eq!(io.wall_clock_ms(), wall - DAY_MS.unsigned_abs());
        assert!(io.now() > now);
        io.sleep(Duration::from_millis(10)).await;
        io.wall_clock_ms()
    });
    let next = run(
        2,
        &disk,
        1,
        |machine| async move { machine.core(0).wall_clock_ms() },
    );
    assert_eq!(next, last, "the next machine starts at the same hour");
}

#[test]
fn a_read_that_meets_a_write_in_flight_may_see_parts_of_it() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(1);
        run(seed, &disk, 1, |machine| async move {
            let io = machine.core(0);
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            let (read, ()) = join(file.read_at(0, PAGE_BYTES), write_page(&io, &file, 0, 0xbb)).await;
            let seen: BTreeSet<u8> = read.unwrap().iter().copied().collect();
            seen.len()
        })
    });
    assert_eq!(found, BTreeSet::from([Some(1), Some(2)]));
}

#[test]
fn operations_under_way_together_complete_in_many_orders() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(3);
        run(seed, &disk, 1, |machine| async move {
            let io = machine.core(0);
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            let order = RefCell::new(Vec::new());
            join_all((0..3).map(|index| {
                let (file, order) = (&file, &order);
                async move {
                    file.read_at(index * PAGE, PAGE_BYTES).await.unwrap();
                    order.borrow_mut().push(index);
                }
            }))
            .await;
            order.into_inner()
        })
    });
    assert_eq!(found.len(), 6, "{found:?}");
}
