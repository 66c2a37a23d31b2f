//! What a power cut may and may not take.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::poll;

use super::*;
use crate::io::sim::{Failure, Fault, OpKind, SimMachine};

#[test]
fn a_volatile_write_is_lost_kept_or_torn_between_sectors() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(2);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
        });
        assert_eq!(
            page(&disk, "/f", 1),
            Page::Old,
            "a page that nobody wrote, seed {seed}"
        );
        page(&disk, "/f", 0)
    });
    assert_eq!(found, BTreeSet::from([Page::Old, Page::New, Page::Torn]));
}

#[test]
fn r1_a_completed_sync_keeps_what_completed_before_it() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(4);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
            file.sync_data().await.unwrap();
        });
        page(&disk, "/f", 0)
    });
    assert_eq!(found, BTreeSet::from([Page::New]));
}

#[test]
fn r1_a_sync_submitted_before_the_write_completed_does_not_keep_it() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(4);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
            let mut sync = Box::pin(file.sync_data());
            assert!(poll!(&mut sync).is_pending());
            write_page(&io, &file, 1, 0xbb).await;
            sync.await.unwrap();
        });
        assert_eq!(page(&disk, "/f", 0), Page::New, "seed {seed}");
        page(&disk, "/f", 1)
    });
    assert!(
        found.contains(&Page::Old) && found.contains(&Page::Torn),
        "{found:?}"
    );
}

#[test]
fn a_later_write_may_survive_where_an_earlier_one_is_lost() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(2);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
            write_page(&io, &file, 1, 0xbb).await;
        });
        (page(&disk, "/f", 0), page(&disk, "/f", 1))
    });
    for both in [
        (Page::Old, Page::New),
        (Page::New, Page::Old),
        (Page::New, Page::New),
    ] {
        assert!(found.contains(&both), "{both:?} in {found:?}");
    }
}

#[test]
fn r1_a_completed_dsync_write_stays_and_an_older_volatile_one_never_comes_back_over_it() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(1);
        run_and_crash(seed, &disk, |io| async move {
            let volatile = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &volatile, 0, 0xcc).await;
            let durable = open(&io, "/f", OpenOptions::WRITE.dsync()).await;
            write_page(&io, &durable, 0, 0xbb).await;
        });
        page(&disk, "/f", 0)
    });
    assert_eq!(found, BTreeSet::from([Page::New]));
}

/// A write in flight when the power goes: anything, even noise, but only where it writes.
#[test]
fn r5_a_write_in_flight_lands_whole_in_part_not_at_all_or_as_noise() {
    for dsync in [false, true] {
        let found = outcomes(|seed| {
            let disk = disk_with_file(3);
            run_and_crash(seed, &disk, |io| async move {
                let options = OpenOptions {
                    dsync,
                    ..OpenOptions::WRITE
                };
                let file = open(&io, "/f", options).await;
                let mut buf = io.alloc(PAGE_BYTES);
                buf.fill(0xbb);
                let mut write = Box::pin(file.write_at(buf, PAGE));
                assert!(poll!(&mut write).is_pending());
            });
            assert_eq!(
                (page(&disk, "/f", 0), page(&disk, "/f", 2)),
                (Page::Old, Page::Old),
                "seed {seed}"
            );
            page(&disk, "/f", 1)
        });
        assert_eq!(
            found,
            BTreeSet::from([Page::Old, Page::New, Page::Torn, Page::Garbled])
        );
    }
}

#[test]
fn an_extension_is_volatile_apart_from_its_data() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(0);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
        });
        let bytes = disk.read("/f").unwrap();
        (bytes.len(), bytes.first().copied())
    });
    let all = [(0, None), (PAGE_BYTES, Some(0)), (PAGE_BYTES, Some(0xbb))];
    assert_eq!(found, BTreeSet::from(all));
}

