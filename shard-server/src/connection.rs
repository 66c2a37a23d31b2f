//! One client: receive, run all whole commands that have arrived as one pipeline, send once.
//!
//! What was received is read in place; only the start of a command whose end has not arrived is kept. A client that
//! does not read its answers holds up its own connection: the send waits, and nothing more is read meanwhile. When the
//! server drains, a connection that waits for its client ends at once, one that is at work ends behind its answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corelane::io::Stream;

use crate::pipeline::{Ended, FLUSH_BYTES, Pipeline};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;

/// An input buffer above this capacity is given back once it is empty, in bytes.
const KEPT_INPUT_BYTES: usize = 1 << 20;

/// A client's socket, and whether it is being served.
struct Client<T> {
    stream: T,
    busy: Cell<bool>,
}

/// The clients of one core.
pub struct Clients<T> {
    by_id: RefCell<BTreeMap<u64, Rc<Client<T>>>>,
    closing: Cell<bool>,
}

impl<T> Default for Clients<T> {
    fn default() -> Self {
        Self {
            by_id: RefCell::default(),
            closing: Cell::new(false),
        }
    }
}

impl<T: Stream> Clients<T> {
    /// Whether all are gone.
    pub fn is_empty(&self) -> bool {
        self.by_id.borrow().is_empty()
    }

    /// Ends the connections that wait for their clients, and has the others end behind what they are doing.
    pub async fn begin_closing(&self) {
        self.closing.set(true);
        self.shut(|client| !client.busy.get()).await;
    }

    /// Ends all connections, answers on their way or not.
    pub async fn cut_off(&self) {
        self.shut(|_| true).await;
    }

    async fn shut(&self, which: impl Fn(&Client<T>) -> bool) {
        let clients: Vec<_> = self
            .by_id
            .borrow()
            .values()
            .filter(|client| which(client))
            .cloned()
            .collect();
        for client in clients {
            // An error means that the client has gone by itself.
            let _gone = client.stream.shutdown().await;
        }
    }
}

/// Serves one client until it leaves, breaks the protocol or is sent away.
pub async fn serve<S: Store, T: Stream>(
    stream: T,
    id: u64,
    store: S,
    server: Arc<Server>,
    clients: Rc<Clients<T>>,
) {
    let client = Rc::new(Client {
        stream: stream.clone(),
        busy: Cell::new(false),
    });
    clients.by_id.borrow_mut().insert(id, Rc::clone(&client));
    let core = store.core();
    let mut pipeline = Pipeline::new(store, Arc::clone(&server), Session::new(id));
    let mut input = Vec::new();
    while !clients.closing.get() {
        client.busy.set(false);
        let Ok(received) = stream.recv().await else { break };
        if received.is_empty() {
            break;
        }
        client.busy.set(true);
        server
            .counts(core)
            .received_bytes
            .fetch_add(received.len() as u64, Ordering::Relaxed);
        let alive = if input.is_empty() {
            let consumed = run(&mut pipeline, &received, &stream, &server, core).await;
            input.extend_from_slice(&received[consumed.unwrap_or(received.len())..]);
            consumed.is_some()
        } else {
            input.extend_from_slice(&received);
            drop(received);
            let consumed = run(&mut pipeline, &input, &stream, &server, core).await;
            input.drain(..consumed.unwrap_or(0));
            consumed.is_some()
        };
        if !alive {
            break;
        }
        if input.is_empty() && input.capacity() > KEPT_INPUT_BYTES {
            input = Vec::new();
        }
    }
    clients.by_id.borrow_mut().remove(&id);
    // An error means that the client has gone by itself.
    let _gone = stream.shutdown().await;
}

/// Runs what is whole in `input` and sends the answers. Returns how many bytes are done with; `None` when the
/// connection is to end.
async fn run<S: Store, T: Stream>(
    pipeline: &mut Pipeline<S>,
    input: &[u8],
    stream: &T,
    server: &Server,
    core: usize,
) -> Option<usize> {
    let mut consumed = 0;
    loop {
        let round = pipeline.round(&input[consumed..]).await;
        consumed += round.consumed;
        if round.ended == Ended::Full && pipeline.output().bytes() < FLUSH_BYTES {
            continue;
        }
        let sent_bytes = pipeline.output().bytes() as u64;
        if sent_bytes > 0 {
            let (sent, buffers) = stream.send(pipeline.output().take()).await;
            pipeline.output().recycle(buffers);
            sent.ok()?;
            server
                .counts(core)
                .sent_bytes
                .fetch_add(sent_bytes, Ordering::Relaxed);
        }
        match round.ended {
            Ended::Full => {}
            Ended::Starved => return Some(consumed),
            Ended::Closing => return None,
        }
    }
}
