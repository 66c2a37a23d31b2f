//! Files: what is written is read, however long and however many at a time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::super::{File, Io, OpenOptions};
use crate::types::PAGE_BYTES;

/// The page, as positions count.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;

/// A buffer of `pages` pages of `byte`.
pub(super) fn filled<I: Io>(io: &I, pages: usize, byte: u8) -> <I::File as File>::WriteBuf {
    let mut buf = io.alloc(pages * PAGE_BYTES);
    assert_eq!(buf.len(), pages * PAGE_BYTES, "a buffer is as long as asked");
    buf.fill(byte);
    buf
}

/// Writes `pages` pages of `byte`, from `page` on.
pub(super) async fn write_pages<I: Io>(io: &I, file: &I::File, page: u64, pages: usize, byte: u8) {
    let (written, buf) = file.write_at(filled(io, pages, byte), page * PAGE).await;
    assert_eq!(written.expect("a write succeeds"), pages * PAGE_BYTES);
    assert!(
        buf.len() == pages * PAGE_BYTES && buf.iter().all(|&b| b == byte),
        "a write gives its buffer back"
    );
}

/// Reads up to `pages` pages, from `page` on.
pub(super) async fn read_bytes<F: File>(file: &F, page: u64, pages: usize) -> Vec<u8> {
    file.read_at(page * PAGE, pages * PAGE_BYTES)
        .await
        .expect("a read succeeds")
        .to_vec()
}

/// Create, write, read, sync, reopen, share, `dsync`.
pub async fn files<I: Io>(io: I, dir: &Path) {
    let path = dir.join("00000001.sst");
    let file = io.open(&path, OpenOptions::CREATE).await.expect("a new file");
    assert_eq!(file.bytes().await.expect("a length"), 0);
    write_pages(&io, &file, 0, 3, 1).await;
    write_pages(&io, &file, 1, 1, 2).await;
    let want = [vec![1; PAGE_BYTES], vec![2; PAGE_BYTES], vec![1; PAGE_BYTES]].concat();
    assert_eq!(
        read_bytes(&file, 0, 3).await,
        want,
        "a completed write is read back"
    );
    file.sync_data().await.expect("a sync");
    io.sync_dir(dir).await.expect("a directory sync");

    let other = file.clone();
    file.close().await.expect("closing one clone");
    assert_eq!(
        read_bytes(&other, 1, 1).await,
        want[PAGE_BYTES..2 * PAGE_BYTES],
        "the other clone stays open"
    );
    other.close().await.expect("closing the last clone");

    let reader = io
        .open(&path, OpenOptions::READ)
        .await
        .expect("reopening to read");
    assert_eq!(read_bytes(&reader, 0, 3).await, want);
    let writer = io
        .open(&path, OpenOptions::WRITE.dsync())
        .await
        .expect("reopening to write");
    write_pages(&io, &writer, 2, 2, 3).await;
    assert_eq!(
        read_bytes(&reader, 2, 2).await,
        vec![3; 2 * PAGE_BYTES],
        "another descriptor sees the write"
    );
    assert_eq!(reader.bytes().await.expect("a length"), 4 * PAGE);

    io.remove(&path).await.expect("removing an open file");
    assert_eq!(
        read_bytes(&reader, 3, 1).await,
        vec![3; PAGE_BYTES],
        "an open file outlives its name"
    );
    reader.close().await.expect("closing");
    writer.close().await.expect("closing");
}

/// Ends of files, holes, allocated room.
pub async fn lengths<I: Io>(io: I, dir: &Path) {
    let path = dir.join("00000001.wal");
    let file = io
        .open(&path, OpenOptions::CREATE.dsync())
        .await
        .expect("a new file");
    assert!(
        read_bytes(&file, 0, 1).await.is_empty(),
        "an empty file reads as nothing"
    );
    write_pages(&io, &file, 0, 2, 7).await;
    assert_eq!(
        read_bytes(&file, 1, 4).await,
        vec![7; PAGE_BYTES],
        "a read ends with the file"
    );
    assert!(
        read_bytes(&file, 2, 1).await.is_empty(),
        "nothing is read at the end"
    );
    assert!(
        read_bytes(&file, 100, 1).await.is_empty(),
        "nothing is read beyond the end"
    );
    assert!(
        read_bytes(&file, 0, 0).await.is_empty(),
        "nothing is read where nothing is asked for"
    );

    write_pages(&io, &file, 4, 1, 8).await;
    assert_eq!(
        read_bytes(&file, 2, 2).await,
        vec![0; 2 * PAGE_BYTES],
        "a hole reads as zeros"
    );
    assert_eq!(file.bytes().await.expect("a length"), 5 * PAGE);

    file.allocate(16 * PAGE).await.expect("room");
    assert_eq!(
        file.bytes().await.expect("a length"),
        16 * PAGE,
        "allocated room is in the length"
    );
    assert_eq!(
        read_bytes(&file, 5, 20).await,
        vec![0; 11 * PAGE_BYTES],
        "unwritten room reads as zeros"
    );
    assert_eq!(
        read_bytes(&file, 4, 1).await,
        vec![8; PAGE_BYTES],
        "room does not change what is written"
    );
    file.allocate(8 * PAGE).await.expect("room that is there already");
    assert_eq!(
        file.bytes().await.expect("a length"),
        16 * PAGE,
        "allocating less does not shorten"
    );
    write_pages(&io, &file, 15, 1, 9).await;
    file.sync_data().await.expect("a sync");
    assert_eq!(read_bytes(&file, 15, 1).await, vec![9; PAGE_BYTES]);
    file.close().await.expect("closing");
}

