//! The manifest: one shard's [`State`] kept durable as a log of version edits.
//!
//! File `manifest` in the shard's directory; its bytes are drawn in [`super::manifest_format`].
//!
//! **Append.** One edit is one dsync write of one frame (an edit too large for a frame: several, in order). The file's
//! whole room is allocated when it is made, so an append neither extends the file nor can meet a full device. Only once
//! the write is durable does [`Manifest::state`] change (rule R10).
//!
//! **Rollover.** Where an edit does not fit the room, a new manifest is begun with a snapshot that includes it:
//! write `manifest.new` whole → `sync_data` → rename over `manifest` → `sync_dir` (rule R9). The rename is what commits
//! the edit. A leftover `manifest.new` is never read and is removed before the next one is made.
//!
//! **Failure.** After a failed append, rename or directory sync nobody knows which state is on disk: the one in memory
//! or the one with the edit. Until that is settled the caller must keep every file that either of the two names. Then:
//! - A full device (`NoSpace`, and a short write, which is how it can show itself): [`Manifest::repair`], or the next
//!   append, rolls over to a new manifest with the state in memory; while that fails it may be tried again later.
//! - Any other failure poisons the manifest, because a device that failed once may claim success later without cause
//!   (rule R3): every later call answers `Poisoned` until the shard is reopened.
//! - A failure before the rename leaves the old manifest as it was; nothing is in doubt.
//!
//! **Open** reads and writes nothing (rule R11). A torn tail is cut off by a rollover, in [`Manifest::repair`] or before
//! the first append, whichever comes first (rule R8).

use std::path::{Path, PathBuf};

use super::edit::VersionEdit;
use super::manifest_format::{
    self as format, Damage, FIRST_FRAME, Header, MAX_ROOM_BYTES, Replayed, TornTail,
};
use super::state::State;
use crate::codec::frame::{FrameKind, framed_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io, OpenOptions};
use crate::types::PAGE_BYTES;

/// The manifest's name in its shard's directory.
pub const MANIFEST_NAME: &str = "manifest";

/// The name of a manifest that is still being written; the orphan sweep may remove it.
pub const NEW_MANIFEST_NAME: &str = "manifest.new";

/// Bytes of one read at open.
const READ_BYTES: usize = 256 * 1024;

/// How a manifest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestOptions {
    /// The room of a manifest in bytes; when it is full a new one is begun. A larger snapshot gets twice its own size.
    pub room_bytes: u64,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self { room_bytes: 1 << 20 }
    }
}

/// Whose manifest is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The database's random identity, from its superblock.
    pub database: u64,
    /// The shard.
    pub shard: u16,
}

/// How far the file on disk is known.
#[derive(Debug, Clone)]
enum Health {
    /// It holds exactly the state in memory, and the next frame goes to its end.
    Sound,
    /// It holds the state in memory, and behind it a tail that was never acknowledged.
    Torn,
    /// It may hold an edit that the state in memory does not.
    Doubtful,
    /// The device failed.
    Poisoned(Error),
}

/// One shard's manifest, open. One owner at a time appends; see the [module](self) for what a failure means.
pub struct Manifest<I: Io> {
    io: I,
    dir: PathBuf,
    owner: Owner,
    options: ManifestOptions,
    file: I::File,
    header: Header,
    /// Where the next frame goes.
    end: u64,
    next_number: u64,
    marked: bool,
    state: State,
    health: Health,
    doubts: u64,
}

impl<I: Io> Manifest<I> {
    /// Makes the manifest of a new shard whose directory exists, holding `state`; durable when this returns. The
    /// directory's own name is the caller's to sync.
    ///
    /// # Errors
    /// `InvalidOptions` where there is a manifest already or the room is too small; else what the machine says.
    pub async fn create(
        io: &I,
        dir: &Path,
        owner: Owner,
        options: ManifestOptions,
        state: State,
    ) -> Result<Self> {
        let names = io
            .list_dir(dir)
            .await
            .map_err(|e| Error::io("making a manifest", dir, None, &e))?;
        if names.iter().any(|entry| entry.name == MANIFEST_NAME) {
            let path = dir.join(MANIFEST_NAME);
            let cause = "there is a manifest here already";
            return Err(Error::located(
                ErrorKind::InvalidOptions,
                "making a manifest",
                &path,
                None,
                cause,
            ));
        }
        let made = write_new(io, dir, owner, options, &state).await?;
        commit_new(io, dir).await?;
        Ok(Self::new(io, dir, owner, options, made, state, Health::Sound))
    }

