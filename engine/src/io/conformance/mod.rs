//! What every implementation of the seam must do, as checks that run on any of them.
//!
//! Each check takes an [`Io`] and, where it touches files, a directory of its own that exists and is empty; it panics
//! with what is wrong. The simulator and glommio run the same suite. What only the simulator can show (what a crash
//! leaves) is tested there. Nothing here asserts how long anything takes, only order and lower bounds.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};

use super::{Class, File, Io, Listener, OpenOptions, Stream};
use crate::types::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// How often a check looks again for something that another task must do, a millisecond apart.
const PATIENCE: u32 = 10_000;

/// Every check, in `dir`, which exists and is empty.
pub async fn all<I: Io>(io: I, dir: &Path) {
    files(io.clone(), &fresh_dir(&io, dir, "files").await).await;
    lengths(io.clone(), &fresh_dir(&io, dir, "lengths").await).await;
    concurrent_files(io.clone(), &fresh_dir(&io, dir, "concurrent").await).await;
    names(io.clone(), &fresh_dir(&io, dir, "names").await).await;
    errors(io.clone(), &fresh_dir(&io, dir, "errors").await).await;
    misuse(io.clone(), &fresh_dir(&io, dir, "misuse").await).await;
    locks(io.clone(), &fresh_dir(&io, dir, "locks").await).await;
    tasks(io.clone()).await;
    timers(io.clone()).await;
    sockets(io.clone()).await;
    sockets_under_load(io.clone()).await;
    socket_ends(io).await;
}

async fn fresh_dir<I: Io>(io: &I, dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    io.create_dir(&path).await.expect("a directory can be created");
    io.sync_dir(dir).await.expect("a directory can be synced");
    path
}

/// A buffer of `pages` pages of `byte`.
fn filled<I: Io>(io: &I, pages: usize, byte: u8) -> <I::File as File>::WriteBuf {
    let mut buf = io.alloc(pages * PAGE_BYTES);
    assert_eq!(buf.len(), pages * PAGE_BYTES, "a buffer is as long as asked");
    assert!(buf.iter().all(|&b| b == 0), "a buffer starts as zeros");
    buf.fill(byte);
    buf
}

async fn write_pages<I: Io>(io: &I, file: &I::File, page: u64, pages: usize, byte: u8) {
    let (written, buf) = file.write_at(filled(io, pages, byte), page * PAGE).await;
    assert_eq!(written.expect("a write succeeds"), pages * PAGE_BYTES);
    assert!(
        buf.len() == pages * PAGE_BYTES && buf.iter().all(|&b| b == byte),
        "a write gives its buffer back"
    );
}

async fn read_bytes<F: File>(file: &F, page: u64, pages: usize) -> Vec<u8> {
    file.read_at(page * PAGE, pages * PAGE_BYTES)
        .await
        .expect("a read succeeds")
        .to_vec()
}