#[test]
fn an_extension_by_dsync_or_followed_by_a_sync_stays() {
    for (dsync, sync) in [(true, false), (false, true)] {
        for seed in 0..SEEDS {
            let disk = disk_with_file(0);
            run_and_crash(seed, &disk, |io| async move {
                let file = open(
                    &io,
                    "/f",
                    OpenOptions {
                        dsync,
                        ..OpenOptions::WRITE
                    },
                )
                .await;
                write_page(&io, &file, 1, 0xbb).await;
                if sync {
                    file.sync_data().await.unwrap();
                }
            });
            assert_eq!(sectors(&disk, "/f", 0), [Some(0); 8], "seed {seed}");
            assert_eq!(page(&disk, "/f", 1), Page::New, "seed {seed}");
        }
    }
}

#[test]
fn r4_allocated_room_is_volatile_until_synced() {
    for sync in [false, true] {
        let found = outcomes(|seed| {
            let disk = disk_with_file(0);
            run_and_crash(seed, &disk, |io| async move {
                let file = open(&io, "/f", OpenOptions::WRITE).await;
                file.allocate(4 * PAGE).await.unwrap();
                if sync {
                    file.sync_data().await.unwrap();
                }
            });
            disk.read("/f").unwrap().len() / PAGE_BYTES
        });
        assert_eq!(
            found,
            if sync {
                BTreeSet::from([4])
            } else {
                BTreeSet::from([0, 4])
            }
        );
    }
}

#[test]
fn r9_a_created_file_may_vanish_until_its_directory_is_synced() {
    for sync in [false, true] {
        let found = outcomes(|seed| {
            let disk = SimDisk::new();
            run_and_crash(seed, &disk, |io| async move {
                let file = open(&io, "/new", OpenOptions::CREATE).await;
                write_page(&io, &file, 0, 0xbb).await;
                file.sync_data().await.unwrap();
                if sync {
                    sync_dir(&io, "/").await;
                }
            });
            disk.read("/new").map(|_| page(&disk, "/new", 0))
        });
        let whole = BTreeSet::from([Some(Page::New)]);
        assert_eq!(
            found,
            if sync {
                whole
            } else {
                &whole | &BTreeSet::from([None])
            }
        );
    }
}

#[test]
fn r9_a_rename_is_old_or_new_and_after_a_directory_sync_new() {
    for sync in [false, true] {
        let found = outcomes(|seed| {
            let disk = SimDisk::new();
            disk.write("/current", &[1; PAGE_BYTES]);
            disk.write("/next", &[2; PAGE_BYTES]);
            run_and_crash(seed, &disk, |io| async move {
                io.rename(Path::new("/next"), Path::new("/current"))
                    .await
                    .unwrap();
                if sync {
                    sync_dir(&io, "/").await;
                }
            });
            (disk.read("/current").unwrap()[0], disk.read("/next").is_some())
        });
        let new = BTreeSet::from([(2, false)]);
        assert_eq!(
            found,
            if sync {
                new
            } else {
                &new | &BTreeSet::from([(1, true)])
            }
        );
    }
}

#[test]
fn r10_a_removed_file_may_come_back_whole_until_its_directory_is_synced() {
    for sync in [false, true] {
        let found = outcomes(|seed| {
            let disk = disk_with_file(1);
            run_and_crash(seed, &disk, |io| async move {
                io.remove(Path::new("/f")).await.unwrap();
                if sync {
                    sync_dir(&io, "/").await;
                }
            });
            disk.read("/f").map(|_| page(&disk, "/f", 0))
        });
        let gone = BTreeSet::from([None]);
        assert_eq!(
            found,
            if sync {
                gone
            } else {
                &gone | &BTreeSet::from([Some(Page::Old)])
            }
        );
    }
}

