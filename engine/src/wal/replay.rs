//! Replay: reads the log from the manifest's floor to its end. It writes nothing.
//!
//! Steps: read the floor's segment frame by frame → at a seal go on in the segment it names → at the first page that is
//! not a frame, decide.
//!
//! The decision (R7). Every frame says how far the log was durable when it was sealed. If any whole frame of this log
//! behind the bad one — in the rest of its segment, or in any later segment — says that the bad one was durable, the bad
//! one was acknowledged once, so this is damage: an error naming file and offset. Otherwise nothing behind it was ever
//! acknowledged, and it is the tail. What cannot be told apart is the very last group of a log that was not closed
//! cleanly: if exactly that is damaged, it looks torn. A clean close writes a mark behind it for this reason.
//!
//! The manifest is a witness too: a log that ends before the floor has lost frames that were durable. And a frame that is
//! whole but of an unknown kind, or of another place of this same file, is no tail: a newer version wrote it, or it was
//! swapped or misdirected.
//!
//! The tail can be *untouched*: its page is all zeros, or a whole frame of an earlier life of the file. Then writing goes
//! on right there. Or it may be *torn*, or lie behind the first parts of a batch whose last was never written; then the
//! writer seals it off and goes on in another segment, and never trusts those pages again (R8).
//!
//! A failure to read is an error and never a tail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::codec::frame::{self, Frame, FrameError, FrameKind, Identity};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io, OpenOptions};
use crate::types::{MAX_BATCH_BYTES, PAGE_BYTES, parse_numbered_name, segment_file_name};
use crate::wal::payload::{Seal, batches};
use crate::wal::segment::{FIRST_FRAME, Header, HeaderError, Owner};

/// The largest frame, header and padding included: what one read must be able to hold.
const READ_BYTES: usize = 2 << 20;

/// What follows the last whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailState {
    /// Nothing was ever written there in this life of the file.
    Untouched,
    /// Something that is no whole frame, or the beginning of a batch that lacks its end; never acknowledged, about so
    /// many bytes long.
    Torn {
        /// Bytes from the tail to the end of what was being written, as far as it can be told.
        bytes: u64,
    },
}

/// Where the log ends.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The last segment of the chain.
    pub segment: Header,
    /// Where its next frame goes.
    pub position: u64,
    /// The number of the next frame.
    pub next_frame: u64,
    /// What lies at that position.
    pub tail: TailState,
    /// Every segment file in the directory, by number: those of the chain, spares, and leftovers.
    pub files: Vec<u64>,
    /// Frames read from the floor on.
    pub frames: u64,
}

