//! The frame: the one unit in which the WAL and the manifest are written, checked and replayed.
//!
//! A frame is one aligned device write. It starts on a page, and zeros fill it up to the next page, so that no
//! acknowledged page is ever written again (rule R5).
//!
//! ```text
//! offset size
//!      0    4  magic "CLf1"
//!      4    4  CRC-32 (IEEE) over bytes 8.. up to the end of the payload
//!      8    1  kind
//!      9    1  flags, 0
//!     10    2  shard
//!     12    4  payload bytes
//!     16    8  salt: identity of this incarnation of the file
//!     24    8  position: byte offset of this frame in its file
//!     32    8  number: 1, 2, 3, ... through the life of the log
//!     40    8  durable: every frame numbered so or lower was on stable storage when this one was sealed
//!     48   16  reserved, 0
//!     64    n  payload
//!              zeros up to the next multiple of 4096
//! ```
//!
//! All integers are little-endian. Everything that says *which* frame this is lies inside its checksum, so old bytes
//! of a recycled segment (other salt), a misdirected write (other position, shard or salt) and a torn tail (bad
//! checksum) are each told apart (rule R6). All zeros is not a frame. `durable` is what tells a torn tail from damage
//! (rule R7): a bad frame at or below a later frame's `durable` was acknowledged once, so it is damage.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::types::PAGE_BYTES;

/// "CLf1" in file order.
const MAGIC: [u8; 4] = *b"CLf1";

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 64;

/// The largest payload of one frame in bytes; a larger batch is split over several. With its header and padding the
/// largest frame is a whole MiB, the most one device write carries.
pub const MAX_PAYLOAD_BYTES: usize = (1 << 20) - HEADER_BYTES;

/// What a frame is for. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A group: whole batches, each preceded by its length as a varint.
    Group = 1,
    /// The first part of one batch that is too large for a frame.
    First = 2,
    /// A middle part of such a batch.
    Middle = 3,
    /// Its last part; the batch exists only if this frame does.
    Last = 4,
    /// The end of a segment: says which segment and salt come next.
    Seal = 5,
    /// Nothing but a durable mark: written on a clean close, so that even the last group can be told from a torn tail.
    Mark = 6,
    /// A version edit, in a manifest.
    Edit = 16,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Group,
            2 => Self::First,
            3 => Self::Middle,
            4 => Self::Last,
            5 => Self::Seal,
            6 => Self::Mark,
            16 => Self::Edit,
            _ => return None,
        })
    }
}

/// Which file a frame belongs to: both parts are inside its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The shard whose log this is.
    pub shard: u16,
    /// The salt in the file's header.
    pub salt: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    crc: U32,
    kind: u8,
    flags: u8,
    shard: U16,
    payload_bytes: U32,
    salt: U64,
    position: U64,
    number: U64,
    durable: U64,
    reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// A frame read and checked, its payload borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub kind: FrameKind,
    /// Its number in the log.
    pub number: u64,
    /// Every frame numbered so or lower was durable when this one was sealed.
    pub durable: u64,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why bytes are not a valid frame of this file at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first page is all zeros, or there are no bytes: the log was never written here.
    Empty,
    /// No frame starts here.
    BadMagic,
    /// The payload length runs past the bytes there are, or past the limit.
    BadLength(u32),
    /// The checksum does not match: torn or damaged.
    BadChecksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A whole frame, but of another file, incarnation or position.
    Misplaced {
        /// The shard in the frame.
        shard: u16,
        /// The salt in the frame.
        salt: u64,
        /// The position in the frame.
        position: u64,
    },
    /// A whole frame of a kind or with flags that this version does not know.
    Unknown(u8),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "no frame was ever written here"),
            Self::BadMagic => write!(f, "no frame starts here"),
            Self::BadLength(n) => write!(f, "the frame's length {n} is impossible"),
            Self::BadChecksum { expected, found } => {
                write!(
                    f,
                    "the frame's checksum is {found:#010x}, expected {expected:#010x}"
                )
            }
            Self::Misplaced {
                shard,
                salt,
                position,
            } => {
                write!(
                    f,
                    "the frame belongs elsewhere (shard {shard}, salt {salt:#x}, offset {position})"
                )
            }
            Self::Unknown(kind) => write!(f, "frame kind or flag {kind} is from a newer version"),
        }
    }
}

/// Bytes on disk of a frame with this payload: header, payload and padding.
pub fn framed_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(PAGE_BYTES)
}

/// Writes header and payload into `out`, which must be [`framed_bytes`] long, and zeros the rest.
///
/// # Panics
/// If `out` has another length, the payload is over [`MAX_PAYLOAD_BYTES`], or `position` is not a page's.
pub fn encode(out: &mut [u8], identity: Identity, position: u64, frame: Frame<'_>) {
    assert!(
        frame.payload.len() <= MAX_PAYLOAD_BYTES,
        "a frame's payload is bounded"
    );
    assert_eq!(
        out.len(),
        framed_bytes(frame.payload.len()),
        "the buffer is exactly the frame"
    );
    assert_eq!(position % PAGE_BYTES as u64, 0, "frames start on pages");
    assert!(
        frame.durable < frame.number,
        "a frame cannot say that itself is durable"
    );
    let mut header = RawHeader {
        magic: MAGIC,
        crc: U32::new(0),
        kind: frame.kind as u8,
        flags: 0,
        shard: U16::new(identity.shard),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounded above by MAX_PAYLOAD_BYTES"
        )]
        payload_bytes: U32::new(frame.payload.len() as u32),
        salt: U64::new(identity.salt),
        position: U64::new(position),
        number: U64::new(frame.number),
        durable: U64::new(frame.durable),
        reserved: [0; 16],
    };
    header.crc = U32::new(checksum(&header, frame.payload));
    let end = HEADER_BYTES + frame.payload.len();
    out[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    out[HEADER_BYTES..end].copy_from_slice(frame.payload);
    out[end..].fill(0);
}

