//! The clients of one core: their sockets, buffers that wait for use, and the sweep that ends those who are to go.
//!
//! A sweep ends at once whoever was doomed, here or by another core, and judges a part of the others by the clock, so
//! that each is judged about once a second however many there are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::io::Stream;

use super::facts::Client;
use super::verdict::verdict;
use crate::server::Server;

/// Between two sweeps: a killed client hears of it within this.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Sweeps in which everybody is judged once.
const SWEEPS_A_ROUND: usize = 10;

/// Buffers that wait for use: as many clients are seldom at work at once on one core.
const SPARE_BUFFERS: usize = 64;

/// A longer buffer is not kept, in bytes; with [`SPARE_BUFFERS`] it bounds what a core keeps to 32 MiB.
const SPARE_BYTES: usize = 512 * 1024;

/// A client's socket, and what everybody may know of it.
struct Place<T> {
    stream: T,
    client: Arc<Client>,
}

/// The clients of one core.
pub struct Clients<T> {
    by_id: RefCell<BTreeMap<u64, Rc<Place<T>>>>,
    closing: Cell<bool>,
    /// The last one judged.
    judged: Cell<u64>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl<T> Default for Clients<T> {
    fn default() -> Self {
        Self {
            by_id: RefCell::default(),
            closing: Cell::new(false),
            judged: Cell::new(0),
            spare: RefCell::default(),
        }
    }
}

impl<T: Stream> Clients<T> {
    /// Whether all are gone.
    pub fn is_empty(&self) -> bool {
        self.by_id.borrow().is_empty()
    }

    /// Whether they are being ended.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Enters one.
    pub fn enter(&self, stream: T, client: Arc<Client>) {
        self.by_id
            .borrow_mut()
            .insert(client.id, Rc::new(Place { stream, client }));
    }

    /// Strikes one out.
    pub fn leave(&self, id: u64) {
        self.by_id.borrow_mut().remove(&id);
    }

    /// An empty buffer, of some size if one waits for use.
    pub fn buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back: one that waits for its client holds none.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES && spare.len() < SPARE_BUFFERS {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Ends the connections that wait for their clients, and has the others end behind what they are doing.
    pub async fn begin_closing(&self) {
        self.closing.set(true);
        self.shut(|client| !client.is_busy()).await;
    }

    /// Ends all connections, answers on their way or not.
    pub async fn cut_off(&self) {
        self.shut(|_| true).await;
    }

    /// One sweep at this moment of the process's clock; `core` is this core's number.
    pub async fn sweep(&self, server: &Server, core: usize, now_ms: u64) {
        server.tell_time(now_ms);
        let registry = server.registry();
        for place in self.next_to_judge() {
            let reason = verdict(&place.client.look(), server.limits(), server.idle_ms(), now_ms);
            if let Some(reason) = reason {
                registry.doom(&place.client, reason);
            }
        }
        if registry.held_bytes() > server.limits().clients_bytes {
            registry.shed(server.limits().clients_bytes);
        }
        if registry.was_rung(core) {
            self.shut(|client| client.doomed().is_some()).await;
        }
    }

    /// The next part of the clients, in turn.
    fn next_to_judge(&self) -> Vec<Rc<Place<T>>> {
        let by_id = self.by_id.borrow();
        let part = by_id.len() / SWEEPS_A_ROUND + 1;
        let after = (Bound::Excluded(self.judged.get()), Bound::Unbounded);
        let part: Vec<_> = by_id
            .range(after)
            .take(part)
            .map(|(_, place)| Rc::clone(place))
            .collect();
        self.judged.set(part.last().map_or(0, |place| place.client.id));
        part
    }

    async fn shut(&self, which: impl Fn(&Client) -> bool) {
        let places: Vec<_> = self
            .by_id
            .borrow()
            .values()
            .filter(|place| which(&place.client))
            .cloned()
            .collect();
        for place in places {
            if let Some(reason) = place.client.doomed() {
                let (client, address) = (place.client.id, place.client.address);
                tracing::info!(client, %address, reason = reason.words(), "client disconnected");
            }
            // An error means that the client has gone by itself.
            let _gone = place.stream.shutdown().await;
        }
    }
}
