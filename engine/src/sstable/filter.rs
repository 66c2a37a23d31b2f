//! The filter: a Bloom filter whose probes for one key all fall into one cache line.
//!
//! A probe costs one cache miss and one multiplication. The low half of the key's hash chooses one of the 64-byte
//! lines; the bits within it come from the hash multiplied by the golden ratio, nine bits a probe from the top, seven
//! probes a multiplication. After Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007);
//! RocksDB's `FastLocalBloom` (`util/bloom_impl.h`) is the model.
//!
//! ```text
//! payload of a filter block
//! offset size
//!      0    1  probes a key
//!      1    7  zero
//!      8   64  line, as many as the block header counts
//! ```
//!
//! An error costs a device read where the block is not cached: with 10 bits, 1.1 reads for a hundred absent keys of a
//! database larger than the cache (`bench/results/table.json`, phase `misses`), and at some 110 µs each they are half of the
//! time of two callers who only ask for absent keys.
//!
//! Measured with 1e6 keys: 0.98 % false positives at 10 bits a key, 9.3 % at 5, 0.09 % at 16 (the test bounds it at 1.2 %).

use xxhash_rust::xxh3::xxh3_64;

use super::format::FormatError;

const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / 8;
const HEAD_BYTES: usize = 8;
const PROBES_PER_MULTIPLICATION: u32 = 7;
const MAX_PROBES: u32 = 16;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a user key that filters use. Hash once per lookup and hand it to every table.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// One cache line of bits. The alignment keeps a line within one cache line in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; LINE_WORDS]);

/// A set of keys that may answer "perhaps" for one that is not in it, and never "no" for one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    lines: Box<[Line]>,
    probes: u32,
}

/// How many bits to set for a key: a little under `bits · ln 2`, because the keys of a line collide more than those of
/// one large filter.
fn probes_for(bits_per_key: u32) -> u32 {
    ((bits_per_key * 6 + 5) / 10).clamp(1, MAX_PROBES)
}

#[inline]
fn line_index(hash: u64, lines: usize) -> usize {
    (((hash & 0xffff_ffff) * lines as u64) >> 32) as usize
}

/// Calls `visit` with the bit of each probe until it says `false`; says whether it never did.
#[inline]
fn probe_all(hash: u64, probes: u32, mut visit: impl FnMut(usize, u64) -> bool) -> bool {
    let mut bits = hash.wrapping_mul(GOLDEN);
    let mut fresh = bits;
    for probe in 0..probes {
        if probe != 0 && probe % PROBES_PER_MULTIPLICATION == 0 {
            fresh = (fresh ^ (fresh >> 32)).wrapping_mul(GOLDEN);
            bits = fresh;
        }
        let bit = (bits >> 55) as usize;
        if !visit(bit / 64, 1 << (bit % 64)) {
            return false;
        }
        bits <<= 9;
    }
    true
}

impl Filter {
    /// The filter of these key hashes. `bits_per_key` must not be 0.
    pub(crate) fn build(hashes: &[u64], bits_per_key: u32) -> Self {
        assert!(bits_per_key > 0, "no filter is built for no bits");
        let bits = hashes.len() * bits_per_key as usize;
        let lines = bits.div_ceil(LINE_BYTES * 8).max(1);
        let mut filter = Self {
            lines: vec![Line([0; LINE_WORDS]); lines].into(),
            probes: probes_for(bits_per_key),
        };
        for &hash in hashes {
            let line = &mut filter.lines[line_index(hash, lines)].0;
            probe_all(hash, filter.probes, |word, mask| {
                line[word] |= mask;
                true
            });
        }
        filter
    }

    /// Whether the key with this hash may be in the set.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let line = &self.lines[line_index(hash, self.lines.len())].0;
        probe_all(hash, self.probes, |word, mask| line[word] & mask != 0)
    }

    /// How many lines it has: the count of its block.
    pub(crate) fn lines(&self) -> u32 {
        u32::try_from(self.lines.len()).expect("a filter is far below 4 G lines")
    }

    /// Bytes of memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }

    /// The payload of its block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEAD_BYTES];
        out[0] = u8::try_from(self.probes).expect("at most MAX_PROBES");
        out.reserve_exact(self.held_bytes());
        for word in self.lines.iter().flat_map(|line| line.0) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads a payload whose block header counts `lines`.
    pub(crate) fn decode(payload: &[u8], lines: u32) -> Result<Self, FormatError> {
        const BAD: FormatError = FormatError::Malformed("the filter's length or head is impossible");
        let (head, bits) = payload.split_at_checked(HEAD_BYTES).ok_or(BAD)?;
        let probes = u32::from(head[0]);
        let (words, rest) = bits.as_chunks::<8>();
        let whole = rest.is_empty() && words.len() == lines as usize * LINE_WORDS;
        if !whole || lines == 0 || !(1..=MAX_PROBES).contains(&probes) || head[1..] != [0; HEAD_BYTES - 1] {
            return Err(BAD);
        }
        let line = |words: &[[u8; 8]; LINE_WORDS]| Line(words.map(u64::from_le_bytes));
        let lines = words.as_chunks::<LINE_WORDS>().0.iter().map(line).collect();
        Ok(Self { lines, probes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(n: u64) -> u64 {
        key_hash(&n.to_be_bytes())
    }

    #[test]
    fn no_key_that_was_added_is_ever_denied_and_few_others_pass() {
        const KEYS: u64 = 1_000_000;
        let hashes: Vec<u64> = (0..KEYS).map(hash_of).collect();
        for (bits, bound) in [(5, 0.12), (10, 0.012), (16, 0.0015), (30, 0.0002)] {
            let filter = Filter::build(&hashes, bits);
            assert!(hashes.iter().all(|&hash| filter.may_contain(hash)), "{bits} bits");
            let passed = (KEYS..2 * KEYS)
                .filter(|&n| filter.may_contain(hash_of(n)))
                .count();
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = passed as f64 / KEYS as f64;
            println!("{bits} bits a key: {:.3} % false positives", rate * 100.0);
            assert!(rate <= bound, "{bits} bits a key: {rate}");
        }
    }

    #[test]
    fn small_filters_pass_few_too_so_partitions_do_not_dilute_them() {
        let mut passed = 0;
        for partition in 0..200_u64 {
            let base = partition << 32;
            let hashes: Vec<u64> = (base..base + 1350).map(hash_of).collect();
            let filter = Filter::build(&hashes, 10);
            assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
            passed += (base + 5000..base + 6000)
                .filter(|&n| filter.may_contain(hash_of(n)))
                .count();
        }
        assert!(passed <= 2400, "{passed} of 200,000 passed");
    }

    #[test]
    fn a_filter_reads_back_and_impossible_ones_are_refused() {
        let filter = Filter::build(&[1, 2, 3], 10);
        let payload = filter.encode();
        assert_eq!(Filter::decode(&payload, filter.lines()), Ok(filter.clone()));
        assert!(Filter::decode(&payload, 2).is_err());
        assert!(Filter::decode(&payload[..71], 1).is_err());
        assert!(Filter::decode(&payload[..8], 0).is_err());
        assert!(Filter::decode(&[], 0).is_err());
        for (at, byte) in [(0, 0), (0, 17), (3, 1)] {
            let mut bad = payload.clone();
            bad[at] = byte;
            assert!(Filter::decode(&bad, 1).is_err(), "byte {at} = {byte}");
        }
    }

    #[test]
    fn an_empty_set_denies_everything() {
        let filter = Filter::build(&[], 10);
        assert!((0..1000).all(|n| !filter.may_contain(hash_of(n))));
    }
}
