//! All clients: who is there, how many may be, what they hold together, who is to go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::facts::Client;
use super::verdict::Reason;

/// Where and when a client came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Where it is.
    pub address: SocketAddr,
    /// Where it came to.
    pub local_address: SocketAddr,
    /// The core that serves it.
    pub core: usize,
    /// When, on the process's clock.
    pub now_ms: u64,
    /// Whether it came to the port of that core alone, where keys of the others are answered with `MOVED`.
    pub own_core: bool,
}

/// All clients of the process.
#[derive(Debug)]
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    held_bytes: AtomicUsize,
    /// By core: somebody there was doomed since its last sweep.
    rung: Box<[AtomicBool]>,
}

impl Registry {
    /// For a process of so many cores.
    pub fn new(cores: usize) -> Self {
        Self {
            clients: Mutex::default(),
            last_id: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
            rung: (0..cores).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        // Nothing that can panic runs while it is held half changed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a client; `None` where there are `most` already.
    pub fn enter(&self, arrival: Arrival, most: usize) -> Option<Arc<Client>> {
        let mut clients = self.clients();
        if clients.len() >= most {
            return None;
        }
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let client = Arc::new(Client::new(id, arrival));
        clients.insert(id, Arc::clone(&client));
        Some(client)
    }

    /// Strikes a client out, and what it held.
    pub fn leave(&self, client: &Client) {
        self.clients().remove(&client.id);
        self.hold(client, 0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.clients().len()
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.clients().values().cloned().collect()
    }

    /// Bytes held for all of them together.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Relaxed)
    }

    /// Says that `bytes` bytes are held for a client. Returns how many are held for all.
    pub fn hold(&self, client: &Client, bytes: usize) -> usize {
        let before = client.set_held_bytes(bytes);
        if bytes >= before {
            self.held_bytes.fetch_add(bytes - before, Relaxed) + (bytes - before)
        } else {
            self.held_bytes.fetch_sub(before - bytes, Relaxed) - (before - bytes)
        }
    }

    /// Dooms those that hold most until the others hold no more than `most_bytes`, those that asked to be spared last of
    /// all and never. Returns how many were doomed.
    pub fn shed(&self, most_bytes: usize) -> usize {
        let mut clients = self.all();
        let doomed_bytes: usize = clients
            .iter()
            .filter(|client| client.doomed().is_some())
            .map(|client| client.held_bytes())
            .sum();
        let mut over = self
            .held_bytes()
            .saturating_sub(doomed_bytes)
            .saturating_sub(most_bytes);
        clients.retain(|client| client.doomed().is_none() && !client.no_evict());
        clients.sort_unstable_by_key(|client| std::cmp::Reverse(client.held_bytes()));
        let mut doomed = 0;
        for client in clients {
            let bytes = client.held_bytes();
            if over == 0 || bytes == 0 {
                break;
            }
            self.doom(&client, Reason::Memory);
            over = over.saturating_sub(bytes);
            doomed += 1;
        }
        doomed
    }

    /// Dooms a client and rings its core.
    pub fn doom(&self, client: &Client, reason: Reason) {
        if client.doom(reason) {
            // Whoever takes the bell sees the doom, which is Relaxed itself: else a sweep could take the one and miss the other.
            self.rung[client.core].store(true, Release);
        }
    }

    /// Whether somebody of this core was doomed since this was last asked.
    pub fn was_rung(&self, core: usize) -> bool {
        self.rung[core].load(Relaxed) && self.rung[core].swap(false, AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(core: usize) -> Arrival {
        Arrival {
            address: ([127, 0, 0, 1], 1).into(),
            local_address: ([127, 0, 0, 1], 7379).into(),
            core,
            now_ms: 0,
            own_core: false,
        }
    }

    #[test]
    fn places_are_bounded_and_come_back_and_numbers_do_not() {
        let registry = Registry::new(1);
        let first = registry.enter(arrival(0), 2).unwrap();
        let second = registry.enter(arrival(0), 2).unwrap();
        assert!(registry.enter(arrival(0), 2).is_none());
        registry.leave(&first);
        let third = registry.enter(arrival(0), 2).unwrap();
        assert_eq!((first.id, second.id, third.id, registry.count()), (1, 2, 3, 2));
    }

    #[test]
    fn the_largest_go_until_the_rest_fits_and_nobody_goes_for_what_the_doomed_still_hold() {
        let registry = Registry::new(2);
        let clients: Vec<_> = (0..4)
            .map(|n| registry.enter(arrival(n % 2), 9).unwrap())
            .collect();
        for (client, bytes) in clients.iter().zip([100, 400, 300, 900]) {
            registry.hold(client, bytes);
        }
        clients[3].set_no_evict(true);
        assert_eq!(registry.held_bytes(), 1700);
        assert_eq!(registry.shed(1700), 0);
        assert_eq!(registry.shed(1300), 1, "the one of 400 is enough");
        assert_eq!(clients[1].doomed(), Some(Reason::Memory));
        assert!(registry.was_rung(1) && !registry.was_rung(1) && !registry.was_rung(0));
        assert_eq!(registry.shed(1300), 0, "it is on its way out already");
        registry.leave(&clients[1]);
        assert_eq!(registry.held_bytes(), 1300);
        assert_eq!(registry.shed(0), 2);
        assert_eq!(clients[3].doomed(), None, "it asked to be spared");
    }
}
