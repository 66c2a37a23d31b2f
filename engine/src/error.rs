//! The one error type: what was being done, to which file and offset, why it failed, and what the caller can do.
//!
//! Errors are cheap to clone, because one failed device write answers every caller whose record was in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A `Result` of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure this is: the part a program may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused or failed an operation on a file.
    Io,
    /// Stored bytes are not what was written: a checksum, an identity or a structural rule does not hold.
    Corruption,
    /// The device is full; the shard takes no writes until space returns. Reads go on.
    NoSpace,
    /// A WAL write or sync failed earlier. The shard takes no writes until the database is reopened. Reads go on.
    Poisoned,
    /// The write was under way when its device write failed: it may or may not be there after a reopen.
    OutcomeUnknown,
    /// A key, a value or a batch exceeds its limit.
    TooLarge,
    /// A batch or multi-key operation spans several shards, which this version does not do atomically.
    CrossShard,
    /// The database is closed or closing.
    Closed,
    /// Another process, or another handle in this one, has the database open.
    Locked,
    /// A file was written by a version, or with a feature, that this one does not know.
    Incompatible,
    /// An option has a value outside its range, or contradicts the database's stored shape.
    InvalidOptions,
    /// The closure given to `update` panicked; nothing was written.
    CallerPanicked,
    /// A bound on concurrent work is reached; the same call may succeed later.
    Busy,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    doing: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    cause: String,
    os_code: Option<i32>,
}

/// Why an operation failed. See the [module](self) for what it carries.
#[derive(Debug, Clone)]
pub struct Error(Arc<Inner>);

impl Error {
    /// An error of `kind`, met while `doing` something, because of `cause`.
    pub fn new(kind: ErrorKind, doing: impl Into<String>, cause: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            doing: doing.into(),
            file: None,
            offset: None,
            cause: cause.into(),
            os_code: None,
        }))
    }

    /// An operating-system error on `file`; `ENOSPC` and `EDQUOT` become [`ErrorKind::NoSpace`].
    pub fn io(doing: impl Into<String>, file: &Path, offset: Option<u64>, source: &std::io::Error) -> Self {
        let full = matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        );
        Self(Arc::new(Inner {
            kind: if full { ErrorKind::NoSpace } else { ErrorKind::Io },
            doing: doing.into(),
            file: Some(file.to_owned()),
            offset,
            cause: source.to_string(),
            os_code: source.raw_os_error(),
        }))
    }

    /// Stored bytes that are not what was written, at `offset` of `file`.
    pub fn corruption(
        doing: impl Into<String>,
        file: &Path,
        offset: Option<u64>,
        cause: impl Into<String>,
    ) -> Self {
        Self::located(ErrorKind::Corruption, doing, file, offset, cause)
    }

    /// An error of `kind` at a place in a file.
    pub fn located(
        kind: ErrorKind,
        doing: impl Into<String>,
        file: &Path,
        offset: Option<u64>,
        cause: impl Into<String>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            doing: doing.into(),
            file: Some(file.to_owned()),
            offset,
            cause: cause.into(),
            os_code: None,
        }))
    }

    /// The same failure under another kind: a failed WAL write is `Io` to the writer and `Poisoned` to those after it.
    #[must_use]
    pub fn with_kind(&self, kind: ErrorKind) -> Self {
        Self(Arc::new(Inner {
            kind,
            doing: self.0.doing.clone(),
            file: self.0.file.clone(),
            offset: self.0.offset,
            cause: self.0.cause.clone(),
            os_code: self.0.os_code,
        }))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file concerned, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in [`Error::file`], where it is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What the caller can do about it.
    pub fn advice(&self) -> &'static str {
        match self.0.kind {
            ErrorKind::Io => "check the device and the file's permissions, then try again",
            ErrorKind::Corruption => "restore this file from a backup; nothing was overwritten",
            ErrorKind::NoSpace => "free space on this filesystem; writes resume by themselves",
            ErrorKind::Poisoned => "reopen the database; every acknowledged Sync write is safe",
            ErrorKind::OutcomeUnknown => {
                "reopen the database and read the key to learn whether the write is there"
            }
            ErrorKind::TooLarge => "make the key, value or batch smaller",
            ErrorKind::CrossShard => "split the batch by shard, or give its keys one {hash tag}",
            ErrorKind::Closed => "open the database again",
            ErrorKind::Locked => "close the other opener first",
            ErrorKind::Incompatible => "open the database with the version that wrote it, or a newer one",
            ErrorKind::InvalidOptions => "correct the option",
            ErrorKind::CallerPanicked => "mend the closure; its panic message says where",
            ErrorKind::Busy => "try again later, or with fewer operations in flight",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.doing)?;
        if let Some(file) = &self.0.file {
            write!(f, ": {}", file.display())?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, " at offset {offset}")?;
        }
        write!(f, ": {} ({})", self.0.cause, self.advice())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_why_and_what_to_do() {
        let source = std::io::Error::from_raw_os_error(5);
        let error = Error::io(
            "reading a block",
            Path::new("shard-0000/000007.sst"),
            Some(8192),
            &source,
        );
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Io);
        for part in [
            "reading a block",
            "shard-0000/000007.sst",
            "offset 8192",
            "os error 5",
            error.advice(),
        ] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_full_device_is_its_own_kind() {
        let source = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            Error::io("writing", Path::new("x"), None, &source).kind(),
            ErrorKind::NoSpace
        );
    }
}
