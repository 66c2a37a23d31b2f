//! What is done to every engine alike: keys, values, and the one loop that all callers run.
//!
//! Keys are 16 bytes: a bijective mix of an index, then the index, so a run of indices makes keys in random order, no
//! two alike, and any key tells its index back. Values are 400 bytes made from the index: whoever reads one can tell
//! whether it is right. A caller is closed-loop: its next operation begins when its last has ended, and an operation's
//! latency runs from the end of the one before it, so it contains making the key and checking the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use histogram::Histogram;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 400;
/// Bytes of a key and its value.
pub const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
/// Entries of one scan.
pub const SCAN_ENTRIES: usize = 100;
/// One in so many entries belongs to the hot range, which fits the cache.
const HOT_PART: u64 = 20;
/// Where the indices of durable puts begin: far from those of the load.
const PUT_SPACE: u64 = 1 << 62;
/// Where the indices of keys that are never written begin.
const MISS_SPACE: u64 = 1 << 63;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// The finisher of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that looks random.
pub fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of an index.
pub fn key_of(index: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&mix(index).to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index of a key made by [`key_of`]; `None` for any other bytes.
pub fn index_of(key: &[u8]) -> Option<u64> {
    let index = u64::from_be_bytes(key.get(8..)?.try_into().ok()?);
    (key_of(index) == key).then_some(index)
}

/// How values look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// The first half random, the second zeros.
    HalfCompressible,
    /// All random.
    Incompressible,
}

impl Values {
    /// Makes the value of an index.
    pub fn fill(self, index: u64, out: &mut [u8; VALUE_BYTES]) {
        let random = match self {
            Self::HalfCompressible => VALUE_BYTES / 2,
            Self::Incompressible => VALUE_BYTES,
        };
        let mut word = mix(!index);
        for chunk in out[..random].chunks_exact_mut(8) {
            word = word
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            chunk.copy_from_slice(&(word ^ (word >> 29)).to_le_bytes());
        }
        out[random..].fill(0);
    }

    /// Whether this is the value of an index.
    pub fn is_value_of(self, index: u64, value: &[u8]) -> bool {
        let mut expected = [0; VALUE_BYTES];
        self.fill(index, &mut expected);
        value == expected
    }
}

/// The indices of the hot range in key order: about one entry in twenty, next to each other in key order.
pub fn hot_indices(entries: u64) -> Arc<[u64]> {
    let mut hot: Vec<u64> = (0..entries)
        .filter(|&index| mix(index) < u64::MAX / HOT_PART)
        .collect();
    hot.sort_unstable_by_key(|&index| mix(index));
    hot.into()
}

/// What callers do until their time is over, or until there is no more of it.
#[derive(Debug, Clone)]
pub enum Work {
    /// Durable puts of new keys; `run` keeps runs apart.
    Put { run: u64 },
    /// Buffered puts of the indices from 0.
    Load { entries: u64 },
    /// Gets of random keys that are there.
    Read { entries: u64 },
    /// Gets of random keys that are not there.
    Miss,
    /// One get of each hot key, in key order.
    Warm { hot: Arc<[u64]> },
    /// Gets of random hot keys.
    ReadHot { hot: Arc<[u64]> },
    /// Scans of 100 entries from random hot keys.
    Scan { hot: Arc<[u64]> },
}

/// One of the callers that share a work: it takes every `of`-th index, from its number on.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// From 0.
    pub number: u64,
    /// How many share the work.
    pub of: u64,
    /// Where its random numbers begin.
    pub seed: u64,
}

/// Where the random numbers of a new phase's first caller begin; the others follow it. No two phases of a run share any:
/// a phase that drew the keys of the one before it would find them in the cache.
pub fn fresh_seed() -> u64 {
    static PHASES: AtomicU64 = AtomicU64::new(0);
    PHASES.fetch_add(1, Ordering::Relaxed) << 32
}

