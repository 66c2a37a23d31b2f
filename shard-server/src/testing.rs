//! A store in memory and a socket of scripted pieces, for tests of everything above the engine.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::api::{
    Answer, Batch, Decision, Durability, Found, LookFn, Op, Outcome, Page, ScanRange, ShardStats, Stats,
};
use corelane::codec::batch;
use corelane::io::Stream;
use corelane::types::Content;
use corelane::{Error, ErrorKind, Result};
use futures_lite::future::block_on;

use crate::auth::Auth;
use crate::clients::{Arrival, Client, Clients};
use crate::connection::serve;
use crate::server::{Server, Settings};
use crate::session::Session;
use crate::store::Store;

/// A server of one core that ends nothing.
pub(crate) fn server() -> Server {
    let settings = Settings {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7379)),
        data_dir: PathBuf::from("data"),
        durability: Durability::Sync,
        max_clients: 1000,
        cores: 1,
    };
    Server::new(settings, || {})
}

/// What some work says in the log, as text.
pub(crate) fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("nobody panics while it is held")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().expect("nobody panics while it is held").clone();
    String::from_utf8(bytes).expect("the log is text")
}

/// What the store's clock says until somebody sets it: some day in 2023, in ms since the Unix epoch.
const NOW_MS: u64 = 1_700_000_000_123;

/// A key as the store keeps it.
#[derive(Clone, Default)]
struct Stored {
    /// The value, and when it ends; `None` for a tombstone.
    content: Option<(Vec<u8>, Option<u64>)>,
    version: u64,
}

impl Stored {
    fn found(&self, now_ms: u64) -> Found<'_> {
        let content = self.content.as_ref();
        let content = content.filter(|(_, end)| end.is_none_or(|at| now_ms <= at));
        Found {
            value: content.map(|(value, _)| value.as_slice()),
            expires_ms: content.and_then(|(_, end)| *end),
            version: self.version,
            now_ms,
        }
    }
}

#[derive(Default)]
struct Inner {
    data: RefCell<BTreeMap<Vec<u8>, Stored>>,
    sequence: Cell<u64>,
    now_ms: Cell<u64>,
    batches: RefCell<Vec<usize>>,
    fail_with: Cell<Option<ErrorKind>>,
    slept: Cell<Duration>,
    polled_at: Cell<Option<Duration>>,
    yields: Cell<usize>,
    reads_last: Cell<bool>,
    random: Cell<u64>,
    stall: RefCell<String>,
    answers_after: Cell<Duration>,
    on_device_from: Cell<usize>,
    device_bytes: Cell<usize>,
}

/// Two shards: keys whose first byte is even, and the others. Only the first is resident here. Its clock stands still
/// until somebody sets it.
#[derive(Clone)]
pub(crate) struct MemoryStore(Rc<Inner>);

impl Default for MemoryStore {
    fn default() -> Self {
        let store = Self(Rc::default());
        store.set_clock(NOW_MS);
        store.lie_on_device_from(usize::MAX);
        store
    }
}

impl MemoryStore {
    /// How often something more urgent was let in.
    pub(crate) fn yields(&self) -> usize {
        self.0.yields.get()
    }

