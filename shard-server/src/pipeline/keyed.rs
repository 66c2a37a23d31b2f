//! Commands on keys on their way to the core that owns them: each becomes one request that carries the command line there,
//! runs its function on what the shard holds, and sends the answer back.
//!
//! A read of one key is a look, a write of one key an update, a write of several a transaction of the shard.

use corelane::api::{Batch, Decision, Durability, Found, Op};

use crate::command::request::sorted_keys;
use crate::command::{Keyed, Owned, Reply, Request, View};

type Answer = oneshot::Receiver<Reply>;

/// Runs a read of one key.
pub(super) fn look(owned: Owned, run: Keyed) -> (Op, Answer) {
    let (sender, answer) = oneshot::channel();
    let key = owned.request().key().to_vec();
    let look = Box::new(move |found: Found<'_>| {
        let request = owned.request();
        let (keys, found) = ([request.key()], [found]);
        let mut view = View::new(&keys, &found);
        // A client that went away does not wait for it; so below.
        let _gone = sender.send(reply(&request, run, &mut view));
    });
    (Op::Look { key, look }, answer)
}

/// Runs a write of one key.
pub(super) fn update(owned: Owned, run: Keyed, durability: Durability) -> (Op, Answer) {
    let (sender, answer) = oneshot::channel();
    let key = owned.request().key().to_vec();
    let apply = Box::new(move |found: Found<'_>| {
        let request = owned.request();
        let (keys, found) = ([request.key()], [found]);
        let mut view = View::new(&keys, &found);
        let reply = reply(&request, run, &mut view);
        let decision = if reply.failed {
            Decision::Keep
        } else {
            view.into_decision()
        };
        let _gone = sender.send(reply);
        decision
    });
    let op = Op::Update {
        key,
        apply,
        durability,
    };
    (op, answer)
}

/// Runs a write of several keys, all of one shard.
pub(super) fn transact(owned: Owned, run: Keyed, durability: Durability) -> (Op, Answer) {
    let (sender, answer) = oneshot::channel();
    let keys = sorted_keys(owned.request().keys());
    let keys = keys.into_iter().map(<[u8]>::to_vec).collect();
    let apply = Box::new(move |found: &[Found<'_>]| {
        let request = owned.request();
        let keys = sorted_keys(request.keys());
        let mut view = View::new(&keys, found);
        let mut reply = reply(&request, run, &mut view);
        let mut batch = Batch::new();
        if !reply.failed {
            match view.into_batch() {
                Ok(changes) => batch = changes,
                Err(failure) => {
                    reply.bytes.clear();
                    crate::resp::reply::error(&mut reply.bytes, &failure.0);
                    reply.failed = true;
                }
            }
        }
        let _gone = sender.send(reply);
        batch
    });
    let op = Op::Transact {
        keys,
        apply,
        writes: true,
        durability,
    };
    (op, answer)
}

fn reply(request: &Request<'_>, run: Keyed, view: &mut View<'_>) -> Reply {
    let mut reply = Reply::default();
    reply.failed = !request.answer(run, view, &mut reply.bytes);
    // Redis counts the looks of commands that only read.
    if !request.spec.writes() {
        (reply.hits, reply.misses) = view.lookups();
    }
    reply
}
