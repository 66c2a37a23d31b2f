//! Where in a block a lookup begins to walk: a few entries' keys side by side, as numbers that compare like keys.
//!
//! A binary search over restart points, and the walk after it, touch a cache line or two for each entry they look at, and
//! with values of some hundred bytes each of those is a miss of the processor's caches. So a block that is kept in memory
//! is walked once when it is opened, and of every entry that begins at least [`STRIDE_BYTES`] after the last *anchor* the
//! eight key bytes behind what all keys of the block share (its *head*) are kept. A lookup then begins right after the last
//! anchor whose head is below its own: for larger values it looks at one entry of the block alone.
//!
//! Nothing of it is stored in the file. Measured: gets of 416-byte entries from cached blocks, see `benches/sstable.rs`.

use super::search::head_of;

/// Bytes of the block from one anchor to the next at the least: four cache lines, which the processor fetches ahead.
const STRIDE_BYTES: usize = 256;
/// The longest shared prefix that is kept. Where all keys share more, their heads are alike and no anchor helps.
const MAX_PREFIX_BYTES: usize = 23;
/// Bytes of each key that are looked at.
const WINDOW_BYTES: usize = MAX_PREFIX_BYTES + 8;

/// An entry that a walk may begin behind.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    head: u64,
    /// Where the entry after it starts in the payload.
    next: u32,
}

/// The anchors of a block. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    prefix: [u8; MAX_PREFIX_BYTES],
    prefix_bytes: u8,
    anchors: Box<[Anchor]>,
}

/// The leading bytes of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    bytes: [u8; WINDOW_BYTES],
    len: usize,
}

impl Window {
    /// Becomes that of the next key, which shares `shared` bytes with this one and goes on with `delta`.
    fn advance(&mut self, shared: usize, delta: &[u8]) {
        let kept = shared.min(WINDOW_BYTES);
        let taken = delta.len().min(WINDOW_BYTES - kept);
        self.bytes[kept..kept + taken].copy_from_slice(&delta[..taken]);
        self.len = kept + taken;
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Anchors {
    /// Collects the anchors of a block's entries: for each, in order, where it starts and ends, how many bytes its key
    /// shares with the one before, and the rest of its key.
    pub(crate) fn build<'a>(entries: impl Iterator<Item = (usize, usize, usize, &'a [u8])>) -> Self {
        let mut window = Window::default();
        let mut first: Option<Window> = None;
        let mut found: Vec<(Window, u32)> = Vec::new();
        let mut due_at = 0;
        for (start, next, shared, delta) in entries {
            window.advance(shared, delta);
            first.get_or_insert(window);
            if start >= due_at {
                due_at = start + STRIDE_BYTES;
                found.push((window, u32::try_from(next).expect("a block is far below 4 GiB")));
            }
        }
        let Some(first) = first else {
            return Self::default();
        };
        // Keys ascend: what the first and the last share, all do.
        let shared = super::entries::common_prefix(first.get(), window.get()).min(MAX_PREFIX_BYTES);
        let mut prefix = [0; MAX_PREFIX_BYTES];
        prefix[..shared].copy_from_slice(&first.get()[..shared]);
        let anchor = |(window, next): (Window, u32)| Anchor {
            head: head_of(window.get().get(shared..).unwrap_or_default()),
            next,
        };
        Self {
            prefix,
            prefix_bytes: u8::try_from(shared).expect("at most MAX_PREFIX_BYTES"),
            anchors: found.into_iter().map(anchor).collect(),
        }
    }

    /// Where a walk for `key` may begin, and how many bytes of `key` the entry before that matches; `None` where no anchor
    /// is known to lie before it.
    ///
    /// An anchor that is a prefix of `key` can be said to match more bytes than it has. That is sound: the entry behind it
    /// cannot share more with it than it has.
    #[inline]
    pub(crate) fn start(&self, key: &[u8]) -> Option<(usize, usize)> {
        let shared = usize::from(self.prefix_bytes);
        let rest = key.strip_prefix(&self.prefix[..shared])?;
        let head = head_of(rest);
        let before = self.anchors.partition_point(|anchor| anchor.head < head);
        let anchor = self.anchors[before.checked_sub(1)?];
        let matched = (anchor.head ^ head).leading_zeros() as usize / 8;
        Some((anchor.next as usize, shared + matched))
    }

    /// Bytes of memory held beside the struct itself.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of_val::<[Anchor]>(&self.anchors)
    }
}

#[cfg(test)]
mod tests {
    use crate::io::sim::rng::Rng;
    use crate::sstable::block::Block;
    use crate::sstable::entries::{EntriesWriter, RESTART_INTERVAL, common_prefix};
    use crate::sstable::format::BlockType;
    use crate::types::{Kind, MAX_SEQUENCE, pack_trailer};

    type Versioned = (Vec<u8>, u64, Vec<u8>);

    /// Keys that are hard to tell apart: a shared prefix around the longest that is kept, few letters, zeros, keys that are
    /// prefixes of others, several versions of one.
    fn entries(rng: &mut Rng) -> Vec<Versioned> {
        let prefix: Vec<u8> = (0..rng.below(34)).map(|_| b'p').collect();
        let mut keys: Vec<Vec<u8>> = (0..1 + rng.below(60))
            .map(|_| {
                let mut key = prefix.clone();
                key.extend((0..rng.below(14)).map(|_| [0, 0, 1, b'a', 0xff][rng.index(5)]));
                key
            })
            .collect();
        keys.sort();
        keys.dedup();
        let mut entries = Vec::new();
        for key in keys {
            for version in (1..=1 + rng.index(3)).rev() {
                let value = vec![b'v'; version + rng.index(700)];
                entries.push((key.clone(), version as u64 * 10, value));
            }
        }
        entries
    }

    fn block_of(entries: &[Versioned]) -> Block {
        let mut writer = EntriesWriter::new(RESTART_INTERVAL);
        let mut previous: &[u8] = b"";
        for (key, sequence, value) in entries {
            let shared = writer.shared(common_prefix(previous, key));
            writer.push(shared, key, pack_trailer(*sequence, Kind::Put), value);
            previous = key;
        }
        let mut payload = Vec::new();
        let restarts = writer.finish_into(&mut payload);
        Block::from_payload(payload, restarts, BlockType::Data).unwrap()
    }

    #[test]
    fn a_lookup_from_an_anchor_finds_what_a_walk_over_all_entries_finds() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let entries = entries(&mut rng);
            let block = block_of(&entries);
            let mut wanted: Vec<Vec<u8>> = entries.iter().map(|entry| entry.0.clone()).collect();
            for key in wanted.clone() {
                wanted.push([&key[..], &[0]].concat());
                wanted.push([&key[..], b"zzzzzzzzzzzz"].concat());
                wanted.push(key[..key.len().saturating_sub(1)].to_vec());
            }
            for key in &wanted {
                for at in [MAX_SEQUENCE, 20, 10, 5] {
                    let walk = entries
                        .iter()
                        .find(|(k, sequence, _)| k == key && *sequence <= at);
                    let found = block
                        .get(key, at)
                        .map(|entry| (entry.sequence, entry.value.to_vec()));
                    let expected = walk.map(|(_, sequence, value)| (*sequence, value.clone()));
                    assert_eq!(found, expected, "seed {seed}, key {key:?} at {at}");
                }
            }
        }
    }
}
