//! Files: registered or not, short of room, given up halfway.

use super::*;

#[test]
fn r1_a_file_opened_with_dsync_has_the_flag() {
    on_core(|io, dir| async move {
        let path = dir.join("wal");
        let file = io.open(&path, OpenOptions::CREATE.dsync()).await.unwrap();
        write(&file, filled(&io, PAGE_BYTES, 4), 0).await;
        let flags = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
            .map(|entry| std::path::Path::new("/proc/self/fdinfo").join(entry.file_name()))
            .map(|info| std::fs::read_to_string(info).unwrap())
            .expect("the file is open");
        let octal = flags
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(octal.trim(), 8).unwrap();
        assert_ne!(flags & libc::O_DSYNC, 0, "{flags:o}");
        assert_ne!(flags & libc::O_DIRECT, 0, "{flags:o}");
        file.close().await.unwrap();
    });
}

#[test]
fn more_files_than_can_be_registered_work_all_the_same() {
    on_core(|io, dir| async move {
        let open = async |n: u64| {
            let path = dir.join(n.to_string());
            let file = io.open(&path, OpenOptions::CREATE).await.unwrap();
            write(&file, filled(&io, PAGE_BYTES, n), 0).await;
            file
        };
        let mut files = Vec::new();
        for n in 0..20 {
            files.push(open(n).await);
        }
        assert_eq!((held(&io).registered_files, held(&io).files), (8, 20));
        // Places that come free are used again.
        files.remove(0).close().await.unwrap();
        files.push(open(20).await);
        assert_eq!(held(&io).registered_files, 8);
        for (file, n) in files.into_iter().zip(1..) {
            assert!(*file.read_at(0, PAGE_BYTES).await.unwrap() == *filled(&io, PAGE_BYTES, n));
            file.close().await.unwrap();
        }
    });
}

/// A place in the table of registered files keeps the file open as a descriptor does, and ext4 gives room back only when
/// nobody has it open (R14). A lock shows it: it ends with the last reference.
#[test]
fn r14_a_closed_file_is_open_nowhere() {
    on_core(|io, dir| async move {
        let path = dir.join("f");
        let reactor = Rc::clone(&io.0.reactor);
        let open = Operation::Open {
            path: file::c_path(&path).unwrap(),
            flags: libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC,
        };
        let (_operation, completion) = reactor.run(open).await;
        let fd = completion.into_opened().unwrap();
        let file = Descriptor::new(Rc::clone(&reactor), fd, true);
        assert_eq!(held(&io).registered_files, 1);
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let other = std::fs::File::open(&path).unwrap();
        assert!(other.try_lock().is_err(), "it is open");
        file.close().await.unwrap();
        for _ in 0..5_000 {
            if other.try_lock().is_ok() {
                return;
            }
            io.sleep(Duration::from_millis(1)).await;
        }
        panic!("somebody has it open still");
    });
}

/// `/dev/full` takes no byte; a loop device with a filesystem that fills up is for the engine's own test.
#[test]
fn r14_a_full_device_is_storage_full() {
    on_core(|io, _| async move {
        let reactor = Rc::clone(&io.0.reactor);
        let full = Operation::Open {
            path: c"/dev/full".to_owned(),
            flags: libc::O_WRONLY,
        };
        let (_operation, completion) = reactor.run(full).await;
        let file = Rc::new(Descriptor::new(
            Rc::clone(&reactor),
            completion.into_opened().unwrap(),
            true,
        ));
        let write = Operation::Write {
            file,
            buf: reactor.arena().take(PAGE_BYTES),
            position: 0,
        };
        let (_operation, completion) = reactor.run(write).await;
        let error = completion.result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    });
}

