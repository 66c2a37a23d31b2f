//! What one client tells of itself to the rest of the process.
//!
//! Its own core writes, anybody reads; each fact stands for itself, so relaxed atomics do. The names change rarely and
//! are behind a lock that only commands about names take.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU16, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::registry::Arrival;
use super::verdict::{Look, Reason, Sending};
use crate::resp::Protocol;

/// No command has run yet.
const NO_COMMAND: u16 = u16::MAX;

/// No send is under way.
const NOT_SENDING: u64 = u64::MAX;

/// What a client is called, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The user it is, `default` where it has not said.
    pub user: String,
    /// The name it gave itself; empty where it gave none.
    pub name: Vec<u8>,
    /// The name of its client library.
    pub library_name: Vec<u8>,
    /// The version of its client library.
    pub library_version: Vec<u8>,
}

/// One client, as everybody may see it.
#[derive(Debug)]
pub struct Client {
    /// Its number, never used again while the process lives.
    pub id: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// Where it came to.
    pub local_address: SocketAddr,
    /// The core that serves it.
    pub core: usize,
    /// When it came, on the process's clock.
    pub since_ms: u64,
    /// Whether it came to the port of its core alone.
    pub own_core: bool,
    names: Mutex<Names>,
    authenticated: AtomicBool,
    busy: AtomicBool,
    no_evict: AtomicBool,
    no_touch: AtomicBool,
    resp3: AtomicBool,
    doomed: AtomicU8,
    command: AtomicU16,
    served: AtomicBool,
    queued: AtomicI32,
    active_ms: AtomicU64,
    received_bytes: AtomicU64,
    /// Since when, and behind how many bytes received, it has not said who it is.
    unknown_ms: AtomicU64,
    unknown_bytes: AtomicU64,
    input_bytes: AtomicUsize,
    held_bytes: AtomicUsize,
    waiting_bytes: AtomicUsize,
    moved_ms: AtomicU64,
    piece_bytes: AtomicUsize,
    sending_ms: AtomicU64,
}

impl Client {
    /// A client that has just come.
    pub fn new(id: u64, arrival: Arrival) -> Self {
        let names = Names {
            user: "default".to_owned(),
            ..Names::default()
        };
        Self {
            id,
            address: arrival.address,
            local_address: arrival.local_address,
            core: arrival.core,
            since_ms: arrival.now_ms,
            own_core: arrival.own_core,
            names: Mutex::new(names),
            authenticated: AtomicBool::new(true),
            busy: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            resp3: AtomicBool::new(false),
            doomed: AtomicU8::new(0),
            command: AtomicU16::new(NO_COMMAND),
            served: AtomicBool::new(false),
            queued: AtomicI32::new(-1),
            active_ms: AtomicU64::new(arrival.now_ms),
            received_bytes: AtomicU64::new(0),
            unknown_ms: AtomicU64::new(arrival.now_ms),
            unknown_bytes: AtomicU64::new(0),
            input_bytes: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            piece_bytes: AtomicUsize::new(0),
            sending_ms: AtomicU64::new(NOT_SENDING),
        }
    }

