//! The operations of one caller.
//!
//! **Indices.** The load is the first phase's first group where it inserts and does nothing else: stream `s` of `n` takes
//! the indices s, s + n, s + 2n and so on below `keys.count`, and then ends. Every other group's inserts take an index
//! space of their own, 2^40 wide, in the same steps, and never end; so no two streams insert the same key. Keys that are
//! missing have the top bit set, which is never written.
//!
//! **Versions.** 0 in the load; elsewhere place and number of the operation, so that no two writes of a run make the same
//! value.
//!
//! | bits | what |
//! |---|---|
//! | 60–63 | 0 |
//! | 56–59 | phase |
//! | 52–55 | group |
//! | 40–51 | stream |
//! | 0–39 | number of the operation in its stream, from 1 |
//!
//! **What exists.** Reads, updates, deletes and scans choose among the loaded entries and, with `latest`, the stream's own
//! inserts of its phase: another stream's may not have happened yet. Where something deletes, in this phase or an earlier
//! one, a read may find nothing.
//!
//! An operation takes 5 ns to draw uniformly and 45 by zipfian (scrambled 59, YCSB's A 66, D 57), and a stream 163 ns to
//! make, over 100 million entries: one core of a virtual machine, release build, least of 400 rounds.

use crate::spec::{Group, KeyOrder, Mix, Spec};
use crate::workload::choose::{Chooser, Scatter};
use crate::workload::rng::{Rng, mix};
use crate::workload::sizes::SizeMaker;
use crate::workload::{Expect, Op, OpKind};

/// Set in the index of a key that is never written.
pub const MISSING: u64 = 1 << 63;

/// Bits of an index space, and of the number of an operation.
pub const SPACE_BITS: u32 = 40;

/// The most phases of a spec, and groups of a phase.
pub const PLACES: usize = 16;

/// The most streams of a group.
pub const STREAMS: u32 = 4096;

/// Which stream of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Place of the phase in the spec.
    pub phase: usize,
    /// Place of the group in the phase.
    pub group: usize,
    /// Number of the stream in the group.
    pub stream: u32,
}

/// An endless (or, of a load, ending) sequence of operations.
#[derive(Debug, Clone)]
pub struct Stream {
    rng: Rng,
    kinds: Kinds,
    chooser: Chooser,
    inserts: Inserts,
    loaded: u64,
    entries: SizeMaker,
    expect: Expect,
    /// Version of the last operation, whether or not it wrote.
    version: u64,
}

impl Stream {
    /// The stream at a place of a checked spec.
    ///
    /// # Panics
    /// When the spec has no such place.
    pub fn new(spec: &Spec, place: Place, seed: u64) -> Self {
        let group = &spec.phases[place.phase].groups[place.group];
        let streams = group.load.callers();
        assert!(
            place.phase < PLACES && place.group < PLACES && place.stream < streams && streams <= STREAMS,
            "{place:?} is no place of a checked spec"
        );
        let (phase, number) = (place.phase as u64, place.group as u64);
        let version = (phase << 56) | (number << 52) | (u64::from(place.stream) << SPACE_BITS);
        Self {
            rng: Rng::new(mix(seed) ^ version),
            kinds: Kinds::new(&group.mix),
            chooser: Chooser::new(group.distribution, spec.keys.count, place.stream, streams),
            inserts: Inserts::new(spec, place, group),
            loaded: spec.keys.count,
            entries: SizeMaker::new(group.scan_entries),
            expect: expected(spec, place.phase),
            version,
        }
    }

    /// The next operation; `None` once a load has given its last.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's adapters have no use in a caller's loop"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<Op> {
        self.version += 1;
        let kind = self.kinds.draw(&mut self.rng);
        let mut op = Op {
            kind,
            index: 0,
            version: 0,
            entries: 0,
            expect: self.expect,
        };
        match kind {
            OpKind::Insert => {
                op.index = self.inserts.next()?;
                op.version = if self.inserts.load { 0 } else { self.version };
                self.chooser.inserted();
            }
            OpKind::ReadMissing => {
                op.index = self.existing() | MISSING;
                op.expect = Expect::Absent;
            }
            OpKind::Read | OpKind::Delete => op.index = self.existing(),
            OpKind::Update | OpKind::ReadModifyWrite => {
                op.index = self.existing();
                op.version = self.version;
            }
            OpKind::Scan => {
                op.index = self.existing();
                op.entries = self.entries.draw(&mut self.rng);
            }
        }
        Some(op)
    }

    #[inline]
    fn existing(&mut self) -> u64 {
        let chosen = self.chooser.choose(&mut self.rng);
        if chosen < self.loaded {
            chosen
        } else {
            self.inserts.nth(chosen - self.loaded)
        }
    }
}

/// Whether a group is the load of its spec.
pub fn is_load(group: &Group, phase: usize, place: usize) -> bool {
    phase == 0
        && place == 0
        && group.mix
            == Mix {
                insert: group.mix.insert,
                ..Mix::default()
            }
}

