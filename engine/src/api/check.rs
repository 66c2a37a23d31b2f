//! Whether a shard can run a request, asked before the request travels: a core runs what reaches it without a second
//! look, so whatever could not be run would end it, or leave a log that does not open.
//!
//! Pure. A batch keeps its own limits ([`crate::shard::batch`]); here is what depends on the database.

use crate::api::slots::SlotTable;
use crate::error::{Error, ErrorKind, Result};
use crate::shard::batch::check_key;
use crate::shard::request::Op;
use crate::types::MAX_SEQUENCE;

/// Refuses a request that `shard` cannot run.
///
/// # Errors
/// `InvalidOptions` where there is no such shard or sequence, `TooLarge` for a key over the limit, `CrossShard` for a key
/// of another shard.
pub(super) fn check(slots: &SlotTable, shard: u16, op: &Op) -> Result<()> {
    if shard >= slots.shards() {
        return Err(invalid(format!(
            "it names shard {shard}; the last one is {}",
            slots.shards() - 1
        )));
    }
    match op {
        Op::Get { key, at } => {
            check_owned_key(slots, shard, key)?;
            check_sequence(*at)
        }
        Op::Look { key, .. } | Op::Update { key, .. } => check_owned_key(slots, shard, key),
        Op::Transact { keys, .. } => keys.iter().try_for_each(|key| check_owned_key(slots, shard, key)),
        Op::Write { batch, .. } => batch.keys().try_for_each(|key| check_shard(slots, shard, key)),
        Op::Scan(range) => check_sequence(range.at),
        Op::Count | Op::Flush | Op::Compact | Op::Stats => Ok(()),
    }
}

fn check_owned_key(slots: &SlotTable, shard: u16, key: &[u8]) -> Result<()> {
    check_key(key)?;
    check_shard(slots, shard, key)
}

fn check_shard(slots: &SlotTable, shard: u16, key: &[u8]) -> Result<()> {
    let owner = slots.shard_of_key(key);
    if owner == shard {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::CrossShard,
        "checking a request",
        format!("it was sent to shard {shard} and has a key that belongs to shard {owner}"),
    ))
}

fn check_sequence(at: Option<u64>) -> Result<()> {
    match at {
        Some(at) if at > MAX_SEQUENCE => Err(invalid(format!(
            "it reads at sequence {at}; the last one is {MAX_SEQUENCE}"
        ))),
        _ => Ok(()),
    }
}

fn invalid(cause: String) -> Error {
    Error::new(ErrorKind::InvalidOptions, "checking a request", cause)
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;
    use crate::shard::batch::Batch;
    use crate::shard::request::{Decision, Found, ScanRange};
    use crate::types::{Durability, MAX_KEY_BYTES};

    const SHARDS: u16 = 4;

    fn refused(shard: u16, op: &Op) -> Option<ErrorKind> {
        check(&SlotTable::contiguous(SHARDS), shard, op)
            .err()
            .map(|error| error.kind())
    }

    fn write(keys: &[&[u8]]) -> Op {
        let mut batch = Batch::new();
        for key in keys {
            batch.put(key, b"value").unwrap();
        }
        Op::Write {
            batch,
            durability: Durability::Sync,
        }
    }

    fn update(key: Vec<u8>) -> Op {
        Op::Update {
            key,
            apply: Box::new(|_| Decision::Keep),
            durability: Durability::Sync,
        }
    }

    fn look(key: Vec<u8>) -> Op {
        Op::Look {
            key,
            look: Box::new(|_: Found<'_>| ()),
        }
    }

    fn transact(keys: &[&[u8]]) -> Op {
        Op::Transact {
            keys: keys.iter().map(|key| key.to_vec()).collect(),
            apply: Box::new(|_| Batch::new()),
            writes: true,
            durability: Durability::Sync,
        }
    }

    /// A write to a shard that did not own its keys was run: it was lost to every reader, and asked of a shard that was
    /// on no core it ended the core.
    #[test]
    fn a_request_runs_on_the_shard_of_its_keys_and_on_no_other() {
        let home = SlotTable::contiguous(SHARDS).shard_of_key(b"{a}");
        for shard in 0..SHARDS {
            let expected = (shard != home).then_some(ErrorKind::CrossShard);
            let get = Op::Get {
                key: b"{a}".to_vec(),
                at: Some(MAX_SEQUENCE),
            };
            assert_eq!(refused(shard, &write(&[b"{a}1", b"{a}2"])), expected, "{shard}");
            assert_eq!(refused(shard, &update(b"{a}".to_vec())), expected, "{shard}");
            assert_eq!(refused(shard, &get), expected, "{shard}");
            assert_eq!(refused(shard, &look(b"{a}".to_vec())), expected, "{shard}");
            assert_eq!(
                refused(shard, &transact(&[b"{a}1", b"{a}2"])),
                expected,
                "{shard}"
            );
            assert_eq!(refused(shard, &Op::Count), None);
            assert_eq!(refused(shard, &write(&[])), None);
        }
        let slots = SlotTable::contiguous(SHARDS);
        let stranger = (0..=u8::MAX).find(|&i| slots.shard_of_key(&[i]) != home).unwrap();
        assert_eq!(
            refused(home, &write(&[b"{a}", &[stranger]])),
            Some(ErrorKind::CrossShard)
        );
        assert_eq!(
            refused(home, &transact(&[b"{a}", &[stranger]])),
            Some(ErrorKind::CrossShard)
        );
        assert_eq!(refused(SHARDS, &Op::Count), Some(ErrorKind::InvalidOptions));
        assert_eq!(refused(u16::MAX, &Op::Stats), Some(ErrorKind::InvalidOptions));
    }

    #[test]
    fn keys_and_sequences_beyond_their_limits_are_refused() {
        let shard_of = |key: &[u8]| SlotTable::contiguous(SHARDS).shard_of_key(key);
        let (most, long) = (vec![7; MAX_KEY_BYTES], vec![7; MAX_KEY_BYTES + 1]);
        assert_eq!(refused(shard_of(&most), &update(most.clone())), None);
        let get = |key: &[u8], at| Op::Get {
            key: key.to_vec(),
            at: Some(at),
        };
        assert_eq!(
            refused(shard_of(&long), &update(long.clone())),
            Some(ErrorKind::TooLarge)
        );
        assert_eq!(
            refused(shard_of(&long), &get(&long, 1)),
            Some(ErrorKind::TooLarge)
        );
        assert_eq!(
            refused(shard_of(b"k"), &get(b"k", MAX_SEQUENCE + 1)),
            Some(ErrorKind::InvalidOptions)
        );
        let scan = |at| {
            Op::Scan(ScanRange {
                start: Bound::Unbounded,
                end: Bound::Unbounded,
                reverse: false,
                limit: 1,
                bytes_limit: 1,
                keys_only: false,
                at,
            })
        };
        assert_eq!(refused(0, &scan(Some(u64::MAX))), Some(ErrorKind::InvalidOptions));
        assert_eq!(refused(0, &scan(None)), None);
    }
}