/// An engine as one caller sees it.
pub trait Client {
    /// Whether this caller asks for this key; callers on a shard's core ask for its keys alone.
    fn owns(&self, key: &Key) -> bool;
    /// Sets a key; returns once it is on stable storage where `durable`, else once it is accepted.
    async fn put(&self, key: &Key, value: &[u8], durable: bool) -> Result<(), String>;
    /// Hands a key's value to `check` and gives its answer back.
    async fn get(&self, key: &Key, check: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, String>;
    /// Hands up to `limit` entries from `start` on to `visit` until that says no; returns whether it never did.
    async fn scan(
        &self,
        start: &Key,
        limit: usize,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, String>;
    /// Lets others run where that is cooperative.
    async fn breathe(&self);
}

/// What callers did.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Latency of every operation in nanoseconds; relative error under 1 %.
    pub latency_ns: Histogram,
    /// Operations.
    pub ops: u64,
}

impl Tally {
    /// Of nothing yet.
    pub fn new() -> Self {
        let latency_ns = Histogram::new(7, 40).expect("7 < 40 <= 64, as the histogram asks");
        Self { latency_ns, ops: 0 }
    }

    /// Counts an operation.
    pub fn record(&mut self, latency: Duration) {
        // Eighteen minutes and more are all counted as the longest that the histogram holds.
        let ns = u64::try_from(latency.as_nanos())
            .unwrap_or(u64::MAX)
            .min((1 << 40) - 1);
        self.latency_ns
            .increment(ns)
            .expect("the value was brought into range");
        self.ops += 1;
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        let sum = self.latency_ns.checked_add(&other.latency_ns);
        self.latency_ns = sum.expect("all tallies have one shape, and no count nears 2^64");
        self.ops += other.ops;
    }
}

/// What a phase of callers took.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What they did.
    pub tally: Tally,
    /// Wall-clock time.
    pub elapsed: Duration,
}

impl Phase {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.tally.ops as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs one caller until `limit` has passed or its work is done.
///
/// # Errors
/// The engine's, or what was wrong with an answer.
pub async fn run_caller<C: Client>(
    client: &C,
    work: &Work,
    caller: Caller,
    values: Values,
    limit: Duration,
) -> Result<Tally, String> {
    let mut steps = Steps::of(caller);
    let mut tally = Tally::new();
    let start = Instant::now();
    let mut last = start;
    while steps.step(client, work, values).await? {
        let now = Instant::now();
        tally.record(now - last);
        last = now;
        if now - start >= limit {
            break;
        }
        client.breathe().await;
    }
    Ok(tally)
}

/// Where a caller is in its work.
struct Steps {
    next: u64,
    caller: Caller,
    random: u64,
}

impl Steps {
    fn of(caller: Caller) -> Self {
        Self {
            next: caller.number,
            caller,
            random: mix(caller.seed),
        }
    }

    fn random_below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let wide = u128::from(mix(self.random)) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of a product has 64 bits")
    }

    /// The caller's next own index below `end` that `place` maps to a key it owns.
    fn next_owned<C: Client>(
        &mut self,
        client: &C,
        end: u64,
        place: impl Fn(u64) -> u64,
    ) -> Option<(u64, Key)> {
        while self.next < end {
            let index = place(self.next);
            self.next += self.caller.of;
            let key = key_of(index);
            if client.owns(&key) {
                return Some((index, key));
            }
        }
        None
    }

    fn random_owned<C: Client>(&mut self, client: &C, end: u64, place: impl Fn(u64) -> u64) -> (u64, Key) {
        loop {
            let index = place(self.random_below(end));
            let key = key_of(index);
            if client.owns(&key) {
                return (index, key);
            }
        }
    }