/// Longer than a device takes at once, than a bio, and than the longest piece of an arena.
pub async fn long_transfers<I: Io>(io: I, dir: &Path) {
    const PAGES: usize = 5 * 256 + 5;
    let file = io
        .open(&dir.join("file"), OpenOptions::CREATE)
        .await
        .expect("a new file");
    let mut buf = io.alloc(PAGES * PAGE_BYTES);
    for (page, bytes) in (0_u32..).zip(buf.chunks_exact_mut(PAGE_BYTES)) {
        bytes[..4].copy_from_slice(&page.to_le_bytes());
    }
    let (written, buf) = file.write_at(buf, PAGE).await;
    assert_eq!(written.expect("a write succeeds"), PAGES * PAGE_BYTES);
    assert!(
        read_bytes(&file, 1, PAGES).await == *buf,
        "what was written is read back"
    );
    assert!(
        read_bytes(&file, 1, 3 * PAGES).await == *buf,
        "the end falls within a long read"
    );
    file.close().await.expect("closing");
}

/// Many operations under way on one file, and futures that nobody waits for.
pub async fn concurrent<I: Io>(io: I, dir: &Path) {
    let file = io
        .open(&dir.join("file"), OpenOptions::CREATE)
        .await
        .expect("a new file");
    file.allocate(64 * PAGE).await.expect("room");
    join_all((0..64_u8).map(|page| write_pages(&io, &file, u64::from(page), 1, page + 1))).await;
    let pages = join_all((0..64).map(|page| read_bytes(&file, page, 1))).await;
    for (page, bytes) in (1_u8..).zip(&pages) {
        assert!(
            bytes.len() == PAGE_BYTES && bytes.iter().all(|b| *b == page),
            "page {page} holds its write"
        );
    }
    let caller = |caller: u64| {
        let file = &file;
        async move {
            for round in 0..8 {
                let page = (caller * 7 + round) % 64;
                let bytes = read_bytes(file, page, 1).await;
                assert!(
                    bytes.iter().all(|&b| u64::from(b) == page + 1),
                    "caller {caller} reads page {page}"
                );
            }
        }
    };
    join_all((0..64).map(caller)).await;
    // Polled once and dropped: the operation may still take place, and must not harm what follows.
    for page in 0..8 {
        let mut dropped = Box::pin(file.read_at(page * PAGE, PAGE_BYTES));
        let _ = futures_util::poll!(&mut dropped);
    }
    for _ in 0..8 {
        let mut dropped = Box::pin(file.write_at(filled(&io, 1, 99), 0));
        let _ = futures_util::poll!(&mut dropped);
    }
    let written = filled(&io, 1, 5);
    assert_eq!(
        file.write_at(written, PAGE).await.0.expect("a write succeeds"),
        PAGE_BYTES
    );
    assert_eq!(read_bytes(&file, 1, 1).await, vec![5; PAGE_BYTES]);
    file.close().await.expect("closing");
}

/// Positions and lengths that are not whole pages are the caller's bug and panic.
pub async fn misuse<I: Io>(io: I, dir: &Path) {
    let file = io
        .open(&dir.join("file"), OpenOptions::CREATE)
        .await
        .expect("a new file");
    write_pages(&io, &file, 0, 2, 1).await;
    let panics = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| async {
        AssertUnwindSafe(future).catch_unwind().await.is_err()
    };
    // Each call sits inside its future, so that a panic when it is made is caught like one when it is polled.
    let at = file.clone();
    assert!(
        panics(Box::pin(async move { drop(at.read_at(512, PAGE_BYTES).await) })).await,
        "position of a read"
    );
    let at = file.clone();
    assert!(
        panics(Box::pin(async move { drop(at.read_at(0, 512).await) })).await,
        "length of a read"
    );
    let (at, buf) = (file.clone(), filled(&io, 1, 2));
    assert!(
        panics(Box::pin(async move { drop(at.write_at(buf, 512).await) })).await,
        "position of a write"
    );
    let other = io.clone();
    assert!(
        panics(Box::pin(async move { drop(other.alloc(100)) })).await,
        "length of a buffer"
    );
    assert_eq!(
        read_bytes(&file, 0, 2).await,
        vec![1; 2 * PAGE_BYTES],
        "nothing was changed"
    );
    file.close().await.expect("closing");
}