/// A merge that reads many inputs ahead had every read with the device at once: a foreground read waited behind all of them.
/// Now its class has a few there and the rest waits, in whatever state the merge's future is; what is given up while it waits
/// is gone.
#[test]
fn a_foreground_read_passes_the_backlog_of_a_merge() {
    const READS: usize = 100;
    on_core(|io, dir| async move {
        let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
        write(&file, filled(&io, 64 * PAGE_BYTES, 8), 0).await;
        let before = held(&io).operations;
        let stop = Rc::new(Cell::new(false));
        let (merge, stopped) = (file.clone(), Rc::clone(&stop));
        io.spawn(Class::Compaction, async move {
            let reads = (0..READS).map(|_| merge.read_at(0, 64 * PAGE_BYTES));
            // As a merge does: it begins its reads, and looks at none of them for as long as it has other work.
            let mut reads: Vec<_> = reads.map(Box::pin).collect();
            for read in &mut reads {
                assert!(futures_lite::future::poll_once(read).await.is_none());
            }
            while !stopped.get() {
                futures_lite::future::yield_now().await;
            }
            for read in reads.drain(..READS / 2) {
                assert_eq!(read.await.unwrap().len(), 64 * PAGE_BYTES);
            }
        });
        while held(&io).operations < before + READS as u64 {
            io.yield_now().await;
        }
        let waiting = io.0.reactor.waiting();
        let mut read = Box::pin(file.read_at(0, PAGE_BYTES));
        assert!(futures_lite::future::poll_once(&mut read).await.is_none());
        assert!(waiting > READS / 2, "{waiting} of {READS} wait");
        assert_eq!(io.0.reactor.waiting(), waiting, "the foreground does not");
        assert_eq!(read.await.unwrap().len(), PAGE_BYTES);
        while io.0.reactor.waiting() > 0 {
            // Completions alone bring them on: the merge does not look.
            io.sleep(Duration::from_micros(100)).await;
        }
        stop.set(true);
        // Given up while it waits, and never asked of the device.
        let given_up = file.clone();
        io.spawn(Class::Maintenance, async move {
            let mut reads: Vec<_> = (0..10)
                .map(|_| Box::pin(given_up.read_at(0, PAGE_BYTES)))
                .collect();
            for read in &mut reads {
                assert!(futures_lite::future::poll_once(read).await.is_none());
            }
        });
        file.close().await.unwrap();
    });
}

/// The second of two long reads waits for its turn while there is room for it: nothing else ends a sleep before the first is
/// back, and a quiet core had one read with the device where it may have four.
#[test]
fn the_loop_does_not_sleep_while_a_read_waits_for_its_turn() {
    on_core(|io, dir| async move {
        let file = io.open(&dir.join("f"), OpenOptions::CREATE).await.unwrap();
        write(&file, filled(&io, 64 * PAGE_BYTES, 8), 0).await;
        let (merge, reactor) = (file.clone(), Rc::clone(&io.0.reactor));
        let reads = Rc::new(Cell::new(0));
        let read = Rc::clone(&reads);
        io.spawn(Class::Compaction, async move {
            let mut both = [0, 0].map(|position| Box::pin(merge.read_at(position, 64 * PAGE_BYTES)));
            for read in &mut both {
                assert!(futures_lite::future::poll_once(read).await.is_none());
            }
            assert_eq!(reactor.waiting(), 1);
            assert!(reactor.has_more_to_hand_over());
            for read in both {
                assert_eq!(read.await.unwrap().len(), 64 * PAGE_BYTES);
            }
            assert!(!reactor.has_more_to_hand_over());
            read.set(2);
        });
        while reads.get() < 2 {
            io.sleep(Duration::from_micros(100)).await;
        }
        file.close().await.unwrap();
    });
}

/// An open whose future is gone before its completion has opened a file that nobody knows of.
#[test]
fn an_open_that_nobody_waits_for_leaves_no_descriptor() {
    on_core(|io, dir| async move {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        for n in 0..50 {
            let mut open = Box::pin(io.open(&dir.join(n.to_string()), OpenOptions::CREATE));
            let _begun = futures_util::poll!(&mut open);
        }
        io.sleep(Duration::from_millis(20)).await;
        nothing_is_held(&io).await;
        let left = descriptors()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.starts_with(&dir))
            .count();
        assert_eq!(left, 0);
        assert_eq!(
            io.list_dir(&dir).await.unwrap().len(),
            50,
            "they had begun, and ended"
        );
    });
}
