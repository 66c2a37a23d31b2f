//! The block cache of one shard: recently used blocks by table and place, bounded in bytes.
//!
//! It belongs to one core and needs no lock. Replacement is `quick_cache`'s CLOCK-Pro variant, which a long scan does not
//! flush: a block seen once is the first to go. Values are reference-counted, so evicting one that is being read frees
//! it when the reader is done. Table numbers are never used twice, so what stays of a removed table can never be found;
//! [`BlockCache::remove_table`] only gives its room back early.
//!
//! Where its time goes (criterion, `benches/sstable.rs`, 100,000 entries of 416 bytes): finding the block's place in a table
//! takes 0.25 µs and the entry in a block at hand under 0.1 µs, a get through the cache 1.8 µs. What lies between is memory:
//! the cache's hash table, its slot, the block, its anchors, its bytes, one miss of the processor's caches after the other.
//! Slots of blocks beside the index entry that names them would spare the first two.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, Weighter};

/// What a cached value weighs.
pub trait Weigh: Clone {
    /// Bytes of memory that the value holds.
    fn held_bytes(&self) -> usize;
}

/// Room that an entry takes beside its value, in bytes: key, list links, reference count, allocator.
const ENTRY_BYTES: usize = 96;

/// What an entry is taken to hold when the cache is laid out: one page, decompressed or not.
const EXPECTED_BLOCK_BYTES: u64 = 4096;

/// A value larger than this part of the capacity would push out too much else, and is not kept.
const LARGEST_PART: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    table: u64,
    page: u32,
}

/// Two multiplications: the keys are numbers that we make ourselves, so nobody can craft collisions.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl KeyHasher {
    fn mix(&mut self, word: u64) {
        let product =
            u128::from(self.0 ^ word ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded together")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded;
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug, Clone, Copy)]
struct ByHeldBytes;

impl<V: Weigh> Weighter<Key, V> for ByHeldBytes {
    fn weight(&self, _: &Key, value: &V) -> u64 {
        (value.held_bytes() + ENTRY_BYTES) as u64
    }
}

/// What an insertion pushes out.
#[derive(Debug, Default)]
struct Pushed {
    by: Option<Key>,
    values: u64,
}

/// Counts it.
#[derive(Debug, Clone, Copy)]
struct CountEvicted;

impl<V> Lifecycle<Key, V> for CountEvicted {
    type RequestState = Pushed;

    fn on_evict(&self, pushed: &mut Pushed, key: Key, _: V) {
        // A value that another of the same block replaces comes by here too.
        if pushed.by != Some(key) {
            pushed.values += 1;
        }
    }
}

type Inner<V> = Cache<Key, V, ByHeldBytes, BuildHasherDefault<KeyHasher>, CountEvicted>;

/// The cache. See the [module](self).
pub struct BlockCache<V: Weigh> {
    inner: RefCell<Inner<V>>,
    capacity_bytes: u64,
    hits: Cell<u64>,
    misses: Cell<u64>,
    inserts: Cell<u64>,
    inserted_bytes: Cell<u64>,
    evictions: Cell<u64>,
}

impl<V: Weigh> std::fmt::Debug for BlockCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What the cache did and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found their block.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Values kept since open, also in the place of another of the same block.
    pub inserts: u64,
    /// Bytes that those values held.
    pub inserted_bytes: u64,
    /// Values pushed out to make room for others.
    pub evictions: u64,
    /// Bytes held now, overhead included.
    pub held_bytes: u64,
    /// The bound on them.
    pub capacity_bytes: u64,
    /// Values held now.
    pub blocks: u64,
}

impl<V: Weigh> BlockCache<V> {
    /// A cache that holds at most `capacity_bytes`; 0 keeps nothing.
    pub fn new(capacity_bytes: u64) -> Self {
        let blocks = usize::try_from(capacity_bytes / EXPECTED_BLOCK_BYTES)
            .unwrap_or(usize::MAX)
            .max(16);
        let inner = Cache::with(
            blocks,
            capacity_bytes,
            ByHeldBytes,
            BuildHasherDefault::default(),
            CountEvicted,
        );
        Self {
            inner: RefCell::new(inner),
            capacity_bytes,
            hits: Cell::new(0),
            misses: Cell::new(0),
            inserts: Cell::new(0),
            inserted_bytes: Cell::new(0),
            evictions: Cell::new(0),
        }
    }

