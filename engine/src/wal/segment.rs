//! One segment: its header, and how it is prepared.
//!
//! ```text
//! page 0, little-endian; all of it in the first 512 bytes, so that a torn write cannot mix two headers
//! offset size
//!      0    8  magic "CLWALSEG"
//!      8    4  format version, 1
//!     12    4  feature bits, 0; an unknown bit refuses to open
//!     16    8  database
//!     24    2  shard
//!     26    6  0
//!     32    8  segment number, as in the file's name
//!     40    8  salt: random, new each time the file is used
//!     48    8  length of the file in bytes
//!     56    4  0
//!     60    4  CRC-32 of bytes 0..60
//!              zeros up to 4096
//! page 1..    frames
//! ```
//!
//! Preparing (R4): allocate, fill with zeros without `O_DSYNC`, sync, header, sync, sync the directory. A segment that is
//! no longer needed is recycled instead: renamed, and given a header with a new salt, under which none of its old frames
//! is valid. Its pages were written and synced long ago, so it need not be filled again. Because the zeros are synced
//! before the header is written, a file with a header of its own name and length was filled; any other (an interrupted
//! preparation, a segment of another size) is removed and never recycled.

use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};
use crate::io::{File, Io, OpenOptions};
use crate::types::{PAGE_BYTES, segment_file_name};

const MAGIC: [u8; 8] = *b"CLWALSEG";
/// The format version this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Where frames begin.
pub const FIRST_FRAME: u64 = PAGE_BYTES as u64;
/// Zeros are written in pieces of this size: large enough for the device's full rate, small enough to let others in.
const FILL_BYTES: u64 = 1 << 20;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    features: U32,
    database: U64,
    shard: U16,
    reserved: [u8; 6],
    number: U64,
    salt: U64,
    bytes: U64,
    reserved_too: [u8; 4],
    crc: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The database's identity.
    pub database: u64,
    /// The shard.
    pub shard: u16,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose log it is part of.
    pub owner: Owner,
    /// Its number.
    pub number: u64,
    /// Salt of its frames.
    pub salt: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// Why a page is not the header of this segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderError {
    /// It is not a header, or it is damaged, or it belongs to another segment.
    Damaged(String),
    /// It is from a newer version, or uses a feature this one does not know.
    Newer(String),
}

impl Header {
    /// The page as stored.
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut header = RawHeader {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            features: U32::new(0),
            database: U64::new(self.owner.database),
            shard: U16::new(self.owner.shard),
            reserved: [0; 6],
            number: U64::new(self.number),
            salt: U64::new(self.salt),
            bytes: U64::new(self.bytes),
            reserved_too: [0; 4],
            crc: U32::new(0),
        };
        header.crc = U32::new(crc32fast::hash(&header.as_bytes()[..HEADER_BYTES - 4]));
        let mut page = [0; PAGE_BYTES];
        page[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        page
    }

    /// Reads the header of segment `number` of `owner`, whose file is `file_bytes` long.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(
        page: &[u8],
        owner: Owner,
        number: u64,
        file_bytes: u64,
    ) -> std::result::Result<Self, HeaderError> {
        let damaged = |why: String| Err(HeaderError::Damaged(why));
        let Ok((raw, _)) = RawHeader::read_from_prefix(page) else {
            return damaged("the file is too short for a segment's header".to_owned());
        };
        if raw.magic != MAGIC {
            return damaged("it does not begin with CLWALSEG".to_owned());
        }
        let (expected, found) = (
            raw.crc.get(),
            crc32fast::hash(&raw.as_bytes()[..HEADER_BYTES - 4]),
        );
        if expected != found {
            return damaged(format!(
                "the header's checksum is {found:#010x}, expected {expected:#010x}"
            ));
        }
        let (version, features) = (raw.version.get(), raw.features.get());
        if version != FORMAT_VERSION || features != 0 {
            return Err(HeaderError::Newer(format!(
                "it has format version {version} with features {features:#x}; this build knows version \
                 {FORMAT_VERSION} with none"
            )));
        }
        let header = Self {
            owner: Owner {
                database: raw.database.get(),
                shard: raw.shard.get(),
            },
            number: raw.number.get(),
            salt: raw.salt.get(),
            bytes: raw.bytes.get(),
        };
        if header.owner != owner || header.number != number {
            return damaged(format!(
                "it is segment {} of shard {} of database {:#x}",
                header.number, header.owner.shard, header.owner.database
            ));
        }
        if header.bytes != file_bytes || !header.bytes.is_multiple_of(PAGE_BYTES as u64) {
            return damaged(format!(
                "the file has {file_bytes} bytes, its header says {}",
                header.bytes
            ));
        }
        Ok(header)
    }
}

/// A segment that is ready for frames: every page written and synced, header and name durable.
pub struct Prepared<I: Io> {
    /// What its header says.
    pub header: Header,
    /// Where it is.
    pub path: PathBuf,
    /// Open so that each write is durable when it completes.
    pub file: I::File,
}

impl<I: Io> std::fmt::Debug for Prepared<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("header", &self.header)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Makes segment `number` in `dir`, out of the obsolete segment `recycle` if there is one.
///
/// # Errors
/// `NoSpace` or `Io`, naming the file. What was begun is removed as far as the disk lets it be; nothing relies on it.
pub async fn prepare<I: Io>(
    io: &I,
    dir: &Path,
    owner: Owner,
    number: u64,
    segment_bytes: u64,
    recycle: Option<u64>,
) -> Result<Prepared<I>> {
    let path = dir.join(segment_file_name(number));
    let header = Header {
        owner,
        number,
        salt: io.random_u64(),
        bytes: segment_bytes,
    };
    let recycle = match recycle {
        Some(old) => reusable(io, dir, owner, old, segment_bytes).await,
        None => None,
    };
    let made = match recycle {
        Some(old) => io
            .rename(&old, &path)
            .await
            .map_err(|e| Error::io("recycling a WAL segment", &old, None, &e)),
        None => fill(io, &path, segment_bytes).await,
    };
    let prepared = match made {
        Ok(()) => finish(io, dir, &path, header).await,
        Err(error) => Err(error),
    };
    if prepared.is_err() {
        // The file holds nothing; if it cannot be removed now, the next open sweeps it.
        let _swept_later = io.remove(&path).await;
    }
    prepared
}

