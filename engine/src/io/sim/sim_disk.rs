//! What a test holds of the simulated disk: it outlives machines, crashes, rots, fails, and is looked at from outside.

use std::cell::{Ref, RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::content::{FileNode, to_usize};
use super::disk::DiskState;
use super::fault::{Count, Fault, Mutant, OpKind};
use super::names::{Change, DirNode, Ino, ROOT, View, names_of};
use crate::io::DirEntry;

/// A simulated disk. Clones are the same disk; [`SimDisk::fork`] makes another.
#[derive(Debug, Clone)]
pub struct SimDisk(Rc<RefCell<DiskState>>);

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk with 1 TiB of room.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(DiskState::new())))
    }

    /// An empty disk with this much room. Every file and directory, the root included, takes 4 KiB beside its data.
    pub fn with_capacity(capacity_bytes: u64) -> Self {
        let disk = Self::new();
        disk.set_capacity(capacity_bytes);
        disk
    }

    /// A disk of its own in the same state, to crash one moment in many ways.
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub(super) fn state(&self) -> Ref<'_, DiskState> {
        self.0.borrow()
    }

    pub(super) fn state_mut(&self) -> RefMut<'_, DiskState> {
        self.0.borrow_mut()
    }

    /// Turns the disk into what is found after a power cut at this moment; `seed` draws what is lost, torn and kept.
    /// Handles and locks from before are void.
    pub fn crash(&self, seed: u64) {
        self.state_mut().crash(seed);
    }

    /// Changes the room; less than is used means that nothing more fits.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.state_mut().capacity_bytes = capacity_bytes;
    }

    /// Room left, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.state().free_bytes()
    }

    /// Plants a fault beside those there are.
    pub fn inject(&self, fault: Fault) {
        self.state_mut().faults.push(fault);
    }

    /// Removes every planted fault. What earlier failures did stays done.
    pub fn clear_faults(&self) {
        self.state_mut().faults.clear();
    }

    /// Makes the seam tell a lie from now on, or the truth again.
    pub fn set_mutant(&self, mutant: Option<Mutant>) {
        self.state_mut().mutant = mutant;
    }

    /// How often `kind` was done on files with this extension (`None`: on every file; `Some("")`: without extension).
    pub fn count(&self, extension: Option<&str>, kind: OpKind) -> Count {
        self.state().counts.sum(extension, kind)
    }

    /// Starts every count at 0 again.
    pub fn reset_counts(&self) {
        self.state_mut().counts = super::fault::Counts::default();
    }

    // At rest: what a test does to files behind the engine's back. All of it is durable at once.

    /// The bytes of a file as a reader would see them; `None` where there is no such file.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.files.get(&state.resolve(path.as_ref()).ok()?)?;
        Some(file.current.read(0, to_usize(file.current.bytes)))
    }

    /// Gives a file these bytes, creating it and the directories above it if need be.
    ///
    /// # Panics
    /// If the path leads through a file or to a directory.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        self.create_dir_all(path.parent().unwrap_or_else(|| Path::new("/")));
        let mut state = self.state_mut();
        let ino = if let Ok(ino) = state.resolve(path) {
            assert!(
                state.files.contains_key(&ino),
                "{} is a directory",
                path.display()
            );
            ino
        } else {
            let ino = state.fresh_number();
            state.files.insert(ino, FileNode::default());
            link_durably(&mut state, path, ino);
            ino
        };
        state.file(ino).replace(bytes);
    }

    /// Changes the bytes of a file in place: flip, zero, overwrite, truncate, swap.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) {
        let path = path.as_ref();
        let mut bytes = self
            .read(path)
            .unwrap_or_else(|| panic!("no file {}", path.display()));
        change(&mut bytes);
        self.write(path, &bytes);
    }

    /// Creates a directory and those above it.
    ///
    /// # Panics
    /// If the path leads through a file.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) {
        let mut state = self.state_mut();
        let mut at = PathBuf::from("/");
        for name in names_of(path.as_ref()) {
            at.push(name);
            if let Ok(ino) = state.resolve(&at) {
                assert!(state.dirs.contains_key(&ino), "{} is a file", at.display());
            } else {
                let ino = state.fresh_number();
                state.dirs.insert(ino, DirNode::default());
                link_durably(&mut state, &at, ino);
            }
        }
    }

    /// Takes a file's name away.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn remove(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let mut state = self.state_mut();
        if let Err(error) = state.remove(path) {
            panic!("removing {}: {error}", path.display());
        }
        let last = state.pending.pop().expect("remove logged its change");
        last.change.apply(&mut state.dirs, View::Durable);
        state.drop_unreachable();
    }

    /// Every file, by its path from the root, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut files = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            match state.dirs.get(&ino) {
                Some(dir) => todo.extend(dir.current.iter().map(|(name, ino)| (path.join(name), *ino))),
                None => files.push(path),
            }
        }
        files.sort();
        files
    }

    /// What is in a directory, sorted by name; empty where there is none.
    pub fn list_dir(&self, path: impl AsRef<Path>) -> Vec<DirEntry> {
        let state = self.state();
        state
            .resolve_dir(path.as_ref())
            .map_or(Vec::new(), |dir| state.list_dir(dir))
    }
}

fn link_durably(state: &mut DiskState, path: &Path, ino: Ino) {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a path with a last name in UTF-8");
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let dir = state
        .resolve_dir(parent)
        .unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    let change = Change::Link {
        dir,
        name: name.to_owned(),
        ino,
    };
    change.apply(&mut state.dirs, View::Current);
    change.apply(&mut state.dirs, View::Durable);
}