    /// Its names, to read or to change.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        // A panic while it was held leaves one name or another, each whole.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has said who it is, where it must.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Relaxed)
    }

    /// Says so, or takes it back.
    pub fn set_authenticated(&self, authenticated: bool) {
        self.authenticated.store(authenticated, Relaxed);
    }

    /// It is nobody known from now on, and has as long and may send as much as one that has just come.
    pub fn forget_who(&self, now_ms: u64) {
        self.unknown_ms.store(now_ms, Relaxed);
        self.unknown_bytes.store(self.received_bytes(), Relaxed);
        self.set_authenticated(false);
    }

    /// Bytes it has sent since it is not known who it is.
    pub fn unknown_bytes(&self) -> u64 {
        self.received_bytes()
            .saturating_sub(self.unknown_bytes.load(Relaxed))
    }

    /// Whether commands of it are under way, rather than it being waited for.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Says so.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Relaxed);
    }

    /// Whether the limit on all clients' memory spares it.
    pub fn no_evict(&self) -> bool {
        self.no_evict.load(Relaxed)
    }

    /// `CLIENT NO-EVICT`.
    pub fn set_no_evict(&self, spared: bool) {
        self.no_evict.store(spared, Relaxed);
    }

    /// Whether it asked that its reads leave no trace on what is cached.
    pub fn no_touch(&self) -> bool {
        self.no_touch.load(Relaxed)
    }

    /// `CLIENT NO-TOUCH`.
    pub fn set_no_touch(&self, untouched: bool) {
        self.no_touch.store(untouched, Relaxed);
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        if self.resp3.load(Relaxed) {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        }
    }

    /// Says what it speaks.
    pub fn set_protocol(&self, protocol: Protocol) {
        self.resp3.store(protocol == Protocol::Resp3, Relaxed);
    }

    /// The place in the command table of the last command it ran.
    pub fn command(&self) -> Option<u16> {
        Some(self.command.load(Relaxed)).filter(|&place| place != NO_COMMAND)
    }

    /// Whether it ran a command, as somebody known where it must be. One that ends without has been of no use to anybody.
    pub fn was_served(&self) -> bool {
        self.served.load(Relaxed)
    }

    /// Says which command it ran last.
    pub fn set_command(&self, place: u16) {
        self.command.store(place, Relaxed);
        // Kept: a client may have itself forgotten before it goes, as pools do by RESET.
        if self.is_authenticated() {
            self.served.store(true, Relaxed);
        }
    }

    /// Commands that its transaction has queued; `None` outside one.
    pub fn queued(&self) -> Option<u32> {
        u32::try_from(self.queued.load(Relaxed)).ok()
    }

    /// Says how many commands its transaction has queued.
    pub fn set_queued(&self, commands: Option<u32>) {
        let commands = commands.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
        self.queued.store(commands, Relaxed);
    }

    /// When it last sent something.
    pub fn active_ms(&self) -> u64 {
        self.active_ms.load(Relaxed)
    }

    /// It has sent `bytes` bytes.
    pub fn received(&self, bytes: usize, now_ms: u64) {
        self.active_ms.store(now_ms, Relaxed);
        // Its own core is the only writer, so that this needs no locked instruction.
        let all = self.received_bytes.load(Relaxed) + bytes as u64;
        self.received_bytes.store(all, Relaxed);
    }

    /// Bytes it has sent in all.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Relaxed)
    }

    /// Bytes of a command whose end has not come.
    pub fn input_bytes(&self) -> usize {
        self.input_bytes.load(Relaxed)
    }

    /// Says how many bytes of an unfinished command are kept.
    pub fn set_input_bytes(&self, bytes: usize) {
        self.input_bytes.store(bytes, Relaxed);
    }

    /// Bytes held for it: input, answers, buffers.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Relaxed)
    }

    /// Says how many bytes are held. Returns how many were said before.
    pub(super) fn set_held_bytes(&self, bytes: usize) -> usize {
        self.held_bytes.swap(bytes, Relaxed)
    }

    /// Bytes of answers that wait for it.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Relaxed)
    }

    /// A piece of `piece_bytes` of the `waiting_bytes` that wait is handed to the socket.
    pub fn sending(&self, waiting_bytes: usize, piece_bytes: usize, now_ms: u64) {
        if self.sending_ms.load(Relaxed) == NOT_SENDING {
            self.sending_ms.store(now_ms, Relaxed);
        }
        self.waiting_bytes.store(waiting_bytes, Relaxed);
        self.piece_bytes.store(piece_bytes, Relaxed);
        self.moved_ms.store(now_ms, Relaxed);
    }

    /// All answers are with the socket.
    pub fn sent(&self) {
        self.waiting_bytes.store(0, Relaxed);
        self.sending_ms.store(NOT_SENDING, Relaxed);
    }

    /// Ends it as soon as its core looks. The first reason stays. Returns whether this is the first.
    pub fn doom(&self, reason: Reason) -> bool {
        self.doomed
            .compare_exchange(0, reason.number(), Relaxed, Relaxed)
            .is_ok()
    }

    /// Why it is to go, if it is.
    pub fn doomed(&self) -> Option<Reason> {
        Reason::of(self.doomed.load(Relaxed))
    }

    /// What a verdict on it needs.
    pub fn look(&self) -> Look {
        let began_ms = self.sending_ms.load(Relaxed);
        Look {
            authenticated: self.is_authenticated(),
            busy: self.is_busy(),
            unknown_ms: self.unknown_ms.load(Relaxed),
            active_ms: self.active_ms(),
            sending: (began_ms != NOT_SENDING).then(|| Sending {
                began_ms,
                moved_ms: self.moved_ms.load(Relaxed),
                piece_bytes: self.piece_bytes.load(Relaxed),
                waiting_bytes: self.waiting_bytes(),
            }),
        }
    }
}