    /// How many requests each message to the store had.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.0.batches.borrow().clone()
    }

    /// From now on the lookups of a message end behind its other requests and in the reverse of their order, as those that
    /// wait for a device may. They see what was there when it was their turn.
    pub(crate) fn end_reads_last(&self) {
        self.0.reads_last.set(true);
    }

    /// Every request from now on fails so.
    pub(crate) fn fail_with(&self, kind: ErrorKind) {
        self.0.fail_with.set(Some(kind));
    }

    /// Every task counts as polled now from now on, however long it runs.
    pub(crate) fn is_polled_once(&self) {
        self.0.polled_at.set(Some(self.now()));
    }

    /// Writers of the shard that is resident here are held back for this reason from now on.
    pub(crate) fn stall_for(&self, reason: &str) {
        reason.clone_into(&mut self.0.stall.borrow_mut());
    }

    /// Requests are answered after so long on the store's clock from now on.
    pub(crate) fn answer_after(&self, length: Duration) {
        self.0.answers_after.set(length);
    }

    /// It is `now_ms` from now on, in ms since the Unix epoch.
    pub(crate) fn set_clock(&self, now_ms: u64) {
        self.0.now_ms.set(now_ms);
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        self.write(key.to_vec(), Some((value.to_vec(), None)));
    }

    fn write(&self, key: Vec<u8>, content: Option<(Vec<u8>, Option<u64>)>) -> u64 {
        let version = self.0.sequence.get() + 1;
        self.0.sequence.set(version);
        let stored = Stored { content, version };
        self.0.data.borrow_mut().insert(key, stored);
        version
    }

    fn look<R>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> R) -> R {
        let data = self.0.data.borrow();
        let absent = Stored::default();
        look(data.get(key).unwrap_or(&absent).found(self.0.now_ms.get()))
    }

    /// A look, unless the value lies on the device and the look does not want to have it read.
    fn wanted(&self, key: &[u8], mut look: LookFn) -> Option<LookFn> {
        let data = self.0.data.borrow();
        let value = data.get(key).and_then(|stored| stored.content.as_ref());
        let bytes = value.map_or(0, |(value, _)| value.len());
        if bytes >= self.0.on_device_from.get() {
            if !look.wants(bytes) {
                return None;
            }
            self.0.device_bytes.set(self.0.device_bytes.get() + bytes);
        }
        Some(look)
    }

    /// Values of so many bytes and more lie on the device from now on.
    pub(crate) fn lie_on_device_from(&self, bytes: usize) {
        self.0.on_device_from.set(bytes);
    }

    /// Bytes that looks have had read from the device since this was asked last.
    pub(crate) fn device_bytes(&self) -> usize {
        self.0.device_bytes.take()
    }

    fn write_all(&self, batch: &Batch) -> u64 {
        let mut last = 0;
        apply_batch(batch, |key, content| last = self.write(key.to_vec(), content));
        last
    }

    fn run(&self, shard: u16, op: Op) -> Outcome {
        if let Some(kind) = self.0.fail_with.get() {
            return Err(Error::new(kind, "testing", "it was told to fail"));
        }
        match op {
            Op::Get { key, .. } => Ok(Answer::Value(
                self.look(&key, |found| found.value.map(<[u8]>::to_vec)),
            )),
            Op::Look { key, look } => {
                if let Some(look) = self.wanted(&key, look) {
                    self.look(&key, |found| look.run(found));
                }
                Ok(Answer::Done)
            }
            Op::Write { batch, .. } => Ok(Answer::Written(self.write_all(&batch))),
            Op::Update { key, apply, .. } => {
                let content = match self.look(&key, apply) {
                    Decision::Put(value) => Some((value, None)),
                    Decision::PutUntil(value, at) => Some((value, Some(at))),
                    Decision::Delete => None,
                    Decision::Keep => return Ok(Answer::Written(0)),
                };
                Ok(Answer::Written(self.write(key, content)))
            }
            Op::Transact {
                keys, apply, writes, ..
            } => {
                assert!(keys.iter().all(|key| self.shard_of(key) == shard), "of one shard");
                let batch = {
                    let (data, absent) = (self.0.data.borrow(), Stored::default());
                    let found = keys.iter().map(|key| data.get(key).unwrap_or(&absent));
                    let found: Vec<_> = found.map(|stored| stored.found(self.0.now_ms.get())).collect();
                    apply(&found)
                };
                assert!(writes || batch.encoded().is_empty(), "it said that it only reads");
                Ok(Answer::Written(self.write_all(&batch)))
            }
            other => unreachable!("a connection does not send {other:?}"),
        }
    }
}

/// Shows each operation of a batch: the key, and what is put there up to when, `None` where it is removed.
pub(crate) fn apply_batch(written: &Batch, mut show: impl FnMut(&[u8], Option<(Vec<u8>, Option<u64>)>)) {
    for op in batch::ops(written.encoded()) {
        let op = op.expect("the server encodes what can be read");
        let content = Content::of(op.kind, op.value);
        show(
            op.key,
            content.map(|content| (content.value.to_vec(), content.expires_ms)),
        );
    }
}

impl Store for MemoryStore {
    fn core(&self) -> usize {
        0
    }

    fn shard_of(&self, key: &[u8]) -> u16 {
        u16::from(key.first().is_some_and(|byte| byte % 2 == 1))
    }