    /// Opens and replays the manifest in `dir`. Nothing is written; what was found beside the state is in
    /// [`Opened`], and [`Manifest::repair`] cuts off a torn tail.
    ///
    /// # Errors
    /// `Corruption` or `Incompatible`, naming file and offset; `Io` where it is missing or cannot be read.
    pub async fn open(io: &I, dir: &Path, owner: Owner, options: ManifestOptions) -> Result<(Self, Opened)> {
        let path = dir.join(MANIFEST_NAME);
        let located = |damage: Damage| {
            Error::located(
                damage.kind,
                "reading a manifest",
                &path,
                Some(damage.offset),
                damage.cause,
            )
        };
        let failed = |e: std::io::Error| Error::io("opening a manifest", &path, None, &e);
        let file = io.open(&path, OpenOptions::WRITE.dsync()).await.map_err(failed)?;
        let bytes = read_all(&file, &path).await?;
        let header = format::parse_header(&bytes).map_err(located)?;
        if (Owner {
            database: header.database,
            shard: header.shard,
        }) != owner
        {
            let cause = format!(
                "this manifest is of database {:#018x}, shard {}; expected database {:#018x}, shard {}",
                header.database, header.shard, owner.database, owner.shard
            );
            return Err(Error::corruption("reading a manifest", &path, Some(0), cause));
        }
        let Replayed {
            state,
            end,
            next_number,
            torn,
            marked,
        } = format::replay(&bytes, &header).map_err(located)?;
        let health = if torn.is_some() {
            Health::Torn
        } else {
            Health::Sound
        };
        let made = Made {
            file,
            header,
            end,
            next_number,
            marked,
        };
        let manifest = Self::new(io, dir, owner, options, made, state, health);
        Ok((
            manifest,
            Opened {
                torn,
                closed_cleanly: marked,
            },
        ))
    }

    fn new(
        io: &I,
        dir: &Path,
        owner: Owner,
        options: ManifestOptions,
        made: Made<I::File>,
        state: State,
        health: Health,
    ) -> Self {
        let Made {
            file,
            header,
            end,
            next_number,
            marked,
        } = made;
        let (io, dir) = (io.clone(), dir.to_owned());
        Self {
            io,
            dir,
            owner,
            options,
            file,
            header,
            end,
            next_number,
            marked,
            state,
            health,
            doubts: 0,
        }
    }

    /// The state as of the last durable edit.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether what is on disk is in doubt or has a torn tail, so that [`Manifest::repair`] or an append must come
    /// before anything relies on it.
    pub fn needs_repair(&self) -> bool {
        !matches!(self.health, Health::Sound)
    }

    /// Whether a write has failed with an unknown outcome, so that nothing more is written before a reopen.
    pub fn is_poisoned(&self) -> bool {
        matches!(self.health, Health::Poisoned(_))
    }

    /// How many failures so far have left in doubt whether their edit is on disk. One that leaves this as it was has
    /// written nothing of its edit under the manifest's name, whatever is in doubt since before.
    pub fn doubts(&self) -> u64 {
        self.doubts
    }