fn expected(spec: &Spec, phase: usize) -> Expect {
    let groups = spec.phases[..=phase].iter().flat_map(|phase| &phase.groups);
    if groups.into_iter().any(|group| group.mix.delete > 0.0) {
        Expect::Either
    } else {
        Expect::Present
    }
}

/// Where inserts go.
#[derive(Debug, Clone)]
struct Inserts {
    load: bool,
    first: u64,
    next: u64,
    step: u64,
    end: u64,
    shuffled: Option<Scatter>,
}

impl Inserts {
    fn new(spec: &Spec, place: Place, group: &Group) -> Self {
        let load = is_load(group, place.phase, place.group);
        let space = ((place.phase * PLACES + place.group + 1) as u64) << SPACE_BITS;
        let (first, end) = if load {
            (u64::from(place.stream), spec.keys.count)
        } else {
            (space + u64::from(place.stream), space + (1 << SPACE_BITS))
        };
        let shuffled = load && spec.keys.order == KeyOrder::Shuffled;
        Self {
            load,
            first,
            next: first,
            step: u64::from(group.load.callers()),
            end,
            shuffled: shuffled.then(|| Scatter::new(spec.keys.count)),
        }
    }

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let index = self.next;
        if index >= self.end {
            return None;
        }
        self.next += self.step;
        Some(self.shuffled.as_ref().map_or(index, |scatter| scatter.of(index)))
    }

    /// The index of this stream's insert of that number, from 0; not of a load.
    #[inline]
    fn nth(&self, number: u64) -> u64 {
        self.first + self.step * number
    }
}

/// Draws kinds of operations by their shares.
#[derive(Debug, Clone)]
struct Kinds {
    /// Each with the sum of shares up to and with it, in parts of 2^53.
    kinds: [(u64, OpKind); OpKind::ALL.len()],
    used: usize,
}

