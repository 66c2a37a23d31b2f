//! What each class of tasks has had of a core, and which kept it too long.
//!
//! The scheduler adds every poll of a task. A task that has had its slice gives way; while one does not, everybody else of its core
//! waits, and its class tells which part of the code that was. The time is that of the clock: where another process, or the host of a
//! virtual machine, has the processor meanwhile, that counts as well, and for those who wait it is the same.

use std::time::Duration;

use super::Class;

/// From this length on a poll is a stall: ten of the slices that a core has by default.
pub const STALL: Duration = Duration::from_millis(1);

/// What the tasks of one class have had of a core since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTime {
    /// How long they ran.
    pub ran: Duration,
    /// How often one of them was polled.
    pub polls: u64,
    /// How often one of them kept the core for [`STALL`] or longer.
    pub stalls: u64,
    /// The longest that one of them kept it.
    pub longest: Duration,
}

/// The [`ClassTime`] of every class of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTimes([ClassTime; Class::ALL.len()]);

impl ClassTimes {
    /// A task of this class was polled for so long.
    pub fn add(&mut self, class: Class, took: Duration) {
        let time = &mut self.0[class as usize];
        time.ran += took;
        time.polls += 1;
        time.stalls += u64::from(took >= STALL);
        time.longest = time.longest.max(took);
    }

    /// What a class has had.
    pub fn of(&self, class: Class) -> ClassTime {
        self.0[class as usize]
    }

    /// What each has had, the most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Class, ClassTime)> + use<> {
        Class::ALL.into_iter().zip(self.0)
    }

    /// The classes of which a task has kept the core for `from` or longer, and longer than any of its class had `before`; with how
    /// long. A record is seldom broken, so who looks now and then and tells of each tells little.
    pub fn records(&self, before: &Self, from: Duration) -> impl Iterator<Item = (Class, Duration)> + use<> {
        let longest = self.iter().zip(before.0);
        longest.filter_map(move |((class, now), before)| {
            (now.longest >= from && now.longest > before.longest).then_some((class, now.longest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn polls_are_added_and_long_ones_are_stalls() {
        let mut times = ClassTimes::default();
        for took in [MS / 2, 3 * MS, MS] {
            times.add(Class::Flush, took);
        }
        let flush = ClassTime {
            ran: MS * 9 / 2,
            polls: 3,
            stalls: 2,
            longest: 3 * MS,
        };
        assert_eq!(times.of(Class::Flush), flush);
        let others = times.iter().filter(|(class, _)| *class != Class::Flush);
        assert!(
            others
                .map(|(_, time)| time)
                .all(|time| time == ClassTime::default())
        );
    }

    #[test]
    fn only_a_record_is_told_and_only_a_long_one() {
        let mut times = ClassTimes::default();
        let mut told = |class, took| {
            let before = times;
            times.add(class, took);
            times.records(&before, 10 * MS).collect::<Vec<_>>()
        };
        assert_eq!(told(Class::Compaction, 9 * MS), []);
        assert_eq!(told(Class::Compaction, 12 * MS), [(Class::Compaction, 12 * MS)]);
        assert_eq!(told(Class::Compaction, 12 * MS), []);
        assert_eq!(told(Class::Foreground, 11 * MS), [(Class::Foreground, 11 * MS)]);
    }
}