    fn look_resident<R>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        let failing = self.0.fail_with.get().is_some();
        (!failing && self.shard_of(key) == 0).then(|| self.look(key, look))
    }

    async fn execute(&self, ops: Vec<(u16, Op)>) -> Vec<Outcome> {
        self.0.batches.borrow_mut().push(ops.len());
        self.0.slept.set(self.0.slept.get() + self.0.answers_after.get());
        let mut outcomes = Vec::new();
        let mut waiting = Vec::new();
        for (number, (shard, op)) in ops.into_iter().enumerate() {
            outcomes.push(Ok(Answer::Done));
            match op {
                Op::Look { key, look } if self.0.reads_last.get() => {
                    let stored = self.0.data.borrow().get(&key).cloned().unwrap_or_default();
                    if let Some(look) = self.wanted(&key, look) {
                        waiting.push((stored, look));
                    }
                }
                op => outcomes[number] = self.run(shard, op),
            }
        }
        for (stored, look) in waiting.into_iter().rev() {
            look.run(stored.found(self.0.now_ms.get()));
        }
        outcomes
    }

    async fn scan(&self, range: ScanRange) -> Result<Page> {
        let data = self.0.data.borrow();
        let mut page = Page::default();
        let mut bytes = 0;
        let mut within = data.range((range.start, range.end));
        while let Some((key, stored)) = if range.reverse {
            within.next_back()
        } else {
            within.next()
        } {
            let Some(value) = stored.found(self.0.now_ms.get()).value else {
                continue;
            };
            if page.entries.len() == range.limit || bytes >= range.bytes_limit {
                page.resume = page.entries.last().map(|(key, _)| key.to_vec());
                break;
            }
            let value: &[u8] = if range.keys_only { &[] } else { value };
            bytes += key.len() + value.len();
            page.entries.push(key, value);
        }
        Ok(page)
    }

    async fn count(&self) -> Result<u64> {
        let (data, now_ms) = (self.0.data.borrow(), self.0.now_ms.get());
        Ok(data
            .values()
            .filter(|stored| stored.found(now_ms).value.is_some())
            .count() as u64)
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            shards: vec![ShardStats::default()],
        })
    }

    fn now(&self) -> Duration {
        Duration::from_secs(1) + self.0.slept.get()
    }

    fn polled_at(&self) -> Duration {
        self.0.polled_at.get().unwrap_or_else(|| self.now())
    }

    fn clock_of(&self, shard: u16) -> Option<u64> {
        (shard == 0).then(|| self.0.now_ms.get())
    }

    fn stall_of(&self, shard: u16) -> Option<String> {
        (shard == 0).then(|| self.0.stall.borrow().clone())
    }

    fn wall_clock_ms(&self) -> u64 {
        self.0.now_ms.get()
    }

    /// A splitmix of a counter: the same in every run.
    fn random_u64(&self) -> u64 {
        self.0
            .random
            .set(self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mixed = self.0.random.get();
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Takes no time: the clock goes on at once.
    async fn sleep(&self, length: Duration) {
        self.0.slept.set(self.0.slept.get() + length);
        futures_lite::future::yield_now().await;
    }

    fn is_closing(&self) -> bool {
        false
    }

    fn should_yield(&self) -> bool {
        true
    }

    async fn yield_now(&self) {
        self.0.yields.set(self.0.yields.get() + 1);
        futures_lite::future::yield_now().await;
    }
}

/// A socket whose client has said everything beforehand, in pieces.
#[derive(Clone, Default)]
pub(crate) struct Script(Rc<Spoken>);

#[derive(Default)]
struct Spoken {
    incoming: RefCell<VecDeque<Vec<u8>>>,
    answers: RefCell<Vec<u8>>,
    sends: Cell<usize>,
    largest_send: Cell<usize>,
}

impl Script {
    pub(crate) fn new(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let script = Self::default();
        // An empty piece would mean that the client has finished.
        script
            .0
            .incoming
            .borrow_mut()
            .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        script
    }

    pub(crate) fn answers(&self) -> Vec<u8> {
        self.0.answers.borrow().clone()
    }

    pub(crate) fn sends(&self) -> usize {
        self.0.sends.get()
    }

    pub(crate) fn largest_send(&self) -> usize {
        self.0.largest_send.get()
    }
}

impl Stream for Script {
    type RecvBuf = Vec<u8>;

    async fn recv(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.incoming.borrow_mut().pop_front().unwrap_or_default())
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let bytes = batch.iter().map(Vec::len).sum();
        self.0.sends.set(self.0.sends.get() + 1);
        self.0.largest_send.set(self.0.largest_send.get().max(bytes));
        self.0.answers.borrow_mut().extend(batch.concat());
        (Ok(()), batch)
    }

    async fn shutdown(&self) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }
}

/// Serves one client that says `pieces` over `store`, and returns its side of the talk.
pub(crate) fn talk(store: &MemoryStore, pieces: impl IntoIterator<Item = Vec<u8>>) -> Script {
    let script = Script::new(pieces);
    talk_to(&Arc::new(server()), store, script.clone());
    script
}

/// Serves one client at `server` until it ends.
pub(crate) fn talk_to<T: Stream>(server: &Arc<Server>, store: &MemoryStore, stream: T) {
    let seat = server.admit(arrival()).expect("there is room");
    block_on(serve(stream, seat, store.clone(), Rc::new(Clients::default())));
}

/// A client that comes to the first core when time begins.
pub(crate) fn arrival() -> Arrival {
    Arrival {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        local_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7379)),
        core: 0,
        now_ms: 0,
        own_core: false,
    }
}

/// What a connection remembers of a client that has just come, without the connection.
pub(crate) fn session(id: u64) -> Session {
    Session::new(Arc::new(Client::new(id, arrival())), &Auth::open())
}

/// The answers to `pieces` over an empty store.
pub(crate) fn answers(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    talk(&MemoryStore::default(), pieces).answers()
}

/// A command as clients send it.
pub(crate) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::resp::reply::array(&mut out, arguments.len());
    arguments
        .iter()
        .for_each(|argument| crate::resp::reply::bulk(&mut out, argument));
    out
}
