//! Finding a database on disk, or creating one: the leader's first step.
//!
//! See [`crate::api::superblock`] for the order of creation and what each crash point leaves.

use std::path::Path;

use crate::api::builder::Options;
use crate::api::slots::SlotTable;
use crate::api::superblock::{
    CREATING_FILE_NAME, FILE_NAME, LOCK_FILE_NAME, NEW_FILE_NAME, Superblock, SuperblockError, shard_dir_name,
};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{DirEntry, File, Io, OpenOptions};
use crate::shard::Shard;
use crate::shard::config::Place;
use crate::types::PAGE_BYTES;

/// A database found or made, and the lock that keeps others out.
pub(super) struct Opened<L> {
    /// Held while any core may write.
    pub lock: L,
    /// What the database is.
    pub superblock: Superblock,
}

/// Locks the directory, then reads its superblock or creates a database.
///
/// # Errors
/// `Locked`, `Incompatible`, `InvalidOptions`, `Corruption`, `Io`.
pub(super) async fn open_or_create<I: Io>(io: &I, path: &Path, options: &Options) -> Result<Opened<I::Lock>> {
    if options.create {
        io.create_dir(path)
            .await
            .map_err(|e| Error::io("creating the database's directory", path, None, &e))?;
    }
    let lock_path = path.join(LOCK_FILE_NAME);
    let lock = io.lock(&lock_path).await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::WouldBlock {
            Error::located(
                ErrorKind::Locked,
                "locking the database",
                &lock_path,
                None,
                source.to_string(),
            )
        } else {
            Error::io("locking the database", &lock_path, None, &source)
        }
    })?;
    let names = list(io, path).await?;
    let has = |name: &str| names.iter().any(|entry| entry.name == name);
    let superblock = if has(FILE_NAME) {
        let superblock = read_superblock(io, path, options).await?;
        // A process that died in creation may have named the superblock and not synced its name. Without it a power cut
        // would begin creation again, over what we acknowledge from now on (R9).
        sync_dir(io, path).await?;
        superblock
    } else {
        may_create(path, &names, options)?;
        create(io, path, &names, options).await?
    };
    for leftover in [CREATING_FILE_NAME, NEW_FILE_NAME] {
        if has(leftover) && has(FILE_NAME) {
            let file = path.join(leftover);
            io.remove(&file)
                .await
                .map_err(|e| Error::io("removing a leftover of creation", &file, None, &e))?;
        }
    }
    Ok(Opened { lock, superblock })
}

async fn list<I: Io>(io: &I, path: &Path) -> Result<Vec<DirEntry>> {
    io.list_dir(path)
        .await
        .map_err(|e| Error::io("listing the database's directory", path, None, &e))
}

/// Nothing is ever created over what may be data.
fn may_create(path: &Path, names: &[DirEntry], options: &Options) -> Result<()> {
    let has = |name: &str| names.iter().any(|entry| entry.name == name);
    let shards = names
        .iter()
        .any(|entry| entry.is_dir && entry.name.starts_with("shard-"));
    if shards && !has(CREATING_FILE_NAME) {
        return Err(Error::corruption(
            "opening the database",
            &path.join(FILE_NAME),
            None,
            "the superblock is missing although shards are there",
        ));
    }
    if !options.create {
        return Err(Error::located(
            ErrorKind::InvalidOptions,
            "opening the database",
            path,
            None,
            "there is no database here and creating one was not asked for",
        ));
    }
    Ok(())
}

async fn read_superblock<I: Io>(io: &I, path: &Path, options: &Options) -> Result<Superblock> {
    let file_path = path.join(FILE_NAME);
    let failed = |e: &std::io::Error| Error::io("reading the superblock", &file_path, Some(0), e);
    let file = io
        .open(&file_path, OpenOptions::WRITE)
        .await
        .map_err(|e| failed(&e))?;
    let page = file.read_at(0, PAGE_BYTES).await.map_err(|e| failed(&e))?;
    file.close().await.map_err(|e| failed(&e))?;
    let superblock = Superblock::decode(&page).map_err(|error| match error {
        SuperblockError::Damaged(why) => {
            Error::corruption("reading the superblock", &file_path, Some(0), why)
        }
        SuperblockError::Newer(why) => Error::located(
            ErrorKind::Incompatible,
            "reading the superblock",
            &file_path,
            Some(0),
            why,
        ),
    })?;
    if let Some(shards) = options.shape.shards
        && shards != superblock.slots.shards()
    {
        return Err(Error::located(
            ErrorKind::InvalidOptions,
            "opening the database",
            &file_path,
            None,
            format!(
                "it was created with {} shards, not {shards}",
                superblock.slots.shards()
            ),
        ));
    }
    Ok(superblock)
}

