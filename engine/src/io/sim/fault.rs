//! What tests plant and count at the seam: operation kinds, faults, mutants, counters.
//!
//! A fault makes chosen operations fail as a device or file system would. A mutant makes the whole seam lie, so that
//! the disk ends up as a broken engine would leave it; a crash test that does not notice a mutant proves nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// One kind of disk operation, as counted and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// One `read_at`.
    Read,
    /// One `write_at`.
    Write,
    /// One `sync_data`.
    Sync,
    /// One `allocate`.
    Allocate,
    /// Asking a file's length.
    Length,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Creating a directory.
    CreateDir,
    /// One `sync_dir`.
    SyncDir,
    /// Listing a directory.
    ListDir,
    /// Asking how much room is left.
    FreeBytes,
    /// Taking a lock.
    Lock,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// EIO. A failed write may have reached the device in part; a failed sync has lost what it was to make durable,
    /// and later syncs say OK nevertheless (R3).
    Eio,
    /// ENOSPC, without any effect.
    Enospc,
    /// A read or write transfers less than asked, in whole sectors, and says so. Other operations get EIO.
    Short,
}

/// Which operations fail, and how. Starts as "every operation, for ever"; the methods narrow it.
#[derive(Clone)]
pub struct Fault {
    failure: Failure,
    kinds: Vec<OpKind>,
    matches: Rc<dyn Fn(&Path) -> bool>,
    skip: u64,
    times: u64,
}

impl Fault {
    /// Fails every operation in this way.
    pub fn new(failure: Failure) -> Self {
        Self {
            failure,
            kinds: Vec::new(),
            matches: Rc::new(|_| true),
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Fails exactly the `n`th operation from now, 0 the next one.
    pub fn nth(n: u64, failure: Failure) -> Self {
        Self::new(failure).skip(n).times(1)
    }

    /// Only operations of this kind; may be given several times for several kinds.
    #[must_use]
    pub fn on(mut self, kind: OpKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Only operations on paths for which `matches` is true. A rename is matched by its old name.
    #[must_use]
    pub fn matching(mut self, matches: impl Fn(&Path) -> bool + 'static) -> Self {
        self.matches = Rc::new(matches);
        self
    }

    /// Only operations on files with this extension, such as `"wal"`.
    #[must_use]
    pub fn extension(self, extension: &str) -> Self {
        let extension = extension.to_owned();
        self.matching(move |path| path.extension().is_some_and(|e| *e == *extension))
    }

    /// Lets the first `n` matching operations pass.
    #[must_use]
    pub fn skip(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// Fails at most `n` operations.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    /// Takes one operation past this fault; the failure if it strikes.
    pub(super) fn strike(&mut self, kind: OpKind, path: &Path) -> Option<Failure> {
        if self.times == 0 || !(self.kinds.is_empty() || self.kinds.contains(&kind)) || !(self.matches)(path)
        {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.failure)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("failure", &self.failure)
            .field("kinds", &self.kinds)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// A lie that the seam tells, as a broken engine would look from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// `sync_data` and `dsync` make nothing durable but answer OK.
    SkipSync,
    /// A write to a `dsync` file is acknowledged at submission, while its data is still in flight.
    AckEarly,
    /// `sync_dir` makes nothing durable but answers OK.
    SkipDirSync,
    /// A `dsync` write at any page but the first of a `.wal` file also rewrites the page before it (R5).
    RewriteAcked,
}

impl Mutant {
    /// Every mutant; the crash test runs with each and must fail.
    pub const ALL: [Self; 4] = [
        Self::SkipSync,
        Self::AckEarly,
        Self::SkipDirSync,
        Self::RewriteAcked,
    ];
}

/// How often something was done, and over how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Operations submitted.
    pub ops: u64,
    /// Bytes transferred by those that completed; 0 for anything but reads and writes.
    pub bytes: u64,
}

/// Counts by file extension (`""` for none) and kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(BTreeMap<(String, OpKind), Count>);

impl Counts {
    pub(super) fn add(&mut self, path: &Path, kind: OpKind, ops: u64, bytes: u64) {
        let extension = path
            .extension()
            .map_or(String::new(), |e| e.to_string_lossy().into_owned());
        let count = self.0.entry((extension, kind)).or_default();
        count.ops += ops;
        count.bytes += bytes;
    }

    /// The sum over `extension`, or over every file where it is `None`.
    pub(super) fn sum(&self, extension: Option<&str>, kind: OpKind) -> Count {
        let mut sum = Count::default();
        for ((of, what), count) in &self.0 {
            if *what == kind && extension.is_none_or(|wanted| wanted == of) {
                sum.ops += count.ops;
                sum.bytes += count.bytes;
            }
        }
        sum
    }
}
