//! The writing driver: what it wrote is the builder's bytes, and every failing I/O is seen.

use super::memory_io::Fault;
use super::*;
use crate::error::ErrorKind;

fn entries() -> Vec<Owned> {
    let mut rng = Rng(2);
    (0..4000_u32)
        .map(|n| Owned::put(format!("key{n:08}"), u64::from(n), rng.bytes(400)))
        .collect()
}

fn write(io: &MemoryIo, entries: &[Owned]) -> Result<TableSummary> {
    block_on(async {
        let mut writer = TableWriter::create(io, path(), IDENTITY, &TableOptions::default()).await?;
        for entry in entries {
            writer.add(entry.entry());
            if writer.needs_pump()
                && let Err(error) = writer.pump().await
            {
                writer.abandon().await?;
                return Err(error);
            }
        }
        writer.finish().await
    })
}

#[test]
fn the_file_is_what_the_builder_made_with_at_most_two_writes_in_flight() {
    let io = MemoryIo::default();
    let summary = write(&io, &entries()).unwrap();
    let (bytes, expected) = build(&entries(), &TableOptions::default());
    assert_eq!(summary, expected);
    assert!(
        io.content(Path::new(&path())).unwrap() == bytes,
        "the file differs from the builder's bytes"
    );
    assert_eq!(io.most_writes_running(), 2);
}

#[test]
fn r2_every_failing_write_or_sync_is_an_error_and_leaves_no_file() {
    let clean = MemoryIo::default();
    write(&clean, &entries()).unwrap();
    let changes = clean.changes();
    assert!(changes >= 5, "{changes} writes and syncs");
    for number in 0..changes {
        let is_sync = number == changes - 1;
        for (fault, kind) in [
            (Fault::Errno(5), ErrorKind::Io),
            (Fault::Errno(28), ErrorKind::NoSpace),
            (Fault::Short, ErrorKind::NoSpace),
        ] {
            if is_sync && fault == Fault::Short {
                continue;
            }
            let io = MemoryIo::default();
            io.fail(number, fault);
            let error = write(&io, &entries()).unwrap_err();
            assert_eq!(error.kind(), kind, "I/O {number}: {fault:?}");
            assert_eq!(error.file(), Some(path().as_path()));
            assert_eq!(io.content(&path()), None, "I/O {number}: {fault:?}");
        }
    }
}

#[test]
fn r2_a_failure_is_not_forgotten_by_a_caller_who_goes_on_or_drops_a_pump_half_way() {
    let io = MemoryIo::default();
    io.fail(0, Fault::Errno(5));
    let error = block_on(async {
        let mut writer = TableWriter::create(&io, path(), IDENTITY, &TableOptions::default())
            .await
            .unwrap();
        for entry in &entries() {
            writer.add(entry.entry());
            if writer.needs_pump() {
                // Polled once and dropped: whatever it was waiting for is still in flight.
                let _ = futures_lite::future::poll_once(writer.pump()).await;
            }
        }
        writer.finish().await.unwrap_err()
    });
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Io, Some(0)));
    assert_eq!(io.content(&path()), None);

    let io = MemoryIo::default();
    let summary = block_on(async {
        let mut writer = TableWriter::create(&io, path(), IDENTITY, &TableOptions::default())
            .await
            .unwrap();
        for entry in &entries() {
            writer.add(entry.entry());
            if writer.needs_pump() {
                let _ = futures_lite::future::poll_once(writer.pump()).await;
            }
        }
        writer.finish().await.unwrap()
    });
    assert_eq!(
        io.content(&path()).unwrap(),
        build(&entries(), &TableOptions::default()).0
    );
    assert_eq!(io.content(&path()).unwrap().len() as u64, summary.bytes);
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let io = machine_with(b"precious".to_vec());
    assert_eq!(write(&io, &entries()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(io.content(&path()).unwrap(), b"precious");
}

#[test]
fn r11_a_missing_file_is_named() {
    let error = block_on(Table::open(&MemoryIo::default(), path(), IDENTITY, 4096, true)).unwrap_err();
    assert_eq!(
        (error.kind(), error.file()),
        (ErrorKind::Io, Some(path().as_path()))
    );
}