/// The path of segment `old` if it was filled once and has the wanted length. Any other is removed: its room is given
/// back before the new one takes some.
async fn reusable<I: Io>(io: &I, dir: &Path, owner: Owner, old: u64, segment_bytes: u64) -> Option<PathBuf> {
    let path = dir.join(segment_file_name(old));
    if is_filled(io, &path, owner, old, segment_bytes)
        .await
        .unwrap_or(false)
    {
        return Some(path);
    }
    // What cannot be removed now is swept at the next open.
    let _swept_later = io.remove(&path).await;
    None
}

async fn is_filled<I: Io>(
    io: &I,
    path: &Path,
    owner: Owner,
    number: u64,
    segment_bytes: u64,
) -> std::io::Result<bool> {
    let file = io.open(path, OpenOptions::READ).await?;
    let bytes = file.bytes().await?;
    if bytes != segment_bytes {
        file.close().await?;
        return Ok(false);
    }
    let page = file.read_at(0, PAGE_BYTES).await?;
    let filled = Header::decode(&page, owner, number, bytes).is_ok();
    file.close().await?;
    Ok(filled)
}

async fn fill<I: Io>(io: &I, path: &Path, segment_bytes: u64) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("filling a WAL segment", path, None, &e);
    let file = io.open(path, OpenOptions::CREATE).await.map_err(failed)?;
    file.allocate(segment_bytes).await.map_err(failed)?;
    let mut position = 0;
    while position < segment_bytes {
        let bytes = FILL_BYTES.min(segment_bytes - position);
        let mut zeros = io.alloc(usize::try_from(bytes).expect("at most FILL_BYTES"));
        zeros.fill(0);
        write_whole::<I>(&file, path, zeros, position, "filling a WAL segment").await?;
        position += bytes;
    }
    file.sync_data().await.map_err(failed)?;
    file.close().await.map_err(failed)
}

async fn finish<I: Io>(io: &I, dir: &Path, path: &Path, header: Header) -> Result<Prepared<I>> {
    let doing = "preparing a WAL segment";
    let failed = |e: std::io::Error| Error::io(doing, path, None, &e);
    let file = io.open(path, OpenOptions::WRITE).await.map_err(failed)?;
    let mut page = io.alloc(PAGE_BYTES);
    page.copy_from_slice(&header.encode());
    write_whole::<I>(&file, path, page, 0, doing).await?;
    file.sync_data().await.map_err(failed)?;
    file.close().await.map_err(failed)?;
    io.sync_dir(dir)
        .await
        .map_err(|e| Error::io(doing, dir, None, &e))?;
    let file = io.open(path, OpenOptions::WRITE.dsync()).await.map_err(failed)?;
    Ok(Prepared {
        header,
        path: path.to_owned(),
        file,
    })
}

/// Opens the last segment of a recovered log for more frames.
///
/// # Errors
/// `Io`, naming the file.
pub async fn reopen<I: Io>(io: &I, dir: &Path, header: Header) -> Result<Prepared<I>> {
    let path = dir.join(segment_file_name(header.number));
    let file = io.open(&path, OpenOptions::WRITE.dsync()).await;
    let file = file.map_err(|e| Error::io("reopening a WAL segment", &path, None, &e))?;
    Ok(Prepared { header, path, file })
}

/// Writes the whole buffer; a short write is a failure (R2).
pub(super) async fn write_whole<I: Io>(
    file: &I::File,
    path: &Path,
    buffer: <I::File as File>::WriteBuf,
    position: u64,
    doing: &str,
) -> Result<()> {
    let expected = buffer.len();
    let (written, _buffer) = file.write_at(buffer, position).await;
    let written = written.map_err(|e| Error::io(doing, path, Some(position), &e))?;
    if written == expected {
        return Ok(());
    }
    // A full device can show itself as a short write.
    let short = std::io::Error::new(
        std::io::ErrorKind::StorageFull,
        format!("only {written} of {expected} bytes were written"),
    );
    Err(Error::io(doing, path, Some(position), &short))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        database: 0xabcd,
        shard: 2,
    };

    fn sample() -> Header {
        Header {
            owner: OWNER,
            number: 7,
            salt: 99,
            bytes: 65_536,
        }
    }

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&sample().encode(), OWNER, 7, 65_536), Ok(sample()));
    }

    #[test]
    fn every_flipped_byte_of_the_header_is_refused() {
        let page = sample().encode();
        for at in 0..HEADER_BYTES {
            let mut bad = page;
            bad[at] ^= 1;
            assert!(Header::decode(&bad, OWNER, 7, 65_536).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_segment_shard_database_or_length_is_refused() {
        let page = sample().encode();
        assert!(Header::decode(&page, OWNER, 8, 65_536).is_err());
        assert!(Header::decode(&page, Owner { shard: 3, ..OWNER }, 7, 65_536).is_err());
        assert!(Header::decode(&page, Owner { database: 1, ..OWNER }, 7, 65_536).is_err());
        assert!(Header::decode(&page, OWNER, 7, 61_440).is_err());
    }
}
