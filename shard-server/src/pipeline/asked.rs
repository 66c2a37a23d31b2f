//! What a round asks of the store. It is kept as it was said until the round ends: only then is it known how many requests
//! share the round's [`Room`], and which reads a write behind them has made firm.
//!
//! A command on keys becomes one request that carries the command line to the core that owns them, runs its function on
//! what the shard holds, and sends the answer back. A read of one key is a look, a write of one key an update, a write of
//! several a transaction of the shard. A lookup leaves what it found in the room: one block of memory beside its key.

use std::sync::Arc;

use corelane::api::{Batch, Decision, Durability, Found, Look, Op};

use super::room::{Budget, Claim, Room, Slot};
use crate::command::request::sorted_keys;
use crate::command::{Owned, Reply, Request, View, facts};

/// What a command's function said on the core that owns its keys.
#[derive(Debug)]
pub(super) struct Said {
    /// Its answer, or how many bytes too long that is.
    pub(super) reply: Result<Reply, usize>,
    /// The command, where it is a read that can be asked again.
    pub(super) again: Option<Owned>,
}

type Sender = oneshot::Sender<Said>;

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    shard: u16,
    what: What,
    /// It cannot be asked again: it writes, or a write is behind it.
    firm: bool,
    /// Its answer may be long.
    weighty: bool,
}

#[derive(Debug)]
enum What {
    /// A write with nothing to be told of it but its outcome.
    Plain(Op),
    /// The value of a key.
    Value(Vec<u8>),
    /// Whether a key is there.
    Present(Vec<u8>),
    Look(Owned, Sender),
    Update(Owned, Sender),
    Transact(Owned, Sender),
}

impl Asked {
    /// A write as the store takes it.
    pub(super) fn plain(shard: u16, op: Op) -> Self {
        Self::new(shard, What::Plain(op))
    }

    /// A lookup of a value.
    pub(super) fn value(shard: u16, key: &[u8]) -> Self {
        Self::new(shard, What::Value(key.to_vec()))
    }

    /// A lookup of whether a key is there; the value stays where it is.
    pub(super) fn present(shard: u16, key: &[u8]) -> Self {
        Self::new(shard, What::Present(key.to_vec()))
    }

    /// A command on keys, and where its answer comes.
    pub(super) fn command(shard: u16, owned: Owned) -> (Self, oneshot::Receiver<Said>) {
        let (sender, answer) = oneshot::channel();
        let spec = owned.request().spec;
        let what = match (spec.writes(), spec.keys == crate::command::Keys::ONE) {
            (false, _) => What::Look(owned, sender),
            (true, true) => What::Update(owned, sender),
            (true, false) => What::Transact(owned, sender),
        };
        (Self::new(shard, what), answer)
    }

    fn new(shard: u16, what: What) -> Self {
        let firm = matches!(what, What::Plain(_) | What::Update(..) | What::Transact(..));
        let weighty = match &what {
            What::Plain(_) | What::Present(_) => false,
            What::Value(_) => true,
            What::Look(owned, _) | What::Update(owned, _) | What::Transact(owned, _) => {
                facts::answers_value(&owned.request())
            }
        };
        Self {
            shard,
            what,
            firm,
            weighty,
        }
    }

    /// The shard that it is asked of.
    pub(super) fn shard(&self) -> u16 {
        self.shard
    }

    /// Whether it reads.
    fn reads(&self) -> bool {
        matches!(self.what, What::Value(_) | What::Present(_) | What::Look(..))
    }

    /// Whether its answer may be long, and it may be put off for that.
    pub(super) fn may_be_put_off(&self) -> bool {
        self.weighty && !self.firm
    }

    /// From here on it cannot be asked again.
    pub(super) fn make_firm(&mut self) {
        self.firm = true;
    }

    /// From here on its answer is taken for a long one, so that it fits where it is the first.
    pub(super) fn make_weighty(&mut self) {
        self.weighty = true;
    }
}

/// Makes requests to the store of what was asked, and the room that they share. Writes alone need none, and neither does a
/// lookup alone, because the first answer always fits.
pub(super) fn to_ops(
    asked: Vec<Asked>,
    budget: Budget,
    durability: Durability,
) -> (Vec<(u16, Op)>, Option<Arc<Room>>) {
    let plain = |asked: &Asked| matches!(asked.what, What::Plain(_));
    let alone = matches!(&asked[..], [one] if matches!(one.what, What::Value(_)));
    let needs_room = !alone && !asked.iter().all(plain);
    let room = needs_room.then(|| Arc::new(Room::new(budget, asked.len())));
    let (mut first_read, mut first_firm, mut foremost) = (true, true, true);
    let op = |(number, asked): (usize, Asked)| {
        let Some(room) = &room else {
            return (asked.shard, asked.what.without_room());
        };
        let first = if asked.firm {
            &mut first_firm
        } else {
            &mut first_read
        };
        let claim = Claim {
            firm: asked.firm,
            owed: asked.firm && asked.reads(),
            first: asked.weighty && std::mem::take(first),
            foremost: !asked.firm && std::mem::take(&mut foremost),
        };
        let asks = Asks {
            number,
            claim,
            room: Arc::clone(room),
            reserved: 0,
        };
        (asked.shard, asked.what.within(asks, durability))
    };
    let ops = asked.into_iter().enumerate().map(op).collect();
    (ops, room)
}

/// A request's part of the room.
struct Asks {
    number: usize,
    claim: Claim,
    room: Arc<Room>,
    /// What was reserved of it for reading.
    reserved: usize,
}

impl Asks {
    fn left(&self) -> usize {
        self.room.left(self.claim).saturating_add(self.reserved)
    }

