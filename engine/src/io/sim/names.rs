//! Directories of the simulated disk: names apart from data.
//!
//! Every change of a name takes effect for readers at once and enters a log. `sync_dir` takes the completed changes of
//! its directory from the log and makes them durable; a crash keeps some of the rest (see [`super::crash`]). A rename
//! is one change: it happens whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// The number of a file or directory; a name points to it.
pub(super) type Ino = u64;

/// The root directory, which always exists.
pub(super) const ROOT: Ino = 1;

/// An operating-system error of this number, as the kernel would give it.
pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

pub(super) const ENOENT: i32 = 2;
pub(super) const EIO: i32 = 5;
pub(super) const EBADF: i32 = 9;
pub(super) const EEXIST: i32 = 17;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const EISDIR: i32 = 21;
pub(super) const ENOSPC: i32 = 28;

/// A directory: names as readers see them, and as a crash would leave them at least.
#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) current: BTreeMap<String, Ino>,
    pub(super) durable: BTreeMap<String, Ino>,
}

/// Which of a directory's two maps a change is applied to.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    Current,
    Durable,
}

impl DirNode {
    fn view(&mut self, view: View) -> &mut BTreeMap<String, Ino> {
        match view {
            View::Current => &mut self.current,
            View::Durable => &mut self.durable,
        }
    }
}

/// One change of names.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Link {
        dir: Ino,
        name: String,
        ino: Ino,
    },
    Unlink {
        dir: Ino,
        name: String,
        ino: Ino,
    },
    Rename {
        from_dir: Ino,
        from: String,
        dir: Ino,
        to: String,
        ino: Ino,
    },
}

/// A change that is not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) change: Change,
    /// Its operation has completed, so that a later `sync_dir` covers it.
    pub(super) done: bool,
}

impl Change {
    /// The directory whose sync makes this durable: of a rename between two, the one that gains the name.
    pub(super) fn dir(&self) -> Ino {
        match self {
            Self::Link { dir, .. } | Self::Unlink { dir, .. } | Self::Rename { dir, .. } => *dir,
        }
    }

    /// What the name points to.
    pub(super) fn ino(&self) -> Ino {
        match self {
            Self::Link { ino, .. } | Self::Unlink { ino, .. } | Self::Rename { ino, .. } => *ino,
        }
    }

    /// Applies this to one view. A name that meanwhile points elsewhere is not taken away: the change that gave it may
    /// have survived a crash when an earlier one did not.
    pub(super) fn apply(&self, dirs: &mut BTreeMap<Ino, DirNode>, view: View) {
        let mut forget = |dir: &Ino, name: &String, ino: Ino| {
            if let Some(names) = dirs.get_mut(dir).map(|node| node.view(view))
                && names.get(name) == Some(&ino)
            {
                names.remove(name);
            }
        };
        let (dir, name, ino) = match self {
            Self::Unlink { dir, name, ino } => return forget(dir, name, *ino),
            Self::Link { dir, name, ino } => (dir, name, *ino),
            Self::Rename {
                from_dir,
                from,
                dir,
                to,
                ino,
            } => {
                forget(from_dir, from, *ino);
                (dir, to, *ino)
            }
        };
        if let Some(node) = dirs.get_mut(dir) {
            node.view(view).insert(name.clone(), ino);
        }
    }
}

/// The names in `path` from the root down.
///
/// # Panics
/// On `..`, and on a name that is not UTF-8: the engine makes neither.
pub(super) fn names_of(path: &Path) -> Vec<&str> {
    path.components()
        .filter_map(|part| match part {
            Component::RootDir | Component::CurDir => None,
            Component::Normal(name) => Some(name.to_str().expect("simulated names are UTF-8")),
            Component::ParentDir | Component::Prefix(_) => panic!("the simulator does not resolve {part:?}"),
        })
        .collect()
}
