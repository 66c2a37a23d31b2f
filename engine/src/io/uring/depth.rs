//! How many disk operations of each class are with the device, how many bytes of them a turn of the loop hands over, and who
//! comes next: as numbers only.
//!
//! The device answers in the order that suits it, and what lies in its queue a foreground read waits behind, whatever its
//! class. So the foreground hands over what it has at once, and every other class only so much ([`bound`]); the rest waits
//! here, and goes out as completions make room. Nobody has to be polled for that: a merge that
//! asks ahead and looks later must not keep places that it does not use.
//!
//! Handing over takes the core as well: each page of a transfer is looked up, and a virtual device is rung by leaving the
//! virtual machine, 0.1 ms for 256 KiB. So these classes together hand over [`TURN_BYTES`] a turn, each when it is its turn, and
//! the foreground is polled between. What is short neither waits for that nor counts, and goes before what is long: an append to
//! the manifest, which others may wait for, does not stand behind a merge's long reads.

use std::collections::VecDeque;

use super::super::Class;
use super::slots::Key;

const CLASSES: usize = Class::ALL.len();

/// Bytes that a turn hands over of all classes but the foreground, or one operation that is longer. A turn is a slice of time
/// where tasks want the core, 0.1 ms, and as long again for the handing over: 1.3 GB/s on a core that computes at the same time,
/// of which a third is more than the core can flush, and no bound on one that does not compute.
const TURN_BYTES: usize = 256 << 10;

/// An operation of so much at most is short.
const SHORT_BYTES: usize = 16 << 10;

const _: () = assert!(SHORT_BYTES < TURN_BYTES);