fn checksum(header: &RawHeader, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header.as_bytes()[8..]);
    hasher.update(payload);
    hasher.finalize()
}

/// Bytes on disk that the frame whose header starts `page` would take, if it is one; for readers that load a frame in
/// two steps. Says nothing about whether the frame is valid.
pub fn claimed_bytes(page: &[u8]) -> Option<usize> {
    let (header, _) = RawHeader::read_from_prefix(page).ok()?;
    let payload = header.payload_bytes.get() as usize;
    (header.magic == MAGIC && payload <= MAX_PAYLOAD_BYTES).then(|| framed_bytes(payload))
}

/// Reads the frame that starts at `bytes[0]`, which lies at `position` of the file with `identity`.
///
/// `bytes` may run on past the frame. Returns the frame; its bytes on disk are `framed_bytes(payload.len())`.
///
/// # Errors
/// See [`FrameError`].
pub fn parse(bytes: &[u8], identity: Identity, position: u64) -> Result<Frame<'_>, FrameError> {
    let Ok((header, _)) = RawHeader::ref_from_prefix(bytes) else {
        return Err(FrameError::Empty);
    };
    if header.magic != MAGIC {
        let page = &bytes[..bytes.len().min(PAGE_BYTES)];
        let empty = page.iter().all(|&b| b == 0);
        return Err(if empty {
            FrameError::Empty
        } else {
            FrameError::BadMagic
        });
    }
    let payload_bytes = header.payload_bytes.get() as usize;
    let Some(payload) = bytes[HEADER_BYTES..]
        .get(..payload_bytes)
        .filter(|p| p.len() <= MAX_PAYLOAD_BYTES)
    else {
        return Err(FrameError::BadLength(header.payload_bytes.get()));
    };
    let expected = header.crc.get();
    let found = checksum(header, payload);
    if expected != found {
        return Err(FrameError::BadChecksum { expected, found });
    }
    let (shard, salt, at) = (header.shard.get(), header.salt.get(), header.position.get());
    if (Identity { shard, salt }) != identity || at != position {
        return Err(FrameError::Misplaced {
            shard,
            salt,
            position: at,
        });
    }
    if header.flags != 0 {
        return Err(FrameError::Unknown(header.flags));
    }
    let kind = FrameKind::from_byte(header.kind).ok_or(FrameError::Unknown(header.kind))?;
    Ok(Frame {
        kind,
        number: header.number.get(),
        durable: header.durable.get(),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        shard: 3,
        salt: 0x1234_5678_9abc_def0,
    };

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; framed_bytes(payload.len())];
        encode(
            &mut out,
            IDENTITY,
            8192,
            Frame {
                kind: FrameKind::Group,
                number: 9,
                durable: 8,
                payload,
            },
        );
        out
    }

    #[test]
    fn a_frame_reads_back_and_is_padded_to_a_page() {
        for len in [0, 1, 4031, 4032, 4033, 100_000] {
            let payload = vec![7; len];
            let bytes = sample(&payload);
            assert_eq!(bytes.len() % PAGE_BYTES, 0);
            assert!(
                bytes[HEADER_BYTES + len..].iter().all(|&byte| byte == 0),
                "nothing of what the buffer held before goes to the disk"
            );
            let frame = parse(&bytes, IDENTITY, 8192).unwrap();
            assert_eq!(
                (frame.kind, frame.number, frame.durable),
                (FrameKind::Group, 9, 8)
            );
            assert_eq!(frame.payload, payload);
            assert_eq!(claimed_bytes(&bytes), Some(bytes.len()));
        }
    }

    #[test]
    fn every_flipped_bit_outside_the_padding_is_caught() {
        let bytes = sample(b"payload");
        for bit in 0..(HEADER_BYTES + 7) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, IDENTITY, 8192).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn r6_zeros_old_salt_wrong_place_and_wrong_shard_are_told_apart() {
        let bytes = sample(b"payload");
        assert_eq!(parse(&[0; PAGE_BYTES], IDENTITY, 0), Err(FrameError::Empty));
        assert_eq!(parse(&[], IDENTITY, 0), Err(FrameError::Empty));
        assert_eq!(parse(&[1; PAGE_BYTES], IDENTITY, 0), Err(FrameError::BadMagic));
        assert!(matches!(
            parse(&bytes, IDENTITY, 4096),
            Err(FrameError::Misplaced { .. })
        ));
        let other = Identity { salt: 1, ..IDENTITY };
        assert!(matches!(
            parse(&bytes, other, 8192),
            Err(FrameError::Misplaced { .. })
        ));
        let other = Identity { shard: 4, ..IDENTITY };
        assert!(matches!(
            parse(&bytes, other, 8192),
            Err(FrameError::Misplaced { .. })
        ));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_it_is_used() {
        let bytes = sample(&[1; 5000]);
        assert!(matches!(
            parse(&bytes[..4096], IDENTITY, 8192),
            Err(FrameError::BadLength(5000))
        ));
    }
}
