//! The simulated disk as a state: files, directories, room, locks, planted faults, and what each operation does to it.
//!
//! Nothing here waits or draws time: [`super::inner`] submits an operation, lets virtual time pass, and completes it.
//! Between the two lies everything a power cut may do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use super::content::{FileNode, Record};
use super::crash::{crash_file, surviving_changes};
use super::fault::{Counts, Failure, Fault, Mutant, OpKind};
use super::names::{
    Change, DirNode, EEXIST, EIO, EISDIR, ENOENT, ENOSPC, ENOTDIR, Ino, Pending, ROOT, View, errno, names_of,
};
use super::rng::Rng;
use crate::io::DirEntry;
use crate::types::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// Room of a disk that was given no capacity, in bytes.
const DEFAULT_CAPACITY_BYTES: u64 = 1 << 40;

/// 2026-01-01, where the first machine's wall clock starts.
const FIRST_WALL_CLOCK_MS: u64 = 1_767_225_600_000;

/// What a submitted write will do when it completes.
#[derive(Debug)]
pub(super) struct WriteTicket {
    /// What the caller will be told.
    pub(super) answer: io::Result<usize>,
    /// The writes in flight, by number.
    pub(super) records: Vec<u64>,
    /// The caller is told now, while the data is in flight.
    pub(super) early: bool,
}

/// One write as asked for.
#[derive(Debug)]
pub(super) struct WriteRequest<'a> {
    pub(super) ino: Ino,
    pub(super) path: &'a Path,
    pub(super) position: u64,
    pub(super) data: &'a [u8],
    pub(super) dsync: bool,
}

#[derive(Debug, Clone)]
pub(super) struct DiskState {
    pub(super) files: BTreeMap<Ino, FileNode>,
    pub(super) dirs: BTreeMap<Ino, DirNode>,
    pub(super) pending: Vec<Pending>,
    /// Numbers files, changes, writes and completions.
    next: u64,
    pub(super) capacity_bytes: u64,
    /// Locks that were taken: the file, a number that only this holder has, and whether it still holds it.
    pub(super) locks: BTreeMap<Ino, (u64, Weak<()>)>,
    pub(super) faults: Vec<Fault>,
    pub(super) counts: Counts,
    pub(super) mutant: Option<Mutant>,
    /// Grows with every crash, so that a handle from before is told from one after.
    pub(super) epoch: u64,
    /// Where the next machine's wall clock starts.
    pub(super) wall_clock_ms: u64,
    /// The power was cut and [`DiskState::crash`] has not been called yet.
    pub(super) unpowered: bool,
}

