//! Where a key belongs: key → slot → shard.
//!
//! The slot is exactly Redis Cluster's: CRC-16/XMODEM of the key, or of its hash tag, modulo 16,384
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>). So any cluster-aware client computes
//! our placement, and `{tag}` keeps related keys on one shard.

use std::ops::Range;

/// Number of slots.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, initial value 0. `CRC16[k][b]` is what byte `b` comes to with `k`
/// zero bytes behind it, so that eight bytes are looked up side by side instead of one behind the other (slicing by
/// eight: Kounavis and Berry, "A Systematic Approach to Building High Performance Software-based CRC Generators", 2005).
static CRC16: [[u16; 256]; 8] = crc16_tables();

#[expect(clippy::cast_possible_truncation, reason = "a byte is below 256")]
const fn crc16_tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
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
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

fn crc16(bytes: &[u8]) -> u16 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut crc = 0_u16;
    for chunk in chunks {
        let [high, low] = crc.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = chunk.map(usize::from);
        crc = CRC16[7][a ^ usize::from(high)]
            ^ CRC16[6][b ^ usize::from(low)]
            ^ CRC16[5][c]
            ^ CRC16[4][d]
            ^ CRC16[3][e]
            ^ CRC16[2][f]
            ^ CRC16[1][g]
            ^ CRC16[0][h];
    }
    rest.iter().fold(crc, |crc, &byte| {
        let high = crc >> 8;
        (crc << 8) ^ CRC16[0][usize::from(high ^ u16::from(byte))]
    })
}

/// Where the first `{` is. Most keys have none, so eight bytes are ruled out at a time.
#[inline]
fn find_brace(key: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const BRACES: u64 = u64::from_ne_bytes([b'{'; 8]);
    let (chunks, rest) = key.as_chunks::<8>();
    let may_have = |chunk: &[u8; 8]| {
        // A zero byte, and no other below the first one, borrows from its top bit.
        let zero_where_brace = u64::from_ne_bytes(*chunk) ^ BRACES;
        zero_where_brace.wrapping_sub(ONES) & !zero_where_brace & (ONES << 7) != 0
    };
    if chunks.iter().any(may_have) || rest.contains(&b'{') {
        key.iter().position(|&b| b == b'{')
    } else {
        None
    }
}

/// The part of a key that decides its slot: what stands between the first `{` and the next `}`, unless that is empty.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = find_brace(key) else {
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
        if self.shards == 1 {
            // Whatever the slot is.
            return 0;
        }
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
    fn eight_bytes_at_a_time_give_what_one_at_a_time_does() {
        let bytes: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(0x9d) ^ (n << 3)).collect();
        for from in 0..20 {
            for to in from..bytes.len() {
                let slowly = bytes[from..to].iter().fold(0_u16, |crc, &byte| {
                    (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                        (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 }
                    })
                });
                assert_eq!(crc16(&bytes[from..to]), slowly, "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_brace_is_found_wherever_it_is_among_its_likes() {
        for len in 0..30 {
            for filler in [0, b'z', b'{' - 1, b'{' + 1, b'{' ^ 0x80, 0xff] {
                assert_eq!(find_brace(&vec![filler; len]), None);
                for at in 0..len {
                    let mut key = vec![filler; len];
                    key[at] = b'{';
                    assert_eq!(find_brace(&key), Some(at));
                    key[len - 1] = b'{';
                    assert_eq!(find_brace(&key), Some(at));
                }
            }
        }
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
