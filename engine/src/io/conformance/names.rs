//! Names: renamed, removed, listed, locked; and what is refused.

use std::io::ErrorKind;
use std::path::Path;

use super::super::{DirEntry, File, Io, OpenOptions};
use super::files::{PAGE, filled, read_bytes, write_pages};
use crate::types::PAGE_BYTES;

/// Rename, remove, list, directories, room.
pub async fn names<I: Io>(io: I, dir: &Path) {
    assert_eq!(io.list_dir(dir).await.expect("an empty directory is listed"), []);
    for (name, pages) in [("b", 2), ("a", 1), ("c", 0)] {
        let file = io
            .open(&dir.join(name), OpenOptions::CREATE)
            .await
            .expect("a new file");
        if pages > 0 {
            write_pages(&io, &file, 0, pages, 1).await;
        }
        file.close().await.expect("closing");
    }
    io.create_dir(&dir.join("sub")).await.expect("a directory");
    io.create_dir(&dir.join("sub"))
        .await
        .expect("a directory that exists is no error");
    io.sync_dir(dir).await.expect("a directory sync");
    let listing = |entries: Vec<DirEntry>| -> Vec<(String, bool, u64)> {
        entries.into_iter().map(|e| (e.name, e.is_dir, e.bytes)).collect()
    };
    let row = |name: &str, is_dir, pages: u64| (name.to_owned(), is_dir, pages * PAGE);
    let found = listing(io.list_dir(dir).await.expect("a listing"));
    assert_eq!(
        found,
        [
            row("a", false, 1),
            row("b", false, 2),
            row("c", false, 0),
            row("sub", true, 0)
        ]
    );

    io.rename(&dir.join("b"), &dir.join("a"))
        .await
        .expect("a rename replaces");
    io.rename(&dir.join("c"), &dir.join("sub").join("d"))
        .await
        .expect("a rename into another directory");
    io.sync_dir(dir).await.expect("a directory sync");
    io.sync_dir(&dir.join("sub")).await.expect("a directory sync");
    let found = listing(io.list_dir(dir).await.expect("a listing"));
    assert_eq!(found, [row("a", false, 2), row("sub", true, 0)]);
    let found = listing(io.list_dir(&dir.join("sub")).await.expect("a listing"));
    assert_eq!(found, [row("d", false, 0)]);

    io.remove(&dir.join("a")).await.expect("a removal");
    let found = listing(io.list_dir(dir).await.expect("a listing"));
    assert_eq!(found, [row("sub", true, 0)]);
    assert!(io.free_bytes(dir).await.expect("the room left") > 0);
}

/// A file is what was opened, whatever becomes of its name.
pub async fn open_files_and_names<I: Io>(io: I, dir: &Path) {
    let file = io
        .open(&dir.join("new"), OpenOptions::CREATE)
        .await
        .expect("a new file");
    write_pages(&io, &file, 0, 1, 1).await;
    io.rename(&dir.join("new"), &dir.join("current"))
        .await
        .expect("a rename");
    let other = io
        .open(&dir.join("new"), OpenOptions::CREATE)
        .await
        .expect("the name is free");
    write_pages(&io, &file, 1, 2, 2).await;
    assert_eq!(file.bytes().await.expect("a length"), 3 * PAGE);
    assert_eq!(other.bytes().await.expect("a length"), 0);
    io.remove(&dir.join("current")).await.expect("a removal");
    assert_eq!(file.bytes().await.expect("a length"), 3 * PAGE);
    assert_eq!(read_bytes(&file, 2, 1).await, vec![2; PAGE_BYTES]);
    file.close().await.expect("closing");
    other.close().await.expect("closing");
}

/// What cannot be done is refused with the right kind.
pub async fn errors<I: Io>(io: I, dir: &Path) {
    let (there, missing) = (dir.join("there"), dir.join("missing"));
    let file = io.open(&there, OpenOptions::CREATE).await.expect("a new file");
    write_pages(&io, &file, 0, 1, 1).await;
    file.close().await.expect("closing");

    let kind = |result: std::io::Result<I::File>| result.err().map(|error| error.kind());
    assert_eq!(
        kind(io.open(&missing, OpenOptions::READ).await),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        kind(io.open(&missing, OpenOptions::WRITE).await),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        kind(io.open(&there, OpenOptions::CREATE).await),
        Some(ErrorKind::AlreadyExists)
    );
    let nowhere = missing.join("file");
    assert_eq!(
        kind(io.open(&nowhere, OpenOptions::CREATE).await),
        Some(ErrorKind::NotFound)
    );

    let kind = |result: std::io::Result<()>| result.err().map(|error| error.kind());
    assert_eq!(kind(io.rename(&missing, &there).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(io.remove(&missing).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(io.create_dir(&nowhere).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(io.sync_dir(&missing).await), Some(ErrorKind::NotFound));
    let listed = io.list_dir(&missing).await;
    assert_eq!(listed.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert!(
        io.remove(dir).await.is_err(),
        "a directory is not removed as a file"
    );
    assert!(
        io.create_dir(&there).await.is_err(),
        "a directory does not replace a file"
    );

    let reader = io.open(&there, OpenOptions::READ).await.expect("opening to read");
    let (written, buf) = reader.write_at(filled(&io, 1, 9), 0).await;
    assert_eq!(buf.len(), PAGE_BYTES, "the buffer comes back all the same");
    assert_code(written.err(), libc::EBADF);
    assert_code(io.open(&missing, OpenOptions::READ).await.err(), libc::ENOENT);
    assert_code(io.open(&there, OpenOptions::CREATE).await.err(), libc::EEXIST);
    assert_code(io.remove(&missing).await.err(), libc::ENOENT);
    assert_eq!(read_bytes(&reader, 0, 1).await, vec![1; PAGE_BYTES]);
    reader.close().await.expect("closing");
}

/// The operating system's code is kept where there is one, for whoever tells by it what happened.
fn assert_code(error: Option<std::io::Error>, code: i32) {
    assert_eq!(error.expect("it fails").raw_os_error(), Some(code));
}

/// A lock file keeps a second opener out until it is dropped (R12).
pub async fn locks<I: Io>(io: I, dir: &Path) {
    let path = dir.join("LOCK");
    let held = io.lock(&path).await.expect("a free lock");
    for _ in 0..2 {
        let second = io.lock(&path).await;
        assert_eq!(
            second.err().map(|error| error.kind()),
            Some(ErrorKind::WouldBlock)
        );
    }
    let other = io.lock(&dir.join("OTHER")).await.expect("another lock is free");
    drop(held);
    let again = io.lock(&path).await.expect("a dropped lock is free");
    drop((again, other));
}
