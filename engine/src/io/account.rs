//! What each class of tasks has had of a core, and which kept it too long.
//!
//! The scheduler adds every poll of a task. A task that has had its slice gives way; while one does not, everybody else of its core
//! waits, and its class tells which part of the code that was. The time is that of the clock: where another process, or the host of a
//! virtual machine, has the processor meanwhile, that counts as well, and for those who wait it is the same. What the core does
//! between its tasks (handing over, taking completions) is no class's.
//!
//! The longest poll is that of the last minute or two, so that a start, which replays a log, does not hide what comes after it.

use std::time::Duration;

use super::Class;

/// From this length on a poll is a stall: ten of the slices that a core has by default.
pub const STALL: Duration = Duration::from_millis(1);

/// How long a longest poll is remembered, and at most as long again.
const WINDOW: Duration = Duration::from_secs(60);

/// What the tasks of one class have had of a core since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTime {
    /// How long they ran.
    pub ran: Duration,
    /// How often one of them was polled.
    pub polls: u64,
    /// How often one of them kept the core for [`STALL`] or longer.
    pub stalls: u64,
    /// The longest that one of them kept it, within the last minute or two.
    pub longest: Duration,
}

/// The [`ClassTime`] of every class of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTimes {
    /// With the longest of this window alone.
    times: [ClassTime; Class::ALL.len()],
    /// The longest of the window before.
    longest_before: [Duration; Class::ALL.len()],
    window_ends: Duration,
}

impl ClassTimes {
    /// A task of this class was polled for so long, until `now`.
    pub fn add(&mut self, class: Class, took: Duration, now: Duration) {
        if now >= self.window_ends {
            self.window_ends = now + WINDOW;
            for (time, before) in self.times.iter_mut().zip(&mut self.longest_before) {
                *before = std::mem::take(&mut time.longest);
            }
        }
        let time = &mut self.times[class as usize];
        time.ran += took;
        time.polls += 1;
        time.stalls += u64::from(took >= STALL);
        time.longest = time.longest.max(took);
    }

    /// What a class has had.
    pub fn of(&self, class: Class) -> ClassTime {
        let time = self.times[class as usize];
        ClassTime {
            longest: time.longest.max(self.longest_before[class as usize]),
            ..time
        }
    }

    /// What each has had, the most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Class, ClassTime)> + use<> {
        let times = *self;
        Class::ALL.into_iter().map(move |class| (class, times.of(class)))
    }

    /// The classes of which a task has kept the core for `from` or longer, and a quarter longer than any of its class was known
    /// to have `before`; with how long. So who looks now and then and tells of each tells few times a minute, whatever happens.
    pub fn records(&self, before: &Self, from: Duration) -> Vec<(Class, Duration)> {
        let longest = self.iter().map(|(class, time)| (class, time.longest));
        let records = longest.filter(|&(class, now)| {
            let before = before.of(class).longest;
            now >= from && now >= before + before / 4
        });
        records.collect()
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
            times.add(Class::Flush, took, WINDOW / 2);
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
            times.add(class, took, WINDOW / 2);
            times.records(&before, 10 * MS)
        };
        assert_eq!(told(Class::Compaction, 9 * MS), []);
        assert_eq!(told(Class::Compaction, 12 * MS), [(Class::Compaction, 12 * MS)]);
        assert_eq!(told(Class::Compaction, 12 * MS), []);
        assert_eq!(told(Class::Compaction, 14 * MS), [], "nearly the same");
        assert_eq!(told(Class::Compaction, 18 * MS), [(Class::Compaction, 18 * MS)]);
        assert_eq!(told(Class::Foreground, 11 * MS), [(Class::Foreground, 11 * MS)]);
    }

    /// A start that replayed a log for long kept every later stall from being told.
    #[test]
    fn the_longest_is_forgotten_within_two_windows() {
        let mut times = ClassTimes::default();
        let foreground = |times: &ClassTimes| times.of(Class::Foreground).longest;
        times.add(Class::Foreground, 80 * MS, MS);
        times.add(Class::Flush, MS, MS + WINDOW);
        assert_eq!(foreground(&times), 80 * MS, "of the window before");
        times.add(Class::Flush, MS, MS + 2 * WINDOW);
        assert_eq!(foreground(&times), Duration::ZERO);
        let before = times;
        times.add(Class::Foreground, 11 * MS, MS + 2 * WINDOW);
        assert_eq!(times.records(&before, 10 * MS), [(Class::Foreground, 11 * MS)]);
        assert_eq!(times.of(Class::Foreground).stalls, 2, "those are of all time");
    }
}