#[test]
fn r9_a_directory_is_durable_only_by_the_sync_of_its_parent() {
    for parent in [false, true] {
        let found = outcomes(|seed| {
            let disk = SimDisk::new();
            run_and_crash(seed, &disk, |io| async move {
                io.create_dir(Path::new("/d")).await.unwrap();
                let file = open(&io, "/d/file", OpenOptions::CREATE).await;
                write_page(&io, &file, 0, 0xbb).await;
                file.sync_data().await.unwrap();
                sync_dir(&io, "/d").await;
                if parent {
                    sync_dir(&io, "/").await;
                }
            });
            (disk.list_dir("/").len(), disk.list_dir("/d").len())
        });
        let kept = BTreeSet::from([(1, 1)]);
        assert_eq!(
            found,
            if parent {
                kept
            } else {
                &kept | &BTreeSet::from([(0, 0)])
            }
        );
    }
}

#[test]
fn names_survive_mostly_in_order_and_sometimes_in_any() {
    let mut in_order = 0;
    let found = outcomes(|seed| {
        let disk = SimDisk::new();
        run_and_crash(seed, &disk, |io| async move {
            for name in ["/a", "/b", "/c"] {
                open(&io, name, OpenOptions::CREATE).await;
            }
        });
        ["/a", "/b", "/c"].map(|name| disk.read(name).is_some())
    });
    for kept in &found {
        in_order += usize::from(kept.is_sorted_by(|a, b| a >= b));
    }
    assert_eq!(
        (in_order, found.len()),
        (4, 8),
        "every prefix and every subset: {found:?}"
    );
}

#[test]
fn r3_after_a_failed_sync_its_writes_are_gone_though_later_syncs_say_ok() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(2);
        disk.inject(Fault::new(Failure::Eio).on(OpKind::Sync).times(1));
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            write_page(&io, &file, 0, 0xbb).await;
            assert_eq!(file.sync_data().await.unwrap_err().raw_os_error(), Some(5));
            write_page(&io, &file, 1, 0xbb).await;
            file.sync_data().await.unwrap();
            let seen = file.read_at(0, PAGE_BYTES).await.unwrap();
            assert!(
                seen.iter().all(|b| *b == 0xbb),
                "readers go on seeing the lost write"
            );
        });
        (page(&disk, "/f", 0), page(&disk, "/f", 1))
    });
    assert_eq!(found, BTreeSet::from([(Page::Old, Page::New)]));
}

#[test]
fn r8_a_second_crash_takes_nothing_more() {
    for seed in 0..SEEDS {
        let disk = disk_with_file(4);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            for page in 0..4 {
                write_page(&io, &file, page, 0xbb).await;
            }
            open(&io, "/g", OpenOptions::CREATE).await;
        });
        let (files, bytes) = (disk.files(), disk.read("/f"));
        disk.crash(seed + 1);
        assert_eq!((files, bytes), (disk.files(), disk.read("/f")), "seed {seed}");
    }
}

#[test]
fn a_fork_crashes_the_same_moment_in_another_way_and_leaves_the_first_alone() {
    let disk = disk_with_file(1);
    let machine = SimMachine::new(1, &disk, 1);
    machine.run_until(async {
        let io = machine.core(0);
        let file = open(&io, "/f", OpenOptions::WRITE).await;
        write_page(&io, &file, 0, 0xbb).await;
    });
    let found = outcomes(|seed| {
        let fork = disk.fork();
        fork.crash(seed);
        page(&fork, "/f", 0)
    });
    assert_eq!(found, BTreeSet::from([Page::Old, Page::New, Page::Torn]));
    assert_eq!(page(&disk, "/f", 0), Page::New);
}

#[test]
fn an_equal_seed_crashes_equally() {
    for seed in 0..20 {
        let found = [0, 1].map(|_| {
            let disk = disk_with_file(4);
            run_and_crash(seed, &disk, |io| async move {
                let file = open(&io, "/f", OpenOptions::WRITE).await;
                for page in 0..4 {
                    write_page(&io, &file, page, 0xbb).await;
                }
            });
            disk.read("/f")
        });
        assert_eq!(found[0], found[1], "seed {seed}");
    }
}
