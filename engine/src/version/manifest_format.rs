//! The manifest's bytes: its header, its frames, and what they say when read back. Pure.
//!
//! ```text
//! page 0     header, below
//! page 1..   frames (codec::frame), kind Edit: one part of a version edit each, numbered 1, 2, 3, ...
//!            kind Mark, no payload: the manifest was closed cleanly; edits may follow after a reopen
//! then       zeros up to the room in the header, which is the file's length
//!
//! header
//! offset size
//!      0    8  magic "CLMANIFS"
//!      8    4  format version, 1
//!     12    4  CRC-32 (IEEE) over bytes 0..12 and 16..64
//!     16    8  feature bits, 0
//!     24    8  database
//!     32    8  salt: identity of this incarnation of the file, in every frame's checksum
//!     40    8  room: the file's length in bytes
//!     48    2  shard
//!     50   14  reserved, 0
//!              zeros up to 4096
//! ```
//!
//! All integers are little-endian. Later format versions keep the first 16 bytes and the extent of the checksum, so
//! that every version can name a newer one.
//!
//! The first edit is a snapshot of the whole state (it may span several frames); the state is what all whole edits,
//! applied in order, give.
//!
//! **Torn or damaged (rule R7).** Frames are written one at a time, each durable before the next begins, into a file
//! that was synced with its snapshot before it got its name. So:
//! - a bad frame with a valid frame of this manifest anywhere behind it was durable once: damage;
//! - a whole, valid frame of another file or place, or a number out of turn, cannot be half a write: damage;
//! - a file shorter than its room was cut: damage; so is a first edit that is not whole;
//! - any other bad frame, and a last edit some of whose parts are missing, is a torn tail: never acknowledged, cut off.
//!
//! What cannot be told apart is damage to the very last frame of a manifest that was not closed cleanly; a clean close
//! puts a mark behind it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::edit::{EditError, VersionEdit};
use super::state::State;
use crate::codec::frame::{self, Frame, FrameError, FrameKind, framed_bytes};
use crate::error::ErrorKind;
use crate::types::PAGE_BYTES;

const MAGIC: [u8; 8] = *b"CLMANIFS";

/// The format version that is written, and the only one read.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the header before its padding.
const HEADER_BYTES: usize = 64;

/// Where the first frame lies.
pub const FIRST_FRAME: u64 = PAGE_BYTES as u64;

/// The longest manifest that is read, in bytes: room for millions of tables, and a bound on what open allocates.
pub const MAX_ROOM_BYTES: u64 = 1 << 30;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format_version: U32,
    crc: U32,
    features: U64,
    database: U64,
    salt: U64,
    room_bytes: U64,
    shard: U16,
    reserved: [u8; 14],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// Whose manifest this is, and how much room it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The database's random identity, from its superblock.
    pub database: u64,
    /// The shard.
    pub shard: u16,
    /// This incarnation of the file.
    pub salt: u64,
    /// The file's length in bytes.
    pub room_bytes: u64,
}

impl Header {
    /// What every frame of this manifest is checked against.
    pub fn frames(&self) -> frame::Identity {
        frame::Identity {
            shard: self.shard,
            salt: self.salt,
        }
    }
}

/// Why a manifest cannot be read: the kind and cause of the error, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// `Corruption`, or `Incompatible` for what a newer version wrote.
    pub kind: ErrorKind,
    /// Byte offset in the file.
    pub offset: u64,
    /// In words.
    pub cause: String,
}

fn corrupt(offset: u64, cause: impl Into<String>) -> Damage {
    Damage {
        kind: ErrorKind::Corruption,
        offset,
        cause: cause.into(),
    }
}

fn newer(offset: u64, cause: impl Into<String>) -> Damage {
    Damage {
        kind: ErrorKind::Incompatible,
        offset,
        cause: cause.into(),
    }
}