/// Disk operations that a class may have with the device at once; `None` for as many as it likes.
///
/// A table is written in pieces of 512 KiB and read ahead in pieces of 256 KiB. A device streams with two of these, one that
/// runs and one that is next in its queue; four are a merge that reads and writes at once, or two shards that flush. All four
/// classes together are then at most 16 pieces ahead of a foreground read, some 7 MiB, however many merges and inputs there
/// are. Maintenance fills segments, one piece at a time: a writer whose segment is full may wait for that, so it has as much.
const fn bound(class: Class) -> Option<usize> {
    match class {
        Class::Foreground => None,
        Class::Flush | Class::Level0 | Class::Compaction | Class::Maintenance => Some(4),
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Depth {
    under_way: [usize; CLASSES],
    /// What is short before what is long, each in the order of its asking.
    waiting: [VecDeque<(Key, usize)>; CLASSES],
    /// What this turn may still hand over.
    left_bytes: usize,
    /// The class that is asked first for the next: behind the one that handed over last.
    first: usize,
}

impl Default for Depth {
    fn default() -> Self {
        Self {
            under_way: [0; CLASSES],
            waiting: Default::default(),
            left_bytes: TURN_BYTES,
            first: 0,
        }
    }
}

impl Depth {
    /// An operation on so many bytes is asked for; whether it goes to the device now. If not, a later [`Depth::next`] returns
    /// it.
    pub(super) fn begin(&mut self, class: Class, key: Key, bytes: usize) -> bool {
        let place = class as usize;
        let goes = self.has_room(place) && (self.is_free(place, bytes) || self.is_next(place, bytes));
        if goes {
            self.go(place, bytes);
            return true;
        }
        let waiting = &mut self.waiting[place];
        let at = if bytes <= SHORT_BYTES {
            waiting.partition_point(|&(_, other)| other <= SHORT_BYTES)
        } else {
            waiting.len()
        };
        waiting.insert(at, (key, bytes));
        false
    }

    /// An operation has ended.
    pub(super) fn end(&mut self, class: Class) {
        self.under_way[class as usize] -= 1;
    }

    /// A turn has handed over what was its.
    pub(super) fn turn(&mut self) {
        self.left_bytes = TURN_BYTES;
    }

    /// The next that this turn hands over of those that waited. Classes take turns, so that none waits for another's stream.
    pub(super) fn next(&mut self) -> Option<Key> {
        let mut places = (self.first..CLASSES).chain(0..self.first);
        let place = places.find(|&place| self.has_next(place))?;
        let &(key, bytes) = self.waiting[place].front()?;
        if !self.is_free(place, bytes) && !self.fits(bytes) {
            return None;
        }
        self.waiting[place].pop_front();
        self.first = (place + 1) % CLASSES;
        self.go(place, bytes);
        Some(key)
    }

    /// Whether any operation waits for a turn to come, and not for room at the device: the loop must not sleep.
    pub(super) fn is_waiting(&self) -> bool {
        (0..CLASSES).any(|place| self.has_next(place))
    }

    /// Whether the class has an operation that waits though there is room for it.
    fn has_next(&self, place: usize) -> bool {
        self.has_room(place) && !self.waiting[place].is_empty()
    }

    fn has_room(&self, place: usize) -> bool {
        bound(Class::ALL[place]).is_none_or(|bound| self.under_way[place] < bound)
    }

    /// Whether an operation needs no turn.
    fn is_free(&self, place: usize, bytes: usize) -> bool {
        bytes <= SHORT_BYTES || bound(Class::ALL[place]).is_none()
    }

    /// Whether an operation that is asked for is its class's next, and of this turn.
    fn is_next(&self, place: usize, bytes: usize) -> bool {
        self.waiting[place].is_empty() && self.fits(bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes <= self.left_bytes || self.left_bytes == TURN_BYTES
    }

    fn go(&mut self, place: usize, bytes: usize) {
        self.under_way[place] += 1;
        if !self.is_free(place, bytes) {
            self.left_bytes = self.left_bytes.saturating_sub(bytes);
        }
    }

    /// Nobody wants an operation any more; whether it was still waiting, and is forgotten now.
    pub(super) fn leave(&mut self, class: Class, key: Key) -> bool {
        let waiting = &mut self.waiting[class as usize];
        let Some(at) = waiting.iter().position(|&(other, _)| other == key) else {
            return false;
        };
        waiting.remove(at);
        true
    }

    /// Operations of all classes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: usize = 4096;
    /// As long as a piece of a table that is read, and that is written.
    const LONG: [usize; 2] = [256 << 10, 512 << 10];

    fn keys() -> impl Iterator<Item = Key> {
        (0..).map(Key::from_user_data)
    }

    fn turn(depth: &mut Depth) -> Vec<Key> {
        depth.turn();
        std::iter::from_fn(|| depth.next()).collect()
    }

    #[test]
    fn the_foreground_never_waits_and_the_others_do_beyond_their_bound() {
        for class in Class::ALL {
            let mut depth = Depth::default();
            let begun = keys().take(1000).filter(|&key| depth.begin(class, key, SHORT));
            assert_eq!(begun.count(), bound(class).unwrap_or(1000), "{class:?}");
            assert_eq!(depth.waiting(), 1000 - bound(class).unwrap_or(1000));
            assert!(turn(&mut depth).is_empty(), "it is room that they wait for");
            assert!(!depth.is_waiting());
        }
    }

    #[test]
    fn each_end_lets_the_next_of_its_class_go_in_the_order_of_asking() {
        let mut depth = Depth::default();
        let of: Vec<Key> = keys().take(10).collect();
        for &key in &of {
            depth.begin(Class::Compaction, key, SHORT);
        }
        assert!(
            depth.begin(Class::Flush, of[0], SHORT),
            "another class has room of its own"
        );
        depth.end(Class::Flush);
        assert!(turn(&mut depth).is_empty());
        assert!(depth.leave(Class::Compaction, of[5]), "given up while it waited");
        assert!(
            !depth.leave(Class::Compaction, of[0]),
            "this one is with the device"
        );
        let mut rest = Vec::new();
        for _ in 0..9 {
            depth.end(Class::Compaction);
            rest.extend(turn(&mut depth));
        }
        assert_eq!(rest, [of[4], of[6], of[7], of[8], of[9]]);
        assert_eq!(depth.under_way, [0; CLASSES]);
    }

    /// Four reads of a merge ended in one turn and the next four were handed over in it: 0.4 ms that nobody else had the core.
    #[test]
    fn a_turn_hands_over_so_many_bytes_or_one_operation() {
        for bytes in LONG {
            let mut depth = Depth::default();
            let of: Vec<Key> = keys().take(3).collect();
            let begun: Vec<bool> = of
                .iter()
                .map(|&key| depth.begin(Class::Compaction, key, bytes))
                .collect();
            assert_eq!(begun, [true, false, false]);
            assert!(depth.begin(Class::Foreground, of[0], bytes), "as ever");
            assert!(depth.is_waiting(), "the loop must come back");
            assert_eq!(turn(&mut depth), [of[1]]);
            assert!(
                !depth.begin(Class::Flush, of[0], bytes),
                "of all classes together"
            );
            assert_eq!(turn(&mut depth), [of[0]], "each in its turn");
            assert_eq!(turn(&mut depth), [of[2]]);
            assert!(!depth.is_waiting());
        }
    }

    /// What did not fit went with what did: 252 KiB, and 1 MiB that fills a segment.
    #[test]
    fn what_does_not_fit_waits_and_is_the_first_of_the_next_turn() {
        let mut depth = Depth::default();
        let of: Vec<Key> = keys().take(3).collect();
        assert!(depth.begin(Class::Compaction, of[0], TURN_BYTES - 4096));
        assert!(!depth.begin(Class::Maintenance, of[1], 4 * TURN_BYTES));
        assert!(!depth.begin(Class::Maintenance, of[2], SHORT_BYTES + 4096));
        assert_eq!(depth.next(), None);
        assert_eq!(turn(&mut depth), [of[1]]);
        assert_eq!(turn(&mut depth), [of[2]]);
    }

    #[test]
    fn what_is_short_goes_before_what_is_long_and_not_beyond_the_room() {
        let mut depth = Depth::default();
        let of: Vec<Key> = keys().take(7).collect();
        assert!(depth.begin(Class::Compaction, of[0], LONG[0]));
        assert!(!depth.begin(Class::Compaction, of[1], LONG[0]));
        assert!(depth.begin(Class::Compaction, of[2], SHORT_BYTES));
        assert!(depth.begin(Class::Compaction, of[3], 0), "as a sync is");
        assert_eq!(turn(&mut depth), [of[1]]);
        assert!(!depth.begin(Class::Compaction, of[4], LONG[0]), "four are there");
        assert!(!depth.begin(Class::Compaction, of[5], SHORT));
        assert!(!depth.begin(Class::Compaction, of[6], SHORT));
        let mut rest = Vec::new();
        for _ in 0..3 {
            depth.end(Class::Compaction);
            rest.extend(turn(&mut depth));
        }
        assert_eq!(rest, [of[5], of[6], of[4]]);
    }

    #[test]
    fn no_class_waits_for_the_stream_of_another() {
        let mut depth = Depth::default();
        let (streams, alone) = (
            [Class::Flush, Class::Level0, Class::Compaction],
            Class::Maintenance,
        );
        for (key, class) in keys().zip(streams.into_iter().cycle()).take(300) {
            depth.begin(class, key, LONG[1]);
        }
        let last = Key::from_user_data(300);
        assert!(!depth.begin(alone, last, LONG[1]));
        let came = (1..=CLASSES).find(|_| turn(&mut depth) == [last]);
        assert!(came.is_some(), "within a round");
    }
}
