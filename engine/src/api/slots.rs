//! Where a key belongs: key → slot → shard.
//!
//! The slot is exactly Redis Cluster's: CRC-16/XMODEM of the key, or of its hash tag, modulo 16,384
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>). So any cluster-aware client computes
//! our placement, and `{tag}` keeps related keys on one shard.

use std::ops::Range;

/// Number of slots.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, initial value 0.
const CRC16: [u16; 256] = crc16_table();

#[expect(clippy::cast_possible_truncation, reason = "a byte is below 256")]
const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        let high = crc >> 8;
        (crc << 8) ^ CRC16[usize::from(high ^ u16::from(byte))]
    })
}

/// The part of a key that decides its slot: what stands between the first `{` and the next `}`, unless that is empty.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else {
        return key;
    };
    let after = &key[open + 1..];
    match after.iter().position(|&b| b == b'}') {
        Some(len) if len > 0 => &after[..len],
        _ => key,
    }
}

/// The slot of a key, below [`SLOTS`].
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// Which shard each slot belongs to; fixed when the database is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    shard_of: Vec<u16>,
    shards: u16,
}

impl SlotTable {
    /// Contiguous ranges of slots, as even as they can be, over `shards` shards.
    ///
    /// # Panics
    /// If `shards` is 0 or above [`SLOTS`].
    pub fn contiguous(shards: u16) -> Self {
        assert!((1..=SLOTS).contains(&shards), "between one shard and one a slot");
        let shard_of = (0..u32::from(SLOTS))
            .map(|slot| {
                let shard = slot * u32::from(shards) / u32::from(SLOTS);
                u16::try_from(shard).expect("below the number of shards, which is a u16")
            })
            .collect();
        Self { shard_of, shards }
    }

    /// Rebuilds a table from its runs `(slots, shard)`, which must cover all slots and name every shard from 0 up.
    pub fn from_runs(runs: &[(u16, u16)]) -> Option<Self> {
        let mut shard_of = Vec::with_capacity(usize::from(SLOTS));
        for &(slots, shard) in runs {
            let len = shard_of.len() + usize::from(slots);
            if slots == 0 || len > usize::from(SLOTS) {
                return None;
            }
            shard_of.resize(len, shard);
        }
        let shards = shard_of.iter().max()?.checked_add(1)?;
        let all_used = (0..shards).all(|shard| shard_of.contains(&shard));
        (shard_of.len() == usize::from(SLOTS) && all_used).then_some(Self { shard_of, shards })
    }

    /// The table as runs `(slots, shard)`.
    pub fn runs(&self) -> Vec<(u16, u16)> {
        self.shard_of
            .chunk_by(|a, b| a == b)
            .map(|run| (u16::try_from(run.len()).expect("at most 16,384 slots"), run[0]))
            .collect()
    }

    /// The shard of a slot.
    pub fn shard_of_slot(&self, slot: u16) -> u16 {
        self.shard_of[usize::from(slot)]
    }

    /// The shard of a key.
    pub fn shard_of_key(&self, key: &[u8]) -> u16 {
        self.shard_of_slot(slot_of(key))
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The slots of one shard, as ranges.
    pub fn slots_of_shard(&self, shard: u16) -> Vec<Range<u16>> {
        let mut start = 0;
        let mut ranges = Vec::new();
        for (slots, owner) in self.runs() {
            if owner == shard {
                ranges.push(start..start + slots);
            }
            start += slots;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // The check value of CRC-16/XMODEM, and slots that `redis-cli CLUSTER KEYSLOT` gives.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"bar"), 5_061);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn a_hash_tag_decides_and_an_empty_or_open_one_does_not() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn every_slot_has_a_shard_and_every_shard_its_even_part() {
        for shards in [1, 2, 3, 7, 64, 1000] {
            let table = SlotTable::contiguous(shards);
            let counts: Vec<_> = (0..shards)
                .map(|s| {
                    table
                        .slots_of_shard(s)
                        .iter()
                        .map(|r| usize::from(r.end - r.start))
                        .sum::<usize>()
                })
                .collect();
            assert_eq!(counts.iter().sum::<usize>(), usize::from(SLOTS));
            assert!(
                counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                "{shards} shards"
            );
            assert_eq!(SlotTable::from_runs(&table.runs()), Some(table));
        }
    }

    #[test]
    fn runs_that_do_not_make_a_table_are_refused() {
        for runs in [
            &[][..],
            &[(16_383, 0)],
            &[(16_384, 0), (1, 1)],
            &[(16_384, 1)],
            &[(0, 0), (16_384, 0)],
        ] {
            assert_eq!(SlotTable::from_runs(runs), None, "{runs:?}");
        }
    }
}