    /// Does one operation; false when there is none left.
    async fn step<C: Client>(&mut self, client: &C, work: &Work, values: Values) -> Result<bool, String> {
        let at = |hot: &Arc<[u64]>, place: u64| hot[usize::try_from(place).expect("an index of a slice")];
        match work {
            Work::Put { run } => {
                let base = PUT_SPACE + (run << 40);
                let next = self.next_owned(client, 1 << 40, |n| base + n);
                put(client, next, values, true).await
            }
            Work::Load { entries } => {
                let next = self.next_owned(client, *entries, |n| n);
                put(client, next, values, false).await
            }
            Work::Read { entries } => {
                let (index, key) = self.random_owned(client, *entries, |n| n);
                read(client, index, &key, values).await
            }
            Work::Miss => {
                let (_, key) = self.random_owned(client, MISS_SPACE, |n| MISS_SPACE + n);
                let absent = client.get(&key, |value| value.is_none()).await?;
                absent
                    .then_some(true)
                    .ok_or_else(|| format!("key {key:02x?} was never written, but is there"))
            }
            Work::Warm { hot } => match self.next_owned(client, hot.len() as u64, |n| at(hot, n)) {
                Some((index, key)) => read(client, index, &key, values).await,
                None => Ok(false),
            },
            Work::ReadHot { hot } => {
                let (index, key) = self.random_owned(client, hot.len() as u64, |n| at(hot, n));
                read(client, index, &key, values).await
            }
            Work::Scan { hot } => {
                let starts = (hot.len() - SCAN_ENTRIES) as u64;
                let first = usize::try_from(self.random_below(starts)).expect("an index of a slice");
                scan(client, &hot[first..first + SCAN_ENTRIES], values).await
            }
        }
    }
}

async fn put<C: Client>(
    client: &C,
    next: Option<(u64, Key)>,
    values: Values,
    durable: bool,
) -> Result<bool, String> {
    let Some((index, key)) = next else {
        return Ok(false);
    };
    let mut value = [0; VALUE_BYTES];
    values.fill(index, &mut value);
    client.put(&key, &value, durable).await?;
    Ok(true)
}

async fn read<C: Client>(client: &C, index: u64, key: &Key, values: Values) -> Result<bool, String> {
    let right = client
        .get(key, |value| {
            value.is_some_and(|value| values.is_value_of(index, value))
        })
        .await?;
    right
        .then_some(true)
        .ok_or_else(|| format!("key {key:02x?} is not there, or has a wrong value"))
}

async fn scan<C: Client>(client: &C, expected: &[u64], values: Values) -> Result<bool, String> {
    let start = key_of(expected[0]);
    let mut left = expected.iter();
    let right = client
        .scan(&start, expected.len(), |key, value| {
            left.next()
                .is_some_and(|&index| key_of(index) == key && values.is_value_of(index, value))
        })
        .await?;
    let whole = right && left.next().is_none();
    whole
        .then_some(true)
        .ok_or_else(|| format!("a scan from {start:02x?} gave a wrong or missing entry"))
}