    /// Makes `edit` durable, then visible in [`Manifest::state`].
    ///
    /// If this future is dropped before it completes, the manifest is in doubt, as after a failure.
    ///
    /// # Errors
    /// `NoSpace`: try again later. `Poisoned`, and `Io` the first time: reopen the shard. After any error for which
    /// [`Manifest::needs_repair`] holds, keep the files of both states; see the [module](self).
    ///
    /// # Panics
    /// If the edit does not fit the state: its writer made a mistake, and it must not become durable.
    pub async fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        self.check_poison()?;
        let next = match self.state.apply(edit) {
            Ok(next) => next,
            Err(error) => panic!("an edit must fit the state it was made for: {error}"),
        };
        let parts = edit.encode();
        // One page stays free for the mark of a clean close.
        let fits = self.end + format::parts_bytes(&parts) + PAGE_BYTES as u64 <= self.header.room_bytes;
        if self.needs_repair() || !fits {
            return self.roll_over(next).await;
        }
        self.health = Health::Doubtful;
        for part in &parts {
            self.write_frame(FrameKind::Edit, part).await?;
        }
        self.health = Health::Sound;
        self.marked = false;
        self.state = next;
        Ok(())
    }

    /// Makes the manifest on disk hold exactly the state in memory: rolls over if that is in doubt or the tail is torn,
    /// and removes a leftover new manifest. Cheap if there is nothing to do.
    ///
    /// # Errors
    /// As [`Manifest::append`].
    pub async fn repair(&mut self) -> Result<()> {
        self.check_poison()?;
        if self.needs_repair() {
            return self.roll_over(self.state.clone()).await;
        }
        remove_new(&self.io, &self.dir).await
    }

    /// Marks a clean close, so that damage to the last edit can be told from a torn tail, and closes the file. A
    /// manifest in doubt or with a torn tail is closed as it is.
    ///
    /// # Errors
    /// What the machine says; every edit stays as durable as it was.
    pub async fn close(mut self) -> Result<()> {
        let room = self.end + PAGE_BYTES as u64 <= self.header.room_bytes;
        if !self.needs_repair() && !self.marked && room {
            self.health = Health::Doubtful;
            self.write_frame(FrameKind::Mark, &[]).await?;
        }
        let path = self.dir.join(MANIFEST_NAME);
        self.file
            .close()
            .await
            .map_err(|e| Error::io("closing a manifest", &path, None, &e))
    }

    fn check_poison(&self) -> Result<()> {
        match &self.health {
            Health::Poisoned(error) => Err(error.with_kind(ErrorKind::Poisoned)),
            Health::Sound | Health::Torn | Health::Doubtful => Ok(()),
        }
    }

    /// Remembers a failure that left the disk in doubt: worse than a full device, it poisons.
    fn in_doubt(&mut self, error: Error) -> Error {
        self.doubts += 1;
        self.health = match error.kind() {
            ErrorKind::NoSpace => Health::Doubtful,
            _ => Health::Poisoned(error.clone()),
        };
        error
    }

    async fn write_frame(&mut self, kind: FrameKind, payload: &[u8]) -> Result<()> {
        assert!(
            matches!(self.health, Health::Doubtful),
            "a write under way leaves the disk in doubt"
        );
        let path = self.dir.join(MANIFEST_NAME);
        let mut buf = self.io.alloc(framed_bytes(payload.len()));
        format::encode_frame(&mut buf, &self.header, self.end, self.next_number, kind, payload);
        let bytes = buf.len() as u64;
        if let Err(error) = write_whole::<I>(&self.file, &path, buf, self.end).await {
            return Err(self.in_doubt(error));
        }
        self.end += bytes;
        self.next_number += 1;
        Ok(())
    }

    async fn roll_over(&mut self, next: State) -> Result<()> {
        let made = write_new(&self.io, &self.dir, self.owner, self.options, &next).await?;
        // From here until the directory is synced, either manifest may be the one a reopen finds.
        self.health = Health::Doubtful;
        if let Err(error) = commit_new(&self.io, &self.dir).await {
            return Err(self.in_doubt(error));
        }
        let Made {
            file,
            header,
            end,
            next_number,
            marked,
        } = made;
        let old = std::mem::replace(&mut self.file, file);
        (self.header, self.end, self.next_number, self.marked) = (header, end, next_number, marked);
        self.state = next;
        self.health = Health::Sound;
        // The old file has no name any more and everything in it is in the new one: a failed close loses nothing.
        let _ = old.close().await;
        Ok(())
    }
}

/// What open found beside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// A tail that was never acknowledged and has to be cut off.
    pub torn: Option<TornTail>,
    /// Whether the manifest was closed cleanly after its last edit.
    pub closed_cleanly: bool,
}

/// A manifest file and where its next frame goes.
struct Made<F> {
    file: F,
    header: Header,
    end: u64,
    next_number: u64,
    marked: bool,
}

/// Writes `manifest.new` with a snapshot of `state` and syncs its data; it has no lasting name yet.
async fn write_new<I: Io>(
    io: &I,
    dir: &Path,
    owner: Owner,
    options: ManifestOptions,
    state: &State,
) -> Result<Made<I::File>> {
    let path = dir.join(NEW_MANIFEST_NAME);
    let parts = state.snapshot().encode();
    let snapshot_bytes = FIRST_FRAME + format::parts_bytes(&parts);
    // Twice the snapshot, so that a large shard does not roll over with every edit; and room for edits and a mark.
    let room_bytes = options.room_bytes.max(2 * snapshot_bytes + 8 * PAGE_BYTES as u64);
    let room_bytes = room_bytes.next_multiple_of(PAGE_BYTES as u64);
    if room_bytes > MAX_ROOM_BYTES {
        let cause = format!("a manifest of {room_bytes} bytes is over the limit of {MAX_ROOM_BYTES}");
        return Err(Error::located(
            ErrorKind::TooLarge,
            "writing a manifest",
            &path,
            None,
            cause,
        ));
    }
    let header = Header {
        database: owner.database,
        shard: owner.shard,
        salt: io.random_u64(),
        room_bytes,
    };
    remove_new(io, dir).await?;
    let failed = |e: std::io::Error| Error::io("making a manifest", &path, None, &e);
    let file = io
        .open(&path, OpenOptions::CREATE.dsync())
        .await
        .map_err(failed)?;
    match fill_new(io, &file, &path, &header, &parts).await {
        Ok((end, next_number)) => Ok(Made {
            file,
            header,
            end,
            next_number,
            marked: false,
        }),
        Err(error) => {
            // Give its room back: on a full device the next try needs it. A failure here changes nothing: the file is
            // removed again before the next try.
            let _ = file.close().await;
            let _ = remove_new(io, dir).await;
            Err(error)
        }
    }
}