/// Waits until `done`, letting the others run.
async fn until<I: Io>(io: &I, what: &str, done: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
        io.sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
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

/// Many operations under way on one file, and futures that nobody waits for.
pub async fn concurrent_files<I: Io>(io: I, dir: &Path) {
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
    let listing = |entries: Vec<super::DirEntry>| -> Vec<(String, bool, u64)> {
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
    assert!(
        written.is_err() && buf.len() == PAGE_BYTES,
        "a file opened to read is not written"
    );
    assert_eq!(read_bytes(&reader, 0, 1).await, vec![1; PAGE_BYTES]);
    reader.close().await.expect("closing");
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
    assert!(
        io.wall_clock_ms() > 1_600_000_000_000,
        "the wall clock counts from 1970"
    );
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A listener and both ends of one connection to it.
async fn connected<I: Io>(io: &I) -> (I::Listener, I::Stream, I::Stream) {
    let listener = io.listen(LOOPBACK).await.expect("listening");
    let address = listener.local_addr().expect("an address");
    assert_ne!(address.port(), 0, "a port was chosen");
    let (client, server) = join(io.connect(address), listener.accept()).await;
    let (client, server) = (client.expect("connecting"), server.expect("accepting"));
    assert_eq!(client.peer_addr().expect("a peer"), address);
    assert!(server.peer_addr().expect("a peer").ip().is_loopback());
    (listener, client, server)
}

async fn receive<S: Stream>(stream: &S, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let part = stream.recv().await.expect("receiving");
        assert!(
            !part.is_empty(),
            "the peer ended after {} of {bytes} bytes",
            all.len()
        );
        all.extend_from_slice(&part);
    }
    all
}

/// Connect, accept, echo, several at a time.
pub async fn sockets<I: Io>(io: I) {
    let (listener, client, server) = connected(&io).await;
    let batch = vec![b"one".to_vec(), Vec::new(), b"two".to_vec()];
    let (sent, back) = client.send(batch.clone()).await;
    sent.expect("sending");
    assert_eq!(back, batch, "a send gives its buffers back");
    assert_eq!(receive(&server, 6).await, b"onetwo", "a batch arrives in order");
    server.send(vec![b"three".to_vec()]).await.0.expect("answering");
    assert_eq!(receive(&client, 5).await, b"three");

    let address = listener.local_addr().expect("an address");
    for round in 0..3_u8 {
        let (client, server) = join(io.connect(address), listener.accept()).await;
        let (client, server) = (client.expect("connecting"), server.expect("accepting"));
        client.send(vec![vec![round; 10]]).await.0.expect("sending");
        assert_eq!(receive(&server, 10).await, [round; 10], "connections do not mix");
    }
    drop(listener);
    let refused = io.connect(address).await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::ConnectionRefused)
    );
}

/// More than any buffer holds, both ways at once, from tasks that share a stream.
pub async fn sockets_under_load<I: Io>(io: I) {
    const BYTES: usize = 8 << 20;
    let (_listener, client, server) = connected(&io).await;
    let pattern =
        |from: usize, len: usize| -> Vec<u8> { (0_u8..251).cycle().skip(from % 251).take(len).collect() };
    let send = |stream: I::Stream| async move {
        let mut at = 0;
        while at < BYTES {
            let batch: Vec<Vec<u8>> = (0..4).map(|part| pattern(at + part * 65_536, 65_536)).collect();
            stream.send(batch).await.0.expect("sending");
            at += 4 * 65_536;
        }
    };
    let check = |stream: I::Stream| async move {
        let mut at = 0;
        while at < BYTES {
            let part = stream.recv().await.expect("receiving");
            assert!(!part.is_empty(), "the stream ended at {at}");
            assert!(*part == *pattern(at, part.len()), "bytes at {at} are those sent");
            at += part.len();
        }
        assert_eq!(at, BYTES);
    };
    let there = join(send(client.clone()), check(server.clone()));
    let back = join(send(server.clone()), check(client.clone()));
    join(there, back).await;
}

/// How a connection ends.
pub async fn socket_ends<I: Io>(io: I) {
    // What was sent before the end arrives before it.
    let (_listener, client, server) = connected(&io).await;
    client.send(vec![vec![1; 1000]]).await.0.expect("sending");
    client.shutdown().await.expect("shutting down");
    assert_eq!(receive(&server, 1000).await, vec![1; 1000]);
    assert!(server.recv().await.expect("the end is no error").is_empty());
    assert!(
        client.send(vec![vec![2]]).await.0.is_err(),
        "nothing is sent after a shutdown"
    );

    // A shutdown completes a receive that another task waits in.
    let (_listener, client, _server) = connected(&io).await;
    let ended = Rc::new(Cell::new(false));
    let (waiting, flag) = (client.clone(), Rc::clone(&ended));
    io.spawn(Class::Foreground, async move {
        let end = waiting.recv().await;
        assert!(end.map_or(true, |bytes| bytes.is_empty()), "nothing was sent");
        flag.set(true);
    });
    io.sleep(Duration::from_millis(2)).await;
    assert!(!ended.get(), "a receive waits for bytes");
    client.shutdown().await.expect("shutting down");
    until(&io, "the pending receive completes", || ended.get()).await;

    // Dropping an end is an end too.
    let (_listener, client, server) = connected(&io).await;
    drop(client);
    assert!(server.recv().await.map_or(true, |bytes| bytes.is_empty()));
}