/// Runs `callers` plain threads, each a caller; the client blocks instead of awaiting.
///
/// # Errors
/// The first caller's error.
pub fn run_threads<C: Client + Sync>(
    client: &C,
    work: &Work,
    callers: usize,
    values: Values,
    limit: Duration,
) -> Result<Phase, String> {
    let first_seed = fresh_seed();
    let start = Instant::now();
    let tallies: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers as u64)
            .map(|number| {
                let caller = Caller {
                    number,
                    of: callers as u64,
                    seed: first_seed + number,
                };
                scope.spawn(move || {
                    let run = run_caller(client, work, caller, values, limit);
                    run.now_or_never()
                        .expect("a client of threads blocks and never pends")
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
        threads
            .into_iter()
            .map(|thread| join(thread).unwrap_or_else(|_| Err("a caller panicked".to_owned())))
            .collect()
    });
    let elapsed = start.elapsed();
    let mut tally = Tally::new();
    for part in tallies {
        tally.merge(&part?);
    }
    Ok(Phase { tally, elapsed })
}

/// Checks a walk over a whole database: keys ascending, every value right, and as many entries as were written. Since
/// no two indices share a key, the count shows that none is missing.
#[derive(Debug)]
pub struct Sweep {
    values: Values,
    last: Option<Key>,
    seen: u64,
}

impl Sweep {
    /// Of nothing yet.
    pub fn new(values: Values) -> Self {
        Self {
            values,
            last: None,
            seen: 0,
        }
    }

    /// Checks the next entry of the walk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let index = index_of(key).ok_or_else(|| format!("key {key:02x?} was never written"))?;
        let key = key_of(index);
        if self.last.is_some_and(|last| last >= key) {
            return Err(format!("key {key:02x?} is out of order"));
        }
        if !self.values.is_value_of(index, value) {
            return Err(format!("key {key:02x?} has a wrong value"));
        }
        (self.last, self.seen) = (Some(key), self.seen + 1);
        Ok(())
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// When it saw more or fewer entries than were written.
    pub fn finish(self, written: u64) -> Result<(), String> {
        if self.seen == written {
            return Ok(());
        }
        Err(format!(
            "{} entries were written, {} are there",
            written, self.seen
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::{BTreeMap, HashSet};

    #[test]
    fn a_key_tells_its_index_and_strangers_tell_none() {
        for index in [0, 1, 4_000_000, PUT_SPACE, MISS_SPACE, u64::MAX] {
            assert_eq!(index_of(&key_of(index)), Some(index));
        }
        let mut bad = key_of(7);
        bad[0] ^= 1;
        assert_eq!(index_of(&bad), None);
        assert_eq!(index_of(b"short"), None);
        assert_eq!(index_of(&[0; 17]), None);
    }

    #[test]
    fn keys_differ_and_come_in_no_order() {
        let keys: Vec<Key> = (0..10_000).map(key_of).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        let rises = keys.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_700..5_300).contains(&rises), "{rises}");
    }

    #[test]
    fn a_value_is_known_again_and_one_wrong_byte_is_seen() {
        for values in [Values::HalfCompressible, Values::Incompressible] {
            let mut value = [0; VALUE_BYTES];
            values.fill(3, &mut value);
            assert!(values.is_value_of(3, &value));
            assert!(!values.is_value_of(4, &value));
            assert!(!values.is_value_of(3, &value[1..]));
            for at in 0..VALUE_BYTES {
                let mut bad = value;
                bad[at] ^= 1;
                assert!(!values.is_value_of(3, &bad), "byte {at}");
            }
        }
    }

    #[test]
    fn half_of_a_half_compressible_value_is_zeros() {
        let mut value = [1; VALUE_BYTES];
        Values::HalfCompressible.fill(9, &mut value);
        assert!(value[VALUE_BYTES / 2..].iter().all(|&byte| byte == 0));
        let distinct: HashSet<_> = value[..VALUE_BYTES / 2].chunks(8).collect();
        assert_eq!(
            distinct.len(),
            VALUE_BYTES / 16,
            "the random half does not repeat"
        );
    }

    #[test]
    fn the_hot_range_is_the_first_of_all_keys_in_order() {
        let mut all: Vec<u64> = (0..20_000).collect();
        all.sort_unstable_by_key(|&index| key_of(index));
        let hot = hot_indices(20_000);
        assert!((800..1_200).contains(&hot.len()), "{}", hot.len());
        assert_eq!(*hot, all[..hot.len()]);
    }

    /// A map that may be told to lie.
    #[derive(Default)]
    struct Model {
        map: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
        odd_only: bool,
    }

    impl Client for Model {
        fn owns(&self, key: &Key) -> bool {
            !self.odd_only || key[15] % 2 == 1
        }
        async fn put(&self, key: &Key, value: &[u8], _durable: bool) -> Result<(), String> {
            let old = self.map.borrow_mut().insert(key.to_vec(), value.to_vec());
            old.is_none().then_some(()).ok_or("written twice".to_owned())
        }
        async fn get(&self, key: &Key, mut check: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, String> {
            Ok(check(self.map.borrow().get(key.as_slice()).map(Vec::as_slice)))
        }
        async fn scan(
            &self,
            start: &Key,
            limit: usize,
            mut visit: impl FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<bool, String> {
            let map = self.map.borrow();
            Ok(map
                .range(start.to_vec()..)
                .take(limit)
                .all(|(key, value)| visit(key, value)))
        }
        async fn breathe(&self) {}
    }

    const VALUES: Values = Values::HalfCompressible;

    fn run(model: &Model, work: &Work, number: u64, of: u64) -> Result<Tally, String> {
        let caller = Caller {
            number,
            of,
            seed: number,
        };
        run_caller(model, work, caller, VALUES, Duration::from_millis(20))
            .now_or_never()
            .unwrap()
    }

    fn sweep(model: &Model, written: u64) -> Result<(), String> {
        let mut sweep = Sweep::new(VALUES);
        model
            .map
            .borrow()
            .iter()
            .try_for_each(|(key, value)| sweep.visit(key, value))?;
        sweep.finish(written)
    }

    fn loaded(entries: u64) -> Model {
        let model = Model::default();
        let load = Work::Load { entries };
        let total: u64 = (0..3)
            .map(|number| run(&model, &load, number, 3).unwrap().ops)
            .sum();
        assert_eq!(total, entries);
        model
    }

    #[test]
    fn callers_share_a_load_without_gap_or_overlap() {
        let model = loaded(5_000);
        sweep(&model, 5_000).unwrap();
        let odd = Model {
            odd_only: true,
            ..Model::default()
        };
        assert_eq!(run(&odd, &Work::Load { entries: 100 }, 0, 1).unwrap().ops, 50);
    }

    #[test]
    fn every_work_passes_on_an_engine_that_tells_the_truth() {
        let model = loaded(5_000);
        let hot = hot_indices(5_000);
        for work in [
            Work::Read { entries: 5_000 },
            Work::Miss,
            Work::ReadHot {
                hot: Arc::clone(&hot),
            },
            Work::Scan {
                hot: Arc::clone(&hot),
            },
        ] {
            assert!(run(&model, &work, 0, 1).unwrap().ops > 0, "{work:?}");
        }
        assert_eq!(
            run(
                &model,
                &Work::Warm {
                    hot: Arc::clone(&hot)
                },
                0,
                1
            )
            .unwrap()
            .ops,
            hot.len() as u64
        );
        let puts: u64 = (0..2)
            .map(|run_| run(&model, &Work::Put { run: run_ }, 0, 1).unwrap().ops)
            .sum();
        sweep(&model, 5_000 + puts).unwrap();
    }

    #[test]
    fn a_wrong_value_is_an_error_in_every_work_that_reads() {
        let model = loaded(2_000);
        let hot = hot_indices(2_000);
        for value in model.map.borrow_mut().values_mut() {
            value[399] = 1;
        }
        for work in [
            Work::Read { entries: 2_000 },
            Work::Warm {
                hot: Arc::clone(&hot),
            },
            Work::ReadHot {
                hot: Arc::clone(&hot),
            },
            Work::Scan { hot },
        ] {
            assert!(run(&model, &work, 0, 1).is_err(), "{work:?}");
        }
        assert!(sweep(&model, 2_000).unwrap_err().contains("wrong value"));
    }

    #[test]
    fn a_missing_or_extra_entry_is_an_error() {
        let model = loaded(2_000);
        let hot = hot_indices(2_000);
        model.map.borrow_mut().remove(key_of(hot[50]).as_slice()).unwrap();
        assert!(
            run(
                &model,
                &Work::Warm {
                    hot: Arc::clone(&hot)
                },
                0,
                1
            )
            .is_err()
        );
        assert!(run(&model, &Work::Scan { hot }, 0, 1).is_err());
        assert!(sweep(&model, 2_000).is_err());
        assert!(sweep(&model, 1_999).is_ok());
        model.map.borrow_mut().insert(b"stranger".to_vec(), Vec::new());
        assert!(sweep(&model, 2_000).unwrap_err().contains("never written"));
    }

    #[test]
    fn no_two_phases_draw_the_same_keys() {
        let drawn = |first: u64| -> Vec<u64> {
            let caller = Caller {
                number: 0,
                of: 1,
                seed: first,
            };
            let mut steps = Steps::of(caller);
            (0..1000).map(|_| steps.random_below(1 << 40)).collect()
        };
        let (a, b) = (drawn(fresh_seed()), drawn(fresh_seed()));
        assert_eq!(a.iter().chain(&b).collect::<HashSet<_>>().len(), 2000);
    }

    #[test]
    fn a_tally_adds_up() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        a.record(Duration::from_micros(5));
        b.record(Duration::from_secs(100_000));
        a.merge(&b);
        assert_eq!((a.ops, a.latency_ns.as_slice().iter().sum::<u64>()), (2, 2));
    }
}