/// Writes the header page into `page`.
///
/// # Panics
/// If `page` is not one page, or the room is not a whole number of pages within [`MAX_ROOM_BYTES`].
pub fn encode_header(page: &mut [u8], header: &Header) {
    assert_eq!(page.len(), PAGE_BYTES, "the header is one page");
    assert!(
        header.room_bytes.is_multiple_of(PAGE_BYTES as u64) && header.room_bytes <= MAX_ROOM_BYTES,
        "the room is bounded and in pages"
    );
    let mut raw = RawHeader {
        magic: MAGIC,
        format_version: U32::new(FORMAT_VERSION),
        crc: U32::new(0),
        features: U64::new(0),
        database: U64::new(header.database),
        salt: U64::new(header.salt),
        room_bytes: U64::new(header.room_bytes),
        shard: U16::new(header.shard),
        reserved: [0; 14],
    };
    raw.crc = U32::new(header_checksum(&raw));
    page.fill(0);
    page[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
}

fn header_checksum(raw: &RawHeader) -> u32 {
    let bytes = raw.as_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

/// Reads the header page.
///
/// # Errors
/// What is wrong with it.
pub fn parse_header(page: &[u8]) -> Result<Header, Damage> {
    let Ok((raw, _)) = RawHeader::ref_from_prefix(page) else {
        return Err(corrupt(
            0,
            format!("the file has {} bytes, too few for a manifest", page.len()),
        ));
    };
    if raw.magic != MAGIC {
        return Err(corrupt(0, "this is not a manifest: its magic is wrong"));
    }
    let (expected, found) = (raw.crc.get(), header_checksum(raw));
    if expected != found {
        return Err(corrupt(
            0,
            format!("the header's checksum is {found:#010x}, expected {expected:#010x}"),
        ));
    }
    let version = raw.format_version.get();
    if version != FORMAT_VERSION {
        return Err(newer(
            0,
            format!("the manifest has format version {version}, this program reads version {FORMAT_VERSION}"),
        ));
    }
    let features = raw.features.get();
    if features != 0 || raw.reserved != [0; 14] {
        return Err(newer(
            0,
            format!("the manifest uses features unknown to this program ({features:#x})"),
        ));
    }
    let room_bytes = raw.room_bytes.get();
    if !room_bytes.is_multiple_of(PAGE_BYTES as u64) || room_bytes > MAX_ROOM_BYTES {
        return Err(corrupt(
            0,
            format!("the header's room of {room_bytes} bytes is impossible"),
        ));
    }
    Ok(Header {
        database: raw.database.get(),
        shard: raw.shard.get(),
        salt: raw.salt.get(),
        room_bytes,
    })
}

/// Bytes on disk of an edit encoded into `parts`.
pub fn parts_bytes(parts: &[Vec<u8>]) -> u64 {
    parts.iter().map(|part| framed_bytes(part.len()) as u64).sum()
}

/// Writes one frame of this manifest into `out`, which is exactly as long. Its durable mark says that every frame
/// before it is on stable storage, which the order of writing makes true.
pub fn encode_frame(
    out: &mut [u8],
    header: &Header,
    position: u64,
    number: u64,
    kind: FrameKind,
    payload: &[u8],
) {
    assert!(number > 0, "frames are numbered from 1");
    frame::encode(
        out,
        header.frames(),
        position,
        Frame {
            kind,
            number,
            durable: number - 1,
            payload,
        },
    );
}

/// Where a torn tail begins and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Byte offset of the first frame of the edit that is not whole.
    pub offset: u64,
    /// In words.
    pub cause: String,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The state after its last whole edit.
    pub state: State,
    /// Where the next frame goes, if the tail is not torn.
    pub end: u64,
    /// The number of the next frame.
    pub next_number: u64,
    /// What had to be cut off, where something had to be.
    pub torn: Option<TornTail>,
    /// Whether the last thing in it is the mark of a clean close.
    pub marked: bool,
}

struct Replay {
    state: State,
    /// The parts so far of an edit that goes on, and where it began.
    pending: Option<(u64, VersionEdit)>,
    edits: u64,
    marked: bool,
}

/// Reads the frames of a whole manifest, `file` being all its bytes from the header on.
///
/// # Errors
/// What is damaged, by the rule in the module's head.
pub fn replay(file: &[u8], header: &Header) -> Result<Replayed, Damage> {
    let room = usize::try_from(header.room_bytes).unwrap_or(usize::MAX);
    let Some(file) = file.get(..room) else {
        let cause = format!("the file has {} bytes, its header says {room}", file.len());
        return Err(corrupt(file.len() as u64, cause));
    };
    let mut replay = Replay {
        state: State::default(),
        pending: None,
        edits: 0,
        marked: false,
    };
    let mut position = PAGE_BYTES;
    let mut number = 1;
    let torn = loop {
        let rest = &file[position.min(file.len())..];
        match frame::parse(rest, header.frames(), position as u64) {
            Ok(frame) => {
                check_turn(&frame, number, position as u64)?;
                replay.take(&frame, position as u64)?;
                position += framed_bytes(frame.payload.len());
                number += 1;
            }
            Err(error) => {
                check_tail(file, header, position, number, error)?;
                break (error != FrameError::Empty).then(|| TornTail {
                    offset: position as u64,
                    cause: error.to_string(),
                });
            }
        }
    };
    if replay.edits == 0 {
        // The file got its name only after its first edit was durable, so this is no torn tail.
        return Err(corrupt(
            FIRST_FRAME,
            "the snapshot that every manifest starts with is not whole",
        ));
    }
    let unfinished = replay.pending.map(|(offset, _)| TornTail {
        offset,
        cause: "an edit lacks its last part".into(),
    });
    Ok(Replayed {
        state: replay.state,
        end: position as u64,
        next_number: number,
        torn: unfinished.or(torn),
        marked: replay.marked,
    })
}

fn check_turn(frame: &Frame<'_>, expected: u64, position: u64) -> Result<(), Damage> {
    if frame.number == expected && frame.durable < expected {
        return Ok(());
    }
    Err(corrupt(
        position,
        format!("the frame has number {}, expected {expected}", frame.number),
    ))
}

impl Replay {
    fn take(&mut self, frame: &Frame<'_>, position: u64) -> Result<(), Damage> {
        match frame.kind {
            FrameKind::Edit => {}
            FrameKind::Mark if frame.payload.is_empty() && self.pending.is_none() => {
                self.marked = true;
                return Ok(());
            }
            kind => {
                return Err(corrupt(
                    position,
                    format!("a {kind:?} frame does not belong here"),
                ));
            }
        }
        self.marked = false;
        let part = VersionEdit::decode(frame.payload).map_err(|error| match error {
            EditError::Malformed(_) => corrupt(position, error.to_string()),
            EditError::UnknownTag(_) | EditError::UnknownKeyspace(_) => newer(position, error.to_string()),
        })?;
        let (began, mut edit) = self.pending.take().unwrap_or((position, VersionEdit::default()));
        edit.extend(part.edit);
        if part.continues {
            self.pending = Some((began, edit));
            return Ok(());
        }
        self.state = self
            .state
            .apply(&edit)
            .map_err(|error| corrupt(position, error.to_string()))?;
        self.edits += 1;
        Ok(())
    }
}

/// Whether the bad frame at `position` may be a torn tail; see the module's head.
fn check_tail(
    file: &[u8],
    header: &Header,
    position: usize,
    number: u64,
    error: FrameError,
) -> Result<(), Damage> {
    match error {
        FrameError::Misplaced { .. } => return Err(corrupt(position as u64, error.to_string())),
        FrameError::Unknown(_) => return Err(newer(position as u64, error.to_string())),
        FrameError::Empty
        | FrameError::BadMagic
        | FrameError::BadLength(_)
        | FrameError::BadChecksum { .. } => {}
    }
    for later in (position + PAGE_BYTES..file.len()).step_by(PAGE_BYTES) {
        if let Ok(frame) = frame::parse(&file[later..], header.frames(), later as u64) {
            let cause = format!(
                "frame {number} is bad ({error}), but frame {} at offset {later}, written after it, is whole",
                frame.number
            );
            return Err(corrupt(position as u64, cause));
        }
    }
    Ok(())
}