impl Kinds {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a sum of shares lies between 0 and 1"
    )]
    fn new(mix: &Mix) -> Self {
        let mut kinds = [(u64::MAX, OpKind::Read); OpKind::ALL.len()];
        let (mut used, mut sum) = (0, 0.0);
        for kind in OpKind::ALL.into_iter().filter(|&kind| mix.share(kind) > 0.0) {
            sum += mix.share(kind);
            kinds[used] = ((sum * (1_u64 << 53) as f64) as u64, kind);
            used += 1;
        }
        assert!(used > 0, "a checked mix has an operation");
        // Whatever rounding left over goes to the last.
        kinds[used - 1].0 = u64::MAX;
        Self { kinds, used }
    }

    /// Draws one; draws no random number where there is but one.
    #[inline]
    fn draw(&self, rng: &mut Rng) -> OpKind {
        if self.used == 1 {
            return self.kinds[0].1;
        }
        let point = rng.next_u64() >> 11;
        let found = self.kinds.iter().find(|&&(sum, _)| point < sum);
        found.expect("the last sum lies above every point").1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::spec::{Distribution, Load, Scale, preset};

    fn spec(name: &str, entries: u64, callers: u32) -> Spec {
        let scale = Scale {
            entries,
            callers,
            ..Scale::default()
        };
        preset(name, &scale).unwrap()
    }

    fn stream(spec: &Spec, phase: usize, group: usize, stream: u32) -> Stream {
        Stream::new(spec, Place { phase, group, stream }, spec.seed)
    }

    fn first(mut stream: Stream, operations: usize) -> Vec<Op> {
        (0..operations).map_while(|_| stream.next()).collect()
    }

    #[test]
    fn the_streams_of_a_load_write_every_index_once_and_end() {
        for name in ["fillseq", "fillrandom", "ycsb-a"] {
            let spec = spec(name, 1000, 7);
            let mut indices = Vec::new();
            for number in 0..7 {
                let ops = first(stream(&spec, 0, 0, number), 10_000);
                assert!(ops.iter().all(|op| op.kind == OpKind::Insert && op.version == 0));
                // As many as the phase's operations split evenly: nobody waits for operations that do not come.
                assert_eq!(
                    ops.len() as u64,
                    1000 / 7 + u64::from(u64::from(number) < 1000 % 7)
                );
                indices.extend(ops.iter().map(|op| op.index));
            }
            let sorted = indices.is_sorted_by_key(|index| index % 7);
            assert_eq!(sorted, name != "fillrandom", "{name}");
            indices.sort_unstable();
            assert!(indices.into_iter().eq(0..1000), "{name}");
        }
    }

    #[test]
    fn no_two_streams_insert_one_key_and_no_two_writes_have_one_version() {
        let mut spec = spec("ycsb-d", 1000, 3);
        spec.phases.push(spec.phases[1].clone());
        let company = spec.phases[1].groups[0].clone();
        spec.phases[1].groups.push(company);
        let (mut indices, mut versions) = (BTreeSet::new(), BTreeSet::new());
        for (phase, group) in [(1, 0), (1, 1), (2, 0)] {
            for number in 0..3 {
                for op in first(stream(&spec, phase, group, number), 2000) {
                    if op.kind == OpKind::Insert {
                        assert!(op.index >= spec.keys.count && op.index < MISSING);
                        assert!(indices.insert(op.index), "{op:?} twice");
                        assert!(
                            op.version > 0 && op.version >> 60 == 0 && versions.insert(op.version),
                            "{op:?}"
                        );
                    }
                }
            }
        }
        assert!(indices.len() > 500);
    }

    #[test]
    fn latest_reads_only_what_the_load_or_the_stream_itself_has_inserted() {
        let spec = spec("ycsb-d", 1000, 3);
        let mut own = BTreeMap::new();
        let mut own_reads = 0;
        for (at, op) in first(stream(&spec, 1, 0, 2), 20_000).into_iter().enumerate() {
            if op.kind == OpKind::Insert {
                own.insert(op.index, at);
            } else {
                assert_eq!(op.expect, Expect::Present);
                assert!(op.index < 1000 || own.contains_key(&op.index), "{op:?}");
                own_reads += usize::from(op.index >= 1000);
            }
        }
        assert!(own_reads > 5000, "{own_reads} reads of own inserts");
    }

    #[test]
    fn other_distributions_stay_with_the_loaded_entries_while_inserts_go_on() {
        for name in [
            "ycsb-a",
            "ycsb-e",
            "ycsb-f",
            "seekrandom",
            "overwrite",
            "deleterandom",
            "scan",
        ] {
            let spec = spec(name, 1000, 2);
            for op in first(stream(&spec, 1, 0, 1), 5000) {
                assert!(op.kind == OpKind::Insert || op.index < 1000, "{name}: {op:?}");
            }
        }
    }

    #[test]
    fn shares_are_kept_and_kinds_carry_what_they_need() {
        let mut spec = spec("ycsb-a", 1000, 1);
        let share = [0.3, 0.05, 0.1, 0.2, 0.15, 0.05, 0.15];
        let [
            read,
            read_missing,
            insert,
            update,
            read_modify_write,
            delete,
            scan,
        ] = share;
        spec.phases[1].groups[0].mix = Mix {
            read,
            read_missing,
            insert,
            update,
            read_modify_write,
            delete,
            scan,
        };
        assert_eq!(spec.check(), Ok(()));
        let mut counts = [0_u32; 7];
        for op in first(stream(&spec, 1, 0, 0), 100_000) {
            counts[op.kind.place()] += 1;
            let writes = matches!(op.kind, OpKind::Insert | OpKind::Update | OpKind::ReadModifyWrite);
            assert_eq!(op.version > 0, writes, "{op:?}");
            assert_eq!((1..=100).contains(&op.entries), op.kind == OpKind::Scan, "{op:?}");
            assert_eq!(op.index >= MISSING, op.kind == OpKind::ReadMissing, "{op:?}");
            let expect = if op.kind == OpKind::ReadMissing {
                Expect::Absent
            } else {
                Expect::Either
            };
            assert_eq!(op.expect, expect, "something deletes: {op:?}");
        }
        for (count, share) in counts.into_iter().zip(share) {
            // Five deviations of a binomial.
            let bound = 5.0 * (1e5 * share * (1.0 - share)).sqrt();
            assert!((f64::from(count) - 1e5 * share).abs() < bound, "{counts:?}");
        }
    }

    #[test]
    fn entries_may_be_gone_from_the_phase_that_deletes_onwards() {
        let mut spec = spec("readrandom", 1000, 1);
        let deletes = preset("deleterandom", &Scale::default()).unwrap();
        spec.phases.push(deletes.phases[1].clone());
        spec.phases.push(spec.phases[1].clone());
        let expects = [1, 2, 3].map(|phase| stream(&spec, phase, 0, 0).next().unwrap().expect);
        assert_eq!(expects, [Expect::Present, Expect::Either, Expect::Either]);
    }

    #[test]
    fn a_stream_depends_on_seed_and_place_alone() {
        let spec = spec("ycsb-a", 1000, 4);
        assert_eq!(
            first(stream(&spec, 1, 0, 2), 1000),
            first(stream(&spec, 1, 0, 2), 1000)
        );
        assert_ne!(
            first(stream(&spec, 1, 0, 2), 1000),
            first(stream(&spec, 1, 0, 3), 1000)
        );
        let place = Place {
            phase: 1,
            group: 0,
            stream: 2,
        };
        assert_ne!(
            first(Stream::new(&spec, place, 2), 1000),
            first(Stream::new(&spec, place, 3), 1000)
        );
    }

    #[test]
    fn four_thousand_streams_over_all_keys_there_can_be_are_ready_at_once() {
        let mut spec = spec("ycsb-a", 1 << 40, 4096);
        spec.values.bytes = crate::spec::Sizes::Fixed(100);
        assert_eq!(spec.check(), Ok(()));
        spec.phases[1].groups[0].load = Load::Closed { callers: STREAMS };
        spec.phases[1].groups[0].distribution = Distribution::ScrambledZipfian { theta: 0.99 };
        for number in 0..STREAMS {
            assert!(stream(&spec, 1, 0, number).next().unwrap().index < 1 << 40);
        }
    }
}