    fn take(&self, bytes: usize) -> bool {
        self.room.take_beside(self.reserved, self.claim, bytes)
    }
}

impl What {
    fn without_room(self) -> Op {
        match self {
            Self::Plain(op) => op,
            Self::Value(key) => Op::Get { key, at: None },
            _ => unreachable!("a round has a room unless its requests are plain writes, or one lookup"),
        }
    }

    fn within(self, asks: Asks, durability: Durability) -> Op {
        match self {
            Self::Plain(op) => op,
            Self::Value(key) => read(key, asks, Wanted::Value),
            Self::Present(key) => read(key, asks, Wanted::Present),
            Self::Look(owned, sender) => {
                let key = owned.request().key().to_vec();
                read(key, asks, Wanted::Answer(owned, sender))
            }
            Self::Update(owned, sender) => update(owned, sender, asks, durability),
            Self::Transact(owned, sender) => transact(owned, sender, asks, durability),
        }
    }
}

/// What is wanted of a key that is looked at.
enum Wanted {
    Value,
    Present,
    Answer(Owned, Sender),
    /// Nothing: it was put off.
    Nothing,
}

/// A read on its way.
struct Looking {
    asks: Asks,
    wanted: Wanted,
}

fn read(key: Vec<u8>, asks: Asks, wanted: Wanted) -> Op {
    let look = Box::new(Looking { asks, wanted });
    Op::Look { key, look }
}

impl Look for Looking {
    /// Where there is no room to read the block, the read is put off as if its answer had none.
    fn wants(&mut self, block_bytes: usize) -> bool {
        let Asks {
            number,
            claim,
            room,
            reserved,
        } = &mut self.asks;
        if let Some(bytes) = room.reserve(*claim, block_bytes) {
            *reserved += bytes;
            return true;
        }
        match std::mem::replace(&mut self.wanted, Wanted::Nothing) {
            Wanted::Value | Wanted::Present => {
                let (bytes, firm) = (block_bytes, false);
                room.leave(*number, Slot::TooLong { bytes, firm });
            }
            Wanted::Answer(owned, sender) => {
                let (reply, again) = (Err(block_bytes), Some(owned));
                // A client that went away does not wait for it; so below.
                let _gone = sender.send(Said { reply, again });
            }
            Wanted::Nothing => {}
        }
        false
    }

    fn run(self: Box<Self>, found: Found<'_>) {
        let Self { asks, wanted } = *self;
        let firm = asks.claim.firm;
        match wanted {
            Wanted::Value => {
                let bytes = found.value.map_or(0, <[u8]>::len);
                let slot = if asks.take(bytes) {
                    let value = found.value.map(<[u8]>::to_vec);
                    Slot::Value { value, firm }
                } else {
                    Slot::TooLong { bytes, firm }
                };
                asks.room.leave(asks.number, slot);
            }
            Wanted::Present => {
                let present = found.value.is_some();
                asks.room.leave(asks.number, Slot::Present { present, firm });
            }
            Wanted::Answer(owned, sender) => {
                let reply = {
                    let request = owned.request();
                    let (keys, found) = ([request.key()], [found]);
                    answer(&request, &mut View::new(&keys, &found), &asks)
                };
                let again = (!firm).then_some(owned);
                let _gone = sender.send(Said { reply, again });
            }
            Wanted::Nothing => {}
        }
    }
}

fn update(owned: Owned, sender: Sender, asks: Asks, durability: Durability) -> Op {
    let key = owned.request().key().to_vec();
    let apply = Box::new(move |found: Found<'_>| {
        let request = owned.request();
        let (keys, found) = ([request.key()], [found]);
        let mut view = View::new(&keys, &found);
        let reply = answer(&request, &mut view, &asks);
        let decision = if went_well(&reply) {
            view.into_decision()
        } else {
            Decision::Keep
        };
        let _gone = sender.send(Said { reply, again: None });
        decision
    });
    Op::Update {
        key,
        apply,
        durability,
    }
}

fn transact(owned: Owned, sender: Sender, asks: Asks, durability: Durability) -> Op {
    let keys = sorted_keys(owned.request().keys());
    let keys = keys.into_iter().map(<[u8]>::to_vec).collect();
    let apply = Box::new(move |found: &[Found<'_>]| {
        let request = owned.request();
        let keys = sorted_keys(request.keys());
        let mut view = View::new(&keys, found);
        let mut reply = answer(&request, &mut view, &asks);
        let mut batch = Batch::new();
        if went_well(&reply) {
            match view.into_batch() {
                Ok(changes) => batch = changes,
                Err(failure) => reply = Ok(Reply::failed(&failure)),
            }
        }
        let _gone = sender.send(Said { reply, again: None });
        batch
    });
    Op::Transact {
        keys,
        apply,
        writes: true,
        durability,
    }
}

fn went_well(reply: &Result<Reply, usize>) -> bool {
    reply.as_ref().is_ok_and(|reply| !reply.failed)
}

/// Runs the command's function, as far as there is room for its answer.
fn answer(request: &Request<'_>, view: &mut View<'_>, asks: &Asks) -> Result<Reply, usize> {
    let Asks { room, claim, .. } = asks;
    let run = request.spec.keyed().expect("only a command on keys is asked");
    view.set_answer_room(asks.left());
    let mut reply = Reply::default();
    reply.failed = !request.answer(run, view, &mut reply.bytes);
    if let Some(bytes) = view.refused_bytes() {
        if claim.firm {
            room.note_firm(bytes);
        }
        return Err(bytes);
    }
    if !asks.take(reply.bytes.len()) {
        return Err(reply.bytes.len());
    }
    // Redis counts the looks of commands that only read.
    if !request.spec.writes() {
        (reply.hits, reply.misses) = view.lookups();
    }
    Ok(reply)
}