    /// The block at `page` of the table with number `table`.
    pub fn get(&self, table: u64, page: u32) -> Option<V> {
        let found = self.inner.borrow().get(&Key { table, page }).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    /// Keeps a block, unless it is larger than an eighth of the cache.
    pub fn insert(&self, table: u64, page: u32, value: V) {
        let bytes = value.held_bytes() as u64;
        if bytes > self.capacity_bytes / LARGEST_PART {
            return;
        }
        let key = Key { table, page };
        let mut pushed = Pushed {
            by: Some(key),
            values: 0,
        };
        self.inner
            .borrow_mut()
            .insert_with_lifecycle(key, value, &mut pushed);
        for (counter, more) in [
            (&self.inserts, 1),
            (&self.inserted_bytes, bytes),
            (&self.evictions, pushed.values),
        ] {
            counter.set(counter.get() + more);
        }
    }

    /// Gives back the room of every block of a table that is gone. Visits the whole cache: some ten nanoseconds a
    /// block held, so call it from maintenance and not from a request.
    pub fn remove_table(&self, table: u64) {
        self.inner.borrow_mut().retain(|key, _| key.table != table);
    }

    /// What the cache did and holds.
    pub fn stats(&self) -> CacheStats {
        let inner = self.inner.borrow();
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            inserts: self.inserts.get(),
            inserted_bytes: self.inserted_bytes.get(),
            evictions: self.evictions.get(),
            held_bytes: inner.weight(),
            capacity_bytes: self.capacity_bytes,
            blocks: inner.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    impl Weigh for Rc<Vec<u8>> {
        fn held_bytes(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn the_bound_in_bytes_holds_and_a_block_is_found_by_table_and_page() {
        let cache = BlockCache::new(1 << 20);
        for page in 0..4096 {
            cache.insert(u64::from(page % 3), page, Rc::new(vec![0_u8; 4000]));
            assert!(cache.stats().held_bytes <= 1 << 20);
        }
        assert!(cache.stats().blocks > 200);
        cache.insert(7, 1, Rc::new(vec![1]));
        assert_eq!(cache.get(7, 1), Some(Rc::new(vec![1])));
        assert_eq!(cache.get(8, 1), None);
        assert_eq!(cache.get(7, 2), None);
        assert_eq!((cache.stats().hits, cache.stats().misses), (1, 2));
    }

    #[test]
    fn a_block_over_an_eighth_of_the_cache_is_not_kept() {
        let cache = BlockCache::new(80_000);
        cache.insert(1, 1, Rc::new(vec![0_u8; 10_001]));
        assert_eq!(cache.get(1, 1), None);
        cache.insert(1, 1, Rc::new(vec![0_u8; 10_000]));
        assert!(cache.get(1, 1).is_some());
        let none = BlockCache::new(0);
        none.insert(1, 1, Rc::new(vec![0_u8; 1]));
        assert_eq!(none.get(1, 1), None);
    }

    #[test]
    fn what_was_put_in_is_held_evicted_or_removed_and_counted() {
        let cache = BlockCache::new(1 << 20);
        for page in 0..100 {
            cache.insert(1, page, Rc::new(vec![0_u8; 4000]));
        }
        let stats = cache.stats();
        assert_eq!(
            (stats.inserts, stats.inserted_bytes, stats.evictions),
            (100, 400_000, 0)
        );
        cache.insert(1, 7, Rc::new(vec![1_u8; 4000]));
        assert_eq!(cache.stats().evictions, 0, "replaced is not evicted");
        for page in 0..1000 {
            cache.insert(2, page, Rc::new(vec![0_u8; 4000]));
        }
        let stats = cache.stats();
        assert_eq!(stats.inserts, 1101);
        assert_eq!(stats.blocks + stats.evictions, 1100);
        assert!(stats.evictions > 800);
        cache.insert(3, 0, Rc::new(vec![0_u8; 200_000]));
        assert_eq!(cache.stats(), stats, "what is not kept is not counted");
        cache.remove_table(1);
        cache.remove_table(2);
        assert_eq!(cache.stats().evictions, stats.evictions, "removed is not evicted");
    }

    #[test]
    fn a_removed_table_leaves_nothing_and_the_others_stay() {
        let cache = BlockCache::new(1 << 20);
        for page in 0..20 {
            cache.insert(1, page, Rc::new(vec![0_u8; 100]));
            cache.insert(2, page, Rc::new(vec![0_u8; 100]));
        }
        cache.remove_table(1);
        assert!((0..20).all(|page| cache.get(1, page).is_none() && cache.get(2, page).is_some()));
        assert_eq!(cache.stats().blocks, 20);
    }

    #[test]
    fn a_long_scan_does_not_flush_what_is_used_again_and_again() {
        let cache = BlockCache::new(1 << 20);
        let hot = 0..50;
        for _ in 0..4 {
            for page in hot.clone() {
                if cache.get(1, page).is_none() {
                    cache.insert(1, page, Rc::new(vec![0_u8; 4096]));
                }
            }
        }
        for page in 0..10_000 {
            cache.insert(2, page, Rc::new(vec![0_u8; 4096]));
        }
        let kept = hot.filter(|&page| cache.get(1, page).is_some()).count();
        assert!(kept >= 45, "{kept} of 50 hot blocks survived the scan");
    }
}