async fn fill_new<I: Io>(
    io: &I,
    file: &I::File,
    path: &Path,
    header: &Header,
    parts: &[Vec<u8>],
) -> Result<(u64, u64)> {
    let failed = |e: std::io::Error| Error::io("making a manifest", path, None, &e);
    file.allocate(header.room_bytes).await.map_err(failed)?;
    let mut page = io.alloc(PAGE_BYTES);
    format::encode_header(&mut page, header);
    write_whole::<I>(file, path, page, 0).await?;
    let (mut end, mut number) = (FIRST_FRAME, 1);
    for part in parts {
        let mut buf = io.alloc(framed_bytes(part.len()));
        let bytes = buf.len() as u64;
        format::encode_frame(&mut buf, header, end, number, FrameKind::Edit, part);
        write_whole::<I>(file, path, buf, end).await?;
        end += bytes;
        number += 1;
    }
    file.sync_data()
        .await
        .map_err(|e| Error::io("syncing a manifest", path, None, &e))?;
    Ok((end, number))
}

/// Gives the new manifest its name, for good.
async fn commit_new<I: Io>(io: &I, dir: &Path) -> Result<()> {
    let (from, to) = (dir.join(NEW_MANIFEST_NAME), dir.join(MANIFEST_NAME));
    io.rename(&from, &to)
        .await
        .map_err(|e| Error::io("switching to a new manifest", &to, None, &e))?;
    io.sync_dir(dir)
        .await
        .map_err(|e| Error::io("switching to a new manifest", dir, None, &e))
}

/// Removes a leftover new manifest. Its name need not be gone for good: it is never read.
async fn remove_new<I: Io>(io: &I, dir: &Path) -> Result<()> {
    let path = dir.join(NEW_MANIFEST_NAME);
    match io.remove(&path).await {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("removing an unfinished manifest", &path, None, &e)),
    }
}

/// One write of the whole buffer, or a failure (rule R2).
async fn write_whole<I: Io>(
    file: &I::File,
    path: &Path,
    buf: <I::File as File>::WriteBuf,
    position: u64,
) -> Result<()> {
    let bytes = buf.len();
    let (result, _) = file.write_at(buf, position).await;
    let written = result.map_err(|e| Error::io("writing a manifest", path, Some(position), &e))?;
    if written == bytes {
        return Ok(());
    }
    let cause =
        format!("only {written} of {bytes} bytes were written, which is how a full device can show itself");
    Err(Error::located(
        ErrorKind::NoSpace,
        "writing a manifest",
        path,
        Some(position),
        cause,
    ))
}

/// All bytes of the file, its length checked before anything is allocated for it (rule R17).
async fn read_all<F: File>(file: &F, path: &Path) -> Result<Vec<u8>> {
    let failed = |position, e: std::io::Error| Error::io("reading a manifest", path, Some(position), &e);
    let length = file.bytes().await.map_err(|e| failed(0, e))?;
    if length > MAX_ROOM_BYTES {
        let cause = format!("the file has {length} bytes, no manifest is over {MAX_ROOM_BYTES}");
        return Err(Error::corruption(
            "reading a manifest",
            path,
            Some(MAX_ROOM_BYTES),
            cause,
        ));
    }
    let mut bytes = Vec::new();
    // Each turn reads what it asked for or fails, so the file's length bounds the loop.
    while (bytes.len() as u64) < length {
        let position = bytes.len() as u64;
        let chunk = file
            .read_at(position, READ_BYTES)
            .await
            .map_err(|e| failed(position, e))?;
        bytes.extend_from_slice(&chunk);
        if (bytes.len() as u64) < length && chunk.len() < READ_BYTES {
            let cause = format!("only {} of {length} bytes could be read", bytes.len());
            let kind = ErrorKind::Io;
            return Err(Error::located(
                kind,
                "reading a manifest",
                path,
                Some(position),
                cause,
            ));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
