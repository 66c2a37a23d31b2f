//! Each mutant must show: a harm that an honest seam never does is met under some seed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::*;
use crate::io::sim::Mutant;

/// What is found of an acknowledged page, with and without the mutant.
fn compare(mutant: Mutant, outcome: impl Fn(u64, SimDisk) -> Option<Page>, honest: Option<Page>) {
    let found = outcomes(|seed| outcome(seed, SimDisk::new()));
    assert_eq!(found, BTreeSet::from([honest]), "an honest seam");
    let found = outcomes(|seed| {
        let disk = SimDisk::new();
        disk.set_mutant(Some(mutant));
        outcome(seed, disk)
    });
    assert!(
        found.iter().any(|page| *page != honest),
        "{mutant:?} harms nothing: {found:?}"
    );
}

#[test]
fn skip_sync_loses_what_a_sync_or_dsync_promised() {
    for dsync in [false, true] {
        let outcome = |seed, disk: SimDisk| {
            disk.write("/f", &[0xaa; PAGE_BYTES]);
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
                write_page(&io, &file, 0, 0xbb).await;
                if !dsync {
                    file.sync_data().await.unwrap();
                }
            });
            Some(page(&disk, "/f", 0))
        };
        compare(Mutant::SkipSync, outcome, Some(Page::New));
    }
}

#[test]
fn ack_early_loses_an_acknowledged_dsync_write_but_readers_see_it() {
    let outcome = |seed, disk: SimDisk| {
        disk.write("/f", &[0xaa; PAGE_BYTES]);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE.dsync()).await;
            write_page(&io, &file, 0, 0xbb).await;
        });
        Some(page(&disk, "/f", 0))
    };
    compare(Mutant::AckEarly, outcome, Some(Page::New));

    let disk = disk_with_file(1);
    disk.set_mutant(Some(Mutant::AckEarly));
    run(1, &disk, 1, |machine| async move {
        let io = machine.core(0);
        let file = open(&io, "/f", OpenOptions::WRITE.dsync()).await;
        write_page(&io, &file, 0, 0xbb).await;
        let seen = file.read_at(0, PAGE_BYTES).await.unwrap();
        assert!(seen.iter().all(|b| *b == 0xbb));
    });
}

#[test]
fn skip_dir_sync_loses_a_synced_name() {
    let outcome = |seed, disk: SimDisk| {
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::CREATE.dsync()).await;
            write_page(&io, &file, 0, 0xbb).await;
            sync_dir(&io, "/").await;
        });
        disk.read("/f").map(|_| page(&disk, "/f", 0))
    };
    compare(Mutant::SkipDirSync, outcome, Some(Page::New));
}

#[test]
fn rewrite_acked_damages_the_page_before_a_write_in_flight() {
    let outcome = |seed, disk: SimDisk| {
        disk.write("/f.wal", &[0xaa; 2 * PAGE_BYTES]);
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f.wal", OpenOptions::WRITE.dsync()).await;
            write_page(&io, &file, 0, 0xbb).await;
            let mut second = Box::pin(write_page(&io, &file, 1, 0xbb));
            assert!(futures_util::poll!(&mut second).is_pending());
        });
        Some(page(&disk, "/f.wal", 0))
    };
    compare(Mutant::RewriteAcked, outcome, Some(Page::New));
}

/// Seeds under which a careful little log, cut at any of its operations, does not keep what it acknowledged.
fn broken_promises(mutant: Option<Mutant>) -> usize {
    let broken = |seed: &u64| {
        let disk = SimDisk::new();
        disk.set_mutant(mutant);
        let acknowledged = Rc::new(Cell::new(0));
        let count = Rc::clone(&acknowledged);
        let ended = run(*seed, &disk, 1, |machine| async move {
            // One creation, one directory sync, four writes.
            machine.cut_power_after(1 + seed % 6);
            let io = machine.core(0);
            let file = open(&io, "/f.wal", OpenOptions::CREATE.dsync()).await;
            sync_dir(&io, "/").await;
            for page in 0..4 {
                write_page(&io, &file, page, 0xbb).await;
                count.set(count.get() + 1);
            }
            // Under a mutant that answers early the cut may still be to come.
            pending::<()>().await;
        });
        assert_eq!(ended, None, "seed {seed}");
        disk.crash(*seed);
        let pages = disk.read("/f.wal").map_or(0, |bytes| bytes.len() / PAGE_BYTES);
        (0..acknowledged.get()).any(|index| index >= pages || page(&disk, "/f.wal", index) != Page::New)
    };
    (0..SEEDS).filter(broken).count()
}

#[test]
fn r1_r5_r9_a_crash_test_with_cuts_catches_every_mutant_and_only_mutants() {
    assert_eq!(broken_promises(None), 0);
    for mutant in Mutant::ALL {
        assert!(broken_promises(Some(mutant)) > 0, "{mutant:?} went unnoticed");
    }
}