/// Replays the log of `owner` in `dir` from frame `floor_frame` in segment `floor_segment`, handing each batch to
/// `apply` in order, with the number of the frame in which it begins.
///
/// # Errors
/// `Corruption` or `Incompatible` naming file and offset; `Io`; whatever `apply` returns.
pub async fn recover<I: Io>(
    io: &I,
    dir: &Path,
    owner: Owner,
    floor_segment: u64,
    floor_frame: u64,
    mut apply: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<Recovered> {
    let files = list_segments(io, dir).await?;
    let mut replay = Replay {
        floor_frame,
        assembled: None,
        begun_in: 0,
        expected: None,
        frames: 0,
    };
    let mut number = floor_segment;
    let mut salt = None;
    loop {
        let segment = Reader::open(io, dir, owner, number, &files, salt).await?;
        match replay.segment(&segment, &mut apply).await? {
            Ended::Sealed(seal) => {
                if seal.next_segment <= number {
                    return Err(segment.damage(FIRST_FRAME, "its seal leads backwards"));
                }
                number = seal.next_segment;
                salt = Some(seal.next_salt);
            }
            Ended::Tail { position, why } => {
                let next_frame = replay.expected.unwrap_or(floor_frame.max(1));
                refuse_damage(io, dir, &segment, (position, &why), &replay, &files).await?;
                let tail = match why {
                    // Whatever follows would stand within the batch that was begun: it has to be sealed off.
                    _ if replay.assembled.is_some() => TailState::Torn {
                        bytes: segment.claimed_bytes(position).await?,
                    },
                    FrameError::Empty => TailState::Untouched,
                    FrameError::Misplaced {
                        salt, position: at, ..
                    } if salt != segment.header.salt && at == position => TailState::Untouched,
                    _ => TailState::Torn {
                        bytes: segment.claimed_bytes(position).await?,
                    },
                };
                return Ok(Recovered {
                    segment: segment.header,
                    position,
                    next_frame,
                    tail,
                    files: files.keys().copied().collect(),
                    frames: replay.frames,
                });
            }
        }
    }
}

/// Every segment file in `dir`: number to length.
async fn list_segments<I: Io>(io: &I, dir: &Path) -> Result<BTreeMap<u64, u64>> {
    let entries = io
        .list_dir(dir)
        .await
        .map_err(|e| Error::io("listing WAL segments", dir, None, &e))?;
    let numbered = |name: &str| parse_numbered_name(name, "wal");
    Ok(entries
        .iter()
        .filter_map(|entry| Some((numbered(&entry.name)?, entry.bytes)))
        .collect())
}

enum Ended {
    Sealed(Seal),
    Tail { position: u64, why: FrameError },
}

struct Replay {
    floor_frame: u64,
    /// The parts so far of a batch too large for a frame.
    assembled: Option<Vec<u8>>,
    /// The frame that batch began with: replay must start there to find the whole of it again.
    begun_in: u64,
    /// The number the next frame must have; unknown before the first.
    expected: Option<u64>,
    frames: u64,
}

impl Replay {
    async fn segment<I: Io>(
        &mut self,
        segment: &Reader<I>,
        apply: &mut impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<Ended> {
        let mut window = segment.window(FIRST_FRAME).await?;
        let mut position = FIRST_FRAME;
        while position < segment.header.bytes {
            if !window.holds_frame(position, segment.header.bytes) {
                window = segment.window(position).await?;
            }
            let frame = match frame::parse(window.from(position), segment.identity(), position) {
                Ok(frame) => frame,
                Err(why) => return Ok(Ended::Tail { position, why }),
            };
            self.check_number(segment, position, &frame)?;
            if let Some(seal) = self.take(segment, position, &frame, apply)? {
                return Ok(Ended::Sealed(seal));
            }
            position += frame::framed_bytes(frame.payload.len()) as u64;
        }
        // The writer always leaves room for a seal, so this is reached only where pages at the end are gone.
        Ok(Ended::Tail {
            position,
            why: FrameError::Empty,
        })
    }

    fn check_number<I: Io>(&mut self, segment: &Reader<I>, position: u64, frame: &Frame<'_>) -> Result<()> {
        let in_order = match self.expected {
            Some(expected) => frame.number == expected,
            None => frame.number <= self.floor_frame.max(1),
        };
        if !in_order || frame.durable >= frame.number {
            let expected = self.expected.unwrap_or(self.floor_frame);
            let cause = format!("frame {} stands where frame {expected} should", frame.number);
            return Err(segment.damage(position, cause));
        }
        self.expected = Some(frame.number + 1);
        self.frames += 1;
        Ok(())
    }

    /// Applies one frame; a seal is returned.
    fn take<I: Io>(
        &mut self,
        segment: &Reader<I>,
        position: u64,
        frame: &Frame<'_>,
        apply: &mut impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<Option<Seal>> {
        let damage = |cause: &str| segment.damage(position, cause);
        let needed = frame.number >= self.floor_frame;
        let is_part = matches!(frame.kind, FrameKind::Middle | FrameKind::Last);
        if needed && self.assembled.is_some() && !is_part && frame.kind != FrameKind::Seal {
            return Err(damage("a batch in several frames is cut off by another"));
        }
        match frame.kind {
            FrameKind::Group if needed => {
                for batch in batches(frame.payload) {
                    apply(
                        frame.number,
                        batch.ok_or_else(|| damage("the group's batches do not fit it"))?,
                    )?;
                }
            }
            FrameKind::First if needed => {
                self.assembled = Some(frame.payload.to_vec());
                self.begun_in = frame.number;
            }
            FrameKind::Middle | FrameKind::Last if needed => {
                let parts = self
                    .assembled
                    .as_mut()
                    .ok_or_else(|| damage("a batch lacks its first part"))?;
                if parts.len() + frame.payload.len() > MAX_BATCH_BYTES + PAGE_BYTES {
                    return Err(damage(
                        "a batch in several frames is larger than any batch may be",
                    ));
                }
                parts.extend_from_slice(frame.payload);
                if frame.kind == FrameKind::Last {
                    let whole = self.assembled.take().unwrap_or_default();
                    apply(self.begun_in, &whole)?;
                }
            }
            FrameKind::Seal => {
                let seal = Seal::decode(frame.payload).ok_or_else(|| damage("its seal cannot be read"))?;
                if !seal.continues {
                    self.assembled = None;
                }
                return Ok(Some(seal));
            }
            FrameKind::Edit => return Err(damage("a version edit stands in a WAL")),
            FrameKind::Group | FrameKind::First | FrameKind::Middle | FrameKind::Last | FrameKind::Mark => {}
        }
        Ok(None)
    }
}

/// Decides whether what stands where the log seems to end was acknowledged once, or is from a newer version.
async fn refuse_damage<I: Io>(
    io: &I,
    dir: &Path,
    segment: &Reader<I>,
    (position, why): (u64, &FrameError),
    replay: &Replay,
    files: &BTreeMap<u64, u64>,
) -> Result<()> {
    if let FrameError::Unknown(_) = why {
        // Its checksum holds, so it was written whole: no torn tail, but something to keep.
        let doing = "replaying the WAL";
        return Err(Error::located(
            ErrorKind::Incompatible,
            doing,
            &segment.path,
            Some(position),
            why.to_string(),
        ));
    }
    if let FrameError::Misplaced { salt, .. } = why
        && *salt == segment.header.salt
    {
        // It was written whole, in this life of the file, for another place: swapped or misdirected, and never torn.
        return Err(segment.damage(position, why.to_string()));
    }
    let next_frame = replay.expected.unwrap_or(replay.floor_frame.max(1));
    if next_frame < replay.floor_frame {
        let cause = format!(
            "{why}; the manifest shows that every frame before {} was durable",
            replay.floor_frame
        );
        return Err(segment.damage(position, cause));
    }
    // The first frame's number is not known before it is read. One frame is written at a time, so any whole frame behind
    // it shows that it was durable.
    let doubted = replay.expected.unwrap_or(1);
    match find_later_witness(io, dir, segment, position, doubted, files).await? {
        None => Ok(()),
        Some(witness) => {
            let cause = format!("{why}; {witness} shows that frame {next_frame} was acknowledged");
            Err(segment.damage(position, cause))
        }
    }
}

/// Looks behind a bad frame for a whole frame of this log that says it was durable; names it.
async fn find_later_witness<I: Io>(
    io: &I,
    dir: &Path,
    segment: &Reader<I>,
    bad_position: u64,
    bad_frame: u64,
    files: &BTreeMap<u64, u64>,
) -> Result<Option<String>> {
    let behind = bad_position + PAGE_BYTES as u64;
    if let Some(position) = segment.find_witness(behind, bad_frame).await? {
        return Ok(Some(format!("the frame at offset {position}")));
    }
    for (&number, _) in files.range(segment.header.number + 1..) {
        // A file whose header does not hold was never part of the log: nothing is written into a segment before its
        // header is durable.
        let Some(later) = Reader::open_if_valid(io, dir, segment.header.owner, number, files).await? else {
            continue;
        };
        if let Some(position) = later.find_witness(FIRST_FRAME, bad_frame).await? {
            return Ok(Some(format!(
                "the frame at offset {position} of {}",
                segment_file_name(number)
            )));
        }
    }
    Ok(None)
}

/// A stretch of a segment in memory.
struct Window<B> {
    start: u64,
    bytes: B,
}

impl<B: std::ops::Deref<Target = [u8]>> Window<B> {
    fn from(&self, position: u64) -> &[u8] {
        let skip = position
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or(&[])
    }

    /// Whether the frame at `position` lies wholly in this window, or the window reaches the end of the file anyway.
    fn holds_frame(&self, position: u64, file_bytes: u64) -> bool {
        let bytes = self.from(position);
        if self.start + self.bytes.len() as u64 >= file_bytes && position >= self.start {
            return true;
        }
        !bytes.is_empty() && frame::claimed_bytes(bytes).unwrap_or(PAGE_BYTES) <= bytes.len()
    }
}

/// An open segment of the chain.
struct Reader<I: Io> {
    file: I::File,
    path: PathBuf,
    header: Header,
}

impl<I: Io> Reader<I> {
    /// Opens a segment that must be there and, where a seal named it, must have that salt.
    async fn open(
        io: &I,
        dir: &Path,
        owner: Owner,
        number: u64,
        files: &BTreeMap<u64, u64>,
        salt: Option<u64>,
    ) -> Result<Self> {
        let path = dir.join(segment_file_name(number));
        let doing = "opening a WAL segment";
        let Some(&bytes) = files.get(&number) else {
            return Err(Error::corruption(
                doing,
                &path,
                None,
                "the log needs this segment and it is missing",
            ));
        };
        let (file, header) = Self::read_header(io, &path, owner, number, bytes).await?;
        let header = header.map_err(|error| match error {
            HeaderError::Damaged(why) => Error::corruption(doing, &path, Some(0), why),
            HeaderError::Newer(why) => Error::located(ErrorKind::Incompatible, doing, &path, Some(0), why),
        })?;
        if let Some(salt) = salt.filter(|&salt| salt != header.salt) {
            let cause = format!(
                "its salt is {:#x}, the seal before it says {salt:#x}",
                header.salt
            );
            return Err(Error::corruption(doing, &path, Some(0), cause));
        }
        Ok(Self { file, path, header })
    }

    async fn open_if_valid(
        io: &I,
        dir: &Path,
        owner: Owner,
        number: u64,
        files: &BTreeMap<u64, u64>,
    ) -> Result<Option<Self>> {
        let path = dir.join(segment_file_name(number));
        let bytes = files.get(&number).copied().unwrap_or(0);
        let (file, header) = Self::read_header(io, &path, owner, number, bytes).await?;
        Ok(header.ok().map(|header| Self { file, path, header }))
    }

    async fn read_header(
        io: &I,
        path: &Path,
        owner: Owner,
        number: u64,
        file_bytes: u64,
    ) -> Result<(I::File, std::result::Result<Header, HeaderError>)> {
        let failed = |e: std::io::Error| Error::io("opening a WAL segment", path, Some(0), &e);
        let file = io.open(path, OpenOptions::READ).await.map_err(failed)?;
        if file_bytes < PAGE_BYTES as u64 {
            let why = format!("the file has {file_bytes} bytes, too few for a header");
            return Ok((file, Err(HeaderError::Damaged(why))));
        }
        let page = file.read_at(0, PAGE_BYTES).await.map_err(failed)?;
        let header = Header::decode(&page, owner, number, file_bytes);
        Ok((file, header))
    }

    fn identity(&self) -> Identity {
        Identity {
            shard: self.header.owner.shard,
            salt: self.header.salt,
        }
    }

    fn damage(&self, position: u64, cause: impl Into<String>) -> Error {
        Error::corruption("replaying the WAL", &self.path, Some(position), cause)
    }

    /// Reads from `position` on: up to [`READ_BYTES`], and exactly what the file's length says is there.
    async fn window(&self, position: u64) -> Result<Window<<I::File as File>::ReadBuf>> {
        let left = self.header.bytes - position;
        let bytes = usize::try_from(left.min(READ_BYTES as u64)).expect("at most READ_BYTES");
        let read = self.file.read_at(position, bytes).await;
        let read = read.map_err(|e| Error::io("reading the WAL", &self.path, Some(position), &e))?;
        if read.len() != bytes {
            let cause = format!("only {} of {bytes} bytes could be read", read.len());
            return Err(Error::located(
                ErrorKind::Io,
                "reading the WAL",
                &self.path,
                Some(position),
                cause,
            ));
        }
        Ok(Window {
            start: position,
            bytes: read,
        })
    }

    /// The first whole frame from `position` on that says that `frame` was durable.
    async fn find_witness(&self, mut position: u64, frame: u64) -> Result<Option<u64>> {
        if position >= self.header.bytes {
            return Ok(None);
        }
        let mut window = self.window(position).await?;
        while position < self.header.bytes {
            if !window.holds_frame(position, self.header.bytes) {
                window = self.window(position).await?;
            }
            if let Ok(found) = frame::parse(window.from(position), self.identity(), position)
                && found.durable >= frame
            {
                return Ok(Some(position));
            }
            position += PAGE_BYTES as u64;
        }
        Ok(None)
    }

    /// How long the bad frame at `position` claims to be; a page where it claims nothing.
    async fn claimed_bytes(&self, position: u64) -> Result<u64> {
        if position >= self.header.bytes {
            return Ok(0);
        }
        let window = self.window(position).await?;
        Ok(frame::claimed_bytes(window.from(position)).unwrap_or(PAGE_BYTES) as u64)
    }
}