impl DiskState {
    pub(super) fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            dirs: BTreeMap::from([(ROOT, DirNode::default())]),
            pending: Vec::new(),
            next: ROOT + 1,
            capacity_bytes: DEFAULT_CAPACITY_BYTES,
            locks: BTreeMap::new(),
            faults: Vec::new(),
            counts: Counts::default(),
            mutant: None,
            epoch: 0,
            wall_clock_ms: FIRST_WALL_CLOCK_MS,
            unpowered: false,
        }
    }

    pub(super) fn fresh_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Counts an operation and says whether a planted fault strikes it.
    pub(super) fn enter(&mut self, kind: OpKind, path: &Path) -> Option<Failure> {
        self.counts.add(path, kind, 1, 0);
        // Every fault sees every operation, so that the count of one does not depend on another having struck.
        let mut struck = None;
        for fault in &mut self.faults {
            let strike = fault.strike(kind, path);
            struck = struck.or(strike);
        }
        struck
    }

    pub(super) fn file(&mut self, ino: Ino) -> &mut FileNode {
        self.files.get_mut(&ino).expect("an open or named file exists")
    }

    // Names.

    pub(super) fn resolve(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for name in names_of(path) {
            let dir = self.dirs.get(&at).ok_or_else(|| errno(ENOTDIR))?;
            at = *dir.current.get(name).ok_or_else(|| errno(ENOENT))?;
        }
        Ok(at)
    }

    pub(super) fn resolve_dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.resolve(path)?;
        if self.dirs.contains_key(&ino) {
            Ok(ino)
        } else {
            Err(errno(ENOTDIR))
        }
    }

    /// The directory of `path`, its last name, and what that name points to.
    fn resolve_name(&self, path: &Path) -> io::Result<(Ino, String, Option<Ino>)> {
        let names = names_of(path);
        let name = names.last().ok_or_else(|| errno(EISDIR))?;
        let dir = self.resolve_dir(path.parent().unwrap_or_else(|| Path::new("/")))?;
        let ino = self
            .dirs
            .get(&dir)
            .and_then(|node| node.current.get(*name))
            .copied();
        Ok((dir, (*name).to_owned(), ino))
    }

    fn change(&mut self, change: Change) -> u64 {
        change.apply(&mut self.dirs, View::Current);
        let id = self.fresh_number();
        self.pending.push(Pending {
            id,
            change,
            done: false,
        });
        id
    }

    /// The operation of this change has completed.
    pub(super) fn change_done(&mut self, id: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.done = true;
        }
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<Ino> {
        let ino = self.resolve(path)?;
        let file = self.files.get_mut(&ino).ok_or_else(|| errno(EISDIR))?;
        file.open += 1;
        Ok(ino)
    }

    /// Creates and opens a file; its number and that of the change.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<(Ino, u64)> {
        let (dir, name, existing) = self.resolve_name(path)?;
        if existing.is_some() {
            return Err(errno(EEXIST));
        }
        self.take_inode()?;
        let ino = self.fresh_number();
        self.files.insert(ino, FileNode::opened());
        Ok((ino, self.change(Change::Link { dir, name, ino })))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<Option<u64>> {
        if names_of(path).is_empty() {
            return Ok(None);
        }
        let (dir, name, existing) = self.resolve_name(path)?;
        match existing {
            Some(ino) if self.dirs.contains_key(&ino) => return Ok(None),
            Some(_) => return Err(errno(EEXIST)),
            None => self.take_inode()?,
        }
        let ino = self.fresh_number();
        self.dirs.insert(ino, DirNode::default());
        Ok(Some(self.change(Change::Link { dir, name, ino })))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<u64> {
        let (from_dir, from, ino) = self.resolve_name(from)?;
        let ino = ino.ok_or_else(|| errno(ENOENT))?;
        let (dir, to, replaced) = self.resolve_name(to)?;
        if replaced.is_some_and(|other| other != ino && self.dirs.contains_key(&other)) {
            return Err(errno(EISDIR));
        }
        Ok(self.change(Change::Rename {
            from_dir,
            from,
            dir,
            to,
            ino,
        }))
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<u64> {
        let (dir, name, ino) = self.resolve_name(path)?;
        let ino = ino.ok_or_else(|| errno(ENOENT))?;
        if self.dirs.contains_key(&ino) {
            return Err(errno(EISDIR));
        }
        Ok(self.change(Change::Unlink { dir, name, ino }))
    }

    /// The completed changes that a `sync_dir` submitted now will make durable.
    pub(super) fn sync_dir_covers(&self, dir: Ino) -> Vec<u64> {
        let covered = self
            .pending
            .iter()
            .filter(|pending| pending.done && pending.change.dir() == dir);
        covered.map(|pending| pending.id).collect()
    }

    pub(super) fn finish_sync_dir(&mut self, covered: &[u64]) {
        if self.mutant == Some(Mutant::SkipDirSync) {
            return;
        }
        for pending in self
            .pending
            .extract_if(.., |pending| covered.contains(&pending.id))
        {
            pending.change.apply(&mut self.dirs, View::Durable);
        }
        self.drop_unreachable();
    }

    pub(super) fn list_dir(&self, dir: Ino) -> Vec<DirEntry> {
        let Some(node) = self.dirs.get(&dir) else {
            return Vec::new();
        };
        let entry = |(name, ino): (&String, &Ino)| DirEntry {
            name: name.clone(),
            is_dir: self.dirs.contains_key(ino),
            bytes: self.files.get(ino).map_or(0, |file| file.current.bytes),
        };
        node.current.iter().map(entry).collect()
    }

    /// Takes the lock file at `path`: it is held until what comes back is dropped. And the change if the file had to be
    /// created.
    pub(super) fn lock(&mut self, path: &Path) -> io::Result<(Arc<()>, Option<u64>)> {
        let (ino, change) = match self.resolve(path) {
            Ok(ino) if self.dirs.contains_key(&ino) => return Err(errno(EISDIR)),
            Ok(ino) => (ino, None),
            Err(_) => {
                let (ino, change) = self.create(path)?;
                self.file(ino).open -= 1;
                (ino, Some(change))
            }
        };
        if let Some((holder, _)) = self.locks.get(&ino).filter(|(_, held)| held.strong_count() > 0) {
            let message = format!(
                "the lock {} is held by simulated process {holder}",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        let holder = self.fresh_number();
        let held = Arc::new(());
        self.locks.insert(ino, (holder, Arc::downgrade(&held)));
        Ok((held, change))
    }

    // Room.

    fn used_bytes(&self) -> u64 {
        let linked: BTreeSet<Ino> = self
            .dirs
            .values()
            .flat_map(|dir| dir.current.values().copied())
            .collect();
        let files = self
            .files
            .iter()
            .filter(|(ino, file)| file.open > 0 || linked.contains(ino));
        let pages: u64 = files.map(|(_, file)| 1 + file.pages()).sum();
        (pages + self.dirs.len() as u64) * PAGE
    }

    /// Room left, in bytes. Every file and directory takes a page beside its data.
    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    fn take_inode(&self) -> io::Result<()> {
        if self.free_bytes() < PAGE {
            Err(errno(ENOSPC))
        } else {
            Ok(())
        }
    }

    pub(super) fn reserve(&mut self, ino: Ino, bytes: u64) -> io::Result<()> {
        let pages = bytes.div_ceil(PAGE);
        let missing = self.file(ino).missing_pages(0, pages);
        if missing > self.free_bytes() / PAGE {
            return Err(errno(ENOSPC));
        }
        self.file(ino).reserve(pages);
        Ok(())
    }

    // Data.

    /// Puts a write in flight.
    pub(super) fn submit_write(
        &mut self,
        request: &WriteRequest<'_>,
        failure: Option<Failure>,
        rng: &mut Rng,
    ) -> WriteTicket {
        let sectors = request.data.len() / super::content::SECTOR_BYTES;
        let some_sectors = |rng: &mut Rng| rng.index(sectors.max(1)) * super::content::SECTOR_BYTES;
        let (mut answer, mut landing, mut durable) =
            (Ok(request.data.len()), request.data.len(), request.dsync);
        match failure {
            Some(Failure::Enospc) => (answer, landing) = (Err(errno(ENOSPC)), 0),
            Some(Failure::Short) => {
                landing = some_sectors(rng);
                answer = Ok(landing);
            }
            // How much of a failed write is there is unknown, and nothing of it was promised.
            Some(Failure::Eio) => {
                landing = some_sectors(rng);
                (answer, durable) = (Err(errno(EIO)), false);
            }
            None => {}
        }
        if answer.is_ok() || landing > 0 {
            let room = self.room_for_write(request.ino, request.position, landing);
            if room < landing && answer.is_ok() {
                answer = if room == 0 { Err(errno(ENOSPC)) } else { Ok(room) };
            }
            landing = room;
        }
        if self.mutant == Some(Mutant::SkipSync) {
            durable = false;
        }
        let early = self.mutant == Some(Mutant::AckEarly) && request.dsync && answer.is_ok();
        let records = if landing == 0 {
            Vec::new()
        } else {
            self.launch(request, landing, durable, early)
        };
        WriteTicket {
            answer,
            records,
            early,
        }
    }

    /// How many of the `bytes` at `position` find room; takes that room.
    fn room_for_write(&mut self, ino: Ino, position: u64, bytes: usize) -> usize {
        let (start, end) = (position / PAGE, (position + bytes as u64).div_ceil(PAGE));
        // The walk over every file is spared where the write needs no new room.
        let missing = self.file(ino).missing_pages(start, end);
        let free_pages = if missing == 0 { 0 } else { self.free_bytes() / PAGE };
        let pages = self.file(ino).take_pages(start, end, free_pages);
        bytes.min(super::content::to_usize(pages * PAGE))
    }

    fn launch(&mut self, request: &WriteRequest<'_>, landing: usize, durable: bool, early: bool) -> Vec<u64> {
        let record = Record {
            position: request.position,
            data: request.data[..landing].into(),
            durable,
            fragile: false,
        };
        let mut records = vec![record];
        let is_log = request
            .path
            .extension()
            .is_some_and(|extension| extension == "wal");
        if self.mutant == Some(Mutant::RewriteAcked) && request.dsync && is_log && request.position > 0 {
            let position = request.position - PAGE;
            let data = self.file(request.ino).current.read(position, PAGE_BYTES).into();
            records.push(Record {
                position,
                data,
                durable,
                fragile: true,
            });
        }
        let mut numbers = Vec::new();
        for record in records {
            let number = self.fresh_number();
            let file = self.file(request.ino);
            if early {
                file.current.write(record.position, &record.data);
                file.current.bytes = file.current.bytes.max(record.end());
            }
            file.in_flight.insert(number, record);
            numbers.push(number);
        }
        numbers
    }

    pub(super) fn finish_write(&mut self, ino: Ino, ticket: &WriteTicket) {
        for &number in &ticket.records {
            let sequence = self.fresh_number();
            self.file(ino).complete(number, sequence);
        }
    }

    /// The mark that a sync submitted now carries: see [`FileNode::sync`].
    pub(super) fn sync_mark(&mut self) -> u64 {
        self.fresh_number()
    }

    /// Completes a sync; `outcome` says whether a planted fault has struck it.
    pub(super) fn finish_sync(&mut self, ino: Ino, mark: u64, outcome: io::Result<()>) -> io::Result<()> {
        if outcome.is_err() {
            self.file(ino).fail_sync(mark);
            return outcome;
        }
        if self.mutant != Some(Mutant::SkipSync) {
            self.file(ino).sync(mark);
        }
        Ok(())
    }

    pub(super) fn finish_allocate(&mut self, ino: Ino, bytes: u64) {
        let sequence = self.fresh_number();
        self.file(ino).extend(bytes, sequence);
    }

    // The end.

    /// Turns the disk into what is found after the power was cut at this moment.
    pub(super) fn crash(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        for file in self.files.values_mut() {
            crash_file(file, &mut rng);
        }
        let survives = surviving_changes(&self.pending, &mut rng);
        for (pending, survives) in std::mem::take(&mut self.pending).iter().zip(survives) {
            if survives {
                pending.change.apply(&mut self.dirs, View::Durable);
            }
        }
        for dir in self.dirs.values_mut() {
            dir.current = dir.durable.clone();
        }
        self.locks.clear();
        self.epoch += 1;
        self.unpowered = false;
        self.drop_unreachable();
    }

    /// Forgets files and directories that no name, no change that may survive, and no handle leads to.
    pub(super) fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo: Vec<Ino> = vec![ROOT];
        todo.extend(self.pending.iter().map(|pending| pending.change.ino()));
        todo.extend(self.locks.keys().copied());
        todo.extend(
            self.files
                .iter()
                .filter(|(_, file)| file.open > 0)
                .map(|(ino, _)| *ino),
        );
        while let Some(ino) = todo.pop() {
            reached.insert(ino);
            if let Some(dir) = self.dirs.get(&ino) {
                let below = dir.current.values().chain(dir.durable.values());
                todo.extend(below.filter(|ino| !reached.contains(ino)));
            }
        }
        self.files.retain(|ino, _| reached.contains(ino));
        self.dirs.retain(|ino, _| reached.contains(ino));
    }
}
