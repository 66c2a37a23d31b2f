//! How many disk operations of each class are with the device, and who comes next: as numbers only.
//!
//! The device answers in the order that suits it, and what lies in its queue a foreground read waits behind, whatever its
//! class. So the foreground hands over what it has at once, and every other class only so much ([`bound`]); the rest waits
//! here, in the order of its asking, and goes out as completions make room. Nobody has to be polled for that: a merge that
//! asks ahead and looks later must not keep places that it does not use.

use std::collections::VecDeque;

use super::super::Class;
use super::slots::Key;

const CLASSES: usize = Class::ALL.len();

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
#[derive(Debug, Default)]
pub(super) struct Depth {
    under_way: [usize; CLASSES],
    waiting: [VecDeque<Key>; CLASSES],
}

impl Depth {
    /// An operation is asked for; whether it goes to the device now. If not, it is returned by a later [`Depth::end`].
    pub(super) fn begin(&mut self, class: Class, key: Key) -> bool {
        let place = class as usize;
        if bound(class).is_some_and(|bound| self.under_way[place] >= bound) {
            self.waiting[place].push_back(key);
            return false;
        }
        self.under_way[place] += 1;
        true
    }

    /// An operation has ended; the one that goes to the device in its place.
    pub(super) fn end(&mut self, class: Class) -> Option<Key> {
        let place = class as usize;
        let next = self.waiting[place].pop_front();
        if next.is_none() {
            self.under_way[place] -= 1;
        }
        next
    }

    /// Nobody wants an operation any more; whether it was still waiting, and is forgotten now.
    pub(super) fn leave(&mut self, class: Class, key: Key) -> bool {
        let waiting = &mut self.waiting[class as usize];
        let Some(at) = waiting.iter().position(|&other| other == key) else {
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

    fn keys() -> impl Iterator<Item = Key> {
        (0..).map(Key::from_user_data)
    }

    #[test]
    fn the_foreground_never_waits_and_the_others_do_beyond_their_bound() {
        for class in Class::ALL {
            let mut depth = Depth::default();
            let went = keys().take(1000).filter(|&key| depth.begin(class, key)).count();
            assert_eq!(went, bound(class).unwrap_or(1000), "{class:?}");
            assert_eq!(depth.waiting(), 1000 - went);
        }
    }

    #[test]
    fn each_end_lets_the_next_of_its_class_go_in_the_order_of_asking() {
        let mut depth = Depth::default();
        let of: Vec<Key> = keys().take(10).collect();
        for &key in &of {
            depth.begin(Class::Compaction, key);
        }
        assert!(
            depth.begin(Class::Flush, of[0]),
            "another class has room of its own"
        );
        assert_eq!(depth.end(Class::Flush), None);
        assert!(depth.leave(Class::Compaction, of[5]), "given up while it waited");
        assert!(
            !depth.leave(Class::Compaction, of[0]),
            "this one is with the device"
        );
        let rest: Vec<Key> = std::iter::from_fn(|| depth.end(Class::Compaction)).collect();
        assert_eq!(rest, [of[4], of[6], of[7], of[8], of[9]]);
        assert_eq!(depth.under_way[Class::Compaction as usize], 3);
    }
}