async fn create<I: Io>(io: &I, path: &Path, names: &[DirEntry], options: &Options) -> Result<Superblock> {
    let cores = u16::try_from(options.cores.len()).unwrap_or(u16::MAX);
    let shards = options
        .shape
        .shards
        .unwrap_or(cores.clamp(1, crate::api::builder::MAX_SHARDS));
    let superblock = Superblock {
        database: io.random_u64(),
        created_ms: io.wall_clock_ms(),
        slots: SlotTable::contiguous(shards),
    };
    sync_parent(io, path).await?;
    remove_interrupted(io, path, names).await?;
    write_file(io, &path.join(CREATING_FILE_NAME), &[0; PAGE_BYTES]).await?;
    sync_dir(io, path).await?;
    for shard in 0..shards {
        let dir = path.join(shard_dir_name(shard));
        io.create_dir(&dir)
            .await
            .map_err(|e| Error::io("creating a shard's directory", &dir, None, &e))?;
        Shard::create(
            io,
            &Place {
                database: superblock.database,
                shard,
                dir,
            },
            &options.tuning,
        )
        .await?;
    }
    sync_dir(io, path).await?;
    let (new, file) = (path.join(NEW_FILE_NAME), path.join(FILE_NAME));
    write_file(io, &new, &superblock.encode()).await?;
    io.rename(&new, &file)
        .await
        .map_err(|e| Error::io("naming the superblock", &file, None, &e))?;
    sync_dir(io, path).await?;
    let marker = path.join(CREATING_FILE_NAME);
    io.remove(&marker)
        .await
        .map_err(|e| Error::io("removing the mark of creation", &marker, None, &e))?;
    sync_dir(io, path).await?;
    Ok(superblock)
}

/// Clears what an interrupted creation left; nothing in it was ever acknowledged, because there was no superblock.
async fn remove_interrupted<I: Io>(io: &I, path: &Path, names: &[DirEntry]) -> Result<()> {
    let doing = "clearing an interrupted creation";
    for entry in names {
        let here = path.join(&entry.name);
        if entry.is_dir && entry.name.starts_with("shard-") {
            for inner in list(io, &here).await? {
                let file = here.join(&inner.name);
                io.remove(&file)
                    .await
                    .map_err(|e| Error::io(doing, &file, None, &e))?;
            }
            sync_dir(io, &here).await?;
        } else if [CREATING_FILE_NAME, NEW_FILE_NAME].contains(&entry.name.as_str()) {
            // The marker stays until the end; it is only rewritten.
            if entry.name == NEW_FILE_NAME {
                io.remove(&here)
                    .await
                    .map_err(|e| Error::io(doing, &here, None, &e))?;
            }
        }
    }
    Ok(())
}

async fn write_file<I: Io>(io: &I, path: &Path, page: &[u8; PAGE_BYTES]) -> Result<()> {
    let doing = "writing a file of the database";
    let failed = |e: &std::io::Error| Error::io(doing, path, Some(0), e);
    let file = match io.open(path, OpenOptions::CREATE).await {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            io.open(path, OpenOptions::WRITE).await.map_err(|e| failed(&e))?
        }
        opened => opened.map_err(|e| failed(&e))?,
    };
    let mut buffer = io.alloc(PAGE_BYTES);
    buffer.copy_from_slice(page);
    let (written, _buffer) = file.write_at(buffer, 0).await;
    let written = written.map_err(|e| failed(&e))?;
    if written != PAGE_BYTES {
        let short = std::io::Error::from(std::io::ErrorKind::WriteZero);
        return Err(failed(&short));
    }
    file.sync_data().await.map_err(|e| failed(&e))?;
    file.close().await.map_err(|e| failed(&e))
}

/// Makes the name of the database's own directory durable: without it a power cut takes everything inside away with it.
async fn sync_parent<I: Io>(io: &I, path: &Path) -> Result<()> {
    let parent = match path.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    match io.sync_dir(parent).await {
        // In a directory that we may not even read somebody else made this one for us, and not just now.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(|e| Error::io("syncing a directory", parent, None, &e)),
    }
}

async fn sync_dir<I: Io>(io: &I, path: &Path) -> Result<()> {
    io.sync_dir(path)
        .await
        .map_err(|e| Error::io("syncing a directory", path, None, &e))
}
