//! The frame of an SSTable, version 1: the block header, the footer, and the checksums that tie both to their place.
//!
//! Everything is little-endian. Every block starts and ends on a page; zeros fill its last page.
//!
//! ```text
//! block header, 24 bytes                          footer, 128 bytes at the start of the file's last page
//! offset size                                     offset size
//!      0    8  checksum, xxh3-64                       0    8  magic "CORELsst"
//!      8    1  type: 1 data, 2 filter, 3 index,        8    4  format version
//!              4 top index, 5 properties              12    2  shard
//!      9    1  compression: 0 none, 1 LZ4,            14    2  zero
//!              2 reserved for zstd                    16    8  feature bits, unknown ones are refused
//!     10    2  zero                                   24    8  database
//!     12    4  stored bytes, after this header        32    8  table number
//!     16    4  raw bytes, once decompressed           40    8  file bytes
//!     20    4  count: restart points, or the          48    4  data pages: blocks fill pages 0 .. here
//!              64-byte lines of a filter, or 0        52    4  partitions
//!     24       payload, then zeros to the page        56    8  top index: page u32, pages u32
//!                                                     64    8  properties: page u32, pages u32
//!                                                     72   48  zero
//!                                                    120    8  checksum, xxh3-64 over bytes 0..120
//! ```
//!
//! A block's checksum covers bytes 8.. to the end of its payload and is seeded by database, shard, table number and
//! the block's offset (R15), so a block of another table, an older file or another place fails it. The padding is not
//! covered. The footer names its table in the clear, so that a file under the wrong name is called that and not just
//! damaged. Magic, version, feature bits and checksum of the footer stay where they are in every version to come.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::types::PAGE_BYTES;

/// The format version that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Length of a block header in bytes.
pub const BLOCK_HEADER_BYTES: usize = 24;

/// Length of the footer in bytes.
pub const FOOTER_BYTES: usize = 128;

/// The most raw bytes that a compressed block may hold. It bounds what a reader allocates before it has decompressed
/// anything (R17), and how long a compressor holds the core: about a quarter of a millisecond.
pub const MAX_COMPRESSED_RAW_BYTES: usize = 128 * 1024;

const MAGIC: [u8; 8] = *b"CORELsst";
/// Feature bit 0: some entry is a put with an expiry. A reader that does not know them would meet one only in the middle of
/// a read; the bit makes it refuse the table as it opens.
const FEATURE_EXPIRY: u64 = 1;

const FEATURES_KNOWN: u64 = FEATURE_EXPIRY;

/// Which table a file is. All of it is inside every checksum of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableIdentity {
    /// The database's own number, drawn at random when it was created.
    pub database: u64,
    /// The shard within the database.
    pub shard: u16,
    /// The table within the shard; never used twice.
    pub number: u64,
}

impl fmt::Display for TableIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "table {} of shard {} of database {:#018x}",
            self.number, self.shard, self.database
        )
    }
}

/// How a block's payload is stored. The numbers are on disk and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    #[default]
    None = 0,
    /// One LZ4 block, without a frame.
    Lz4 = 1,
}

impl Compression {
    /// The compression of this stored byte; `None` for one that this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum BlockType {
    Data = 1,
    Filter = 2,
    Index = 3,
    TopIndex = 4,
    Properties = 5,
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data block",
            Self::Filter => "filter",
            Self::Index => "index",
            Self::TopIndex => "top index",
            Self::Properties => "properties",
        })
    }
}

/// Where a block lies, in pages of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHandle {
    /// The first page.
    pub page: u32,
    /// How many pages, at least one.
    pub pages: u32,
}

impl BlockHandle {
    /// Offset of the block in its file, in bytes.
    pub fn offset(self) -> u64 {
        u64::from(self.page) * PAGE_BYTES as u64
    }

    /// Length on disk in bytes, padding included.
    pub fn bytes(self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

/// The part of a checksum's seed that comes from the table's identity; hashed once per file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal(u64);

impl Seal {
    pub(crate) fn of(identity: TableIdentity) -> Self {
        let mut bytes = [0; 18];
        bytes[..8].copy_from_slice(&identity.database.to_le_bytes());
        bytes[8..10].copy_from_slice(&identity.shard.to_le_bytes());
        bytes[10..].copy_from_slice(&identity.number.to_le_bytes());
        Self(xxh3_64(&bytes))
    }

    /// An odd multiplier maps different offsets to different seeds, so within one table no two places share one.
    fn seed(self, offset: u64) -> u64 {
        self.0 ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawBlockHeader {
    checksum: U64,
    block_type: u8,
    compression: u8,
    zero: U16,
    stored_bytes: U32,
    raw_bytes: U32,
    count: U32,
}

const _: () = assert!(size_of::<RawBlockHeader>() == BLOCK_HEADER_BYTES);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawFooter {
    magic: [u8; 8],
    version: U32,
    shard: U16,
    zero: U16,
    features: U64,
    database: U64,
    number: U64,
    file_bytes: U64,
    data_pages: U32,
    partitions: U32,
    top_page: U32,
    top_pages: U32,
    properties_page: U32,
    properties_pages: U32,
    reserved: [u8; 48],
    checksum: U64,
}

const _: () = assert!(size_of::<RawFooter>() == FOOTER_BYTES);

/// Why bytes are not the block or footer that should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatError {
    /// The block's own length runs past the bytes there are, or leaves whole pages of them over.
    Length { stored_bytes: u32, there_bytes: usize },
    /// Damaged, or written for another table, place or time.
    Checksum { expected: u64, found: u64 },
    /// A whole block of this table and place, but not what the reader came for.
    Type { expected: BlockType, found: u8 },
    /// A compression that this version does not know.
    Compression(u8),
    /// The checksum holds, yet the content breaks a rule of the format.
    Malformed(&'static str),
    /// No footer of a table lies here.
    Magic([u8; 8]),
    /// Written by a newer version.
    Version(u32),
    /// Written with features that this version does not know.
    Features(u64),
    /// A whole footer, but of another table.
    Identity(TableIdentity),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length {
                stored_bytes,
                there_bytes,
            } => {
                write!(
                    f,
                    "the block says that it stores {stored_bytes} bytes, in {there_bytes} bytes on disk"
                )
            }
            Self::Checksum { expected, found } => {
                write!(f, "the checksum is {found:#018x}, expected {expected:#018x}")
            }
            Self::Type { expected, found } => {
                write!(
                    f,
                    "the block is of type {found}, expected {} ({expected})",
                    *expected as u8
                )
            }
            Self::Compression(n) => write!(f, "compression {n} is not known to this version"),
            Self::Malformed(what) => f.write_str(what),
            Self::Magic(found) => {
                write!(
                    f,
                    "no table ends here: the magic is {found:02x?}, expected {MAGIC:02x?}"
                )
            }
            Self::Version(n) => {
                write!(
                    f,
                    "the table has format version {n}; this version reads up to {FORMAT_VERSION}"
                )
            }
            Self::Features(bits) => write!(
                f,
                "the table uses features {bits:#x} that this version does not know"
            ),
            Self::Identity(found) => write!(f, "the file is {found}"),
        }
    }
}

/// Bytes on disk of a block with this many stored bytes: header, payload and padding.
pub(crate) fn padded_bytes(stored_bytes: usize) -> usize {
    (BLOCK_HEADER_BYTES + stored_bytes).next_multiple_of(PAGE_BYTES)
}

/// Pages on disk of a block with this many stored bytes.
pub(crate) fn padded_pages(stored_bytes: usize) -> usize {
    padded_bytes(stored_bytes) / PAGE_BYTES
}

/// A block about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockParts<'a> {
    pub(crate) block_type: BlockType,
    pub(crate) compression: Compression,
    pub(crate) stored: &'a [u8],
    pub(crate) raw_bytes: usize,
    pub(crate) count: u32,
}

/// Appends header, payload and padding to `out`, for the block that will lie at `offset`.
///
/// # Panics
/// If the offset is not a page's, or a block would be stored larger than raw.
pub(crate) fn seal_block(out: &mut Vec<u8>, seal: Seal, offset: u64, parts: BlockParts<'_>) {
    assert_eq!(offset % PAGE_BYTES as u64, 0, "blocks start on pages");
    assert!(
        parts.stored.len() <= parts.raw_bytes,
        "no block is stored larger than raw"
    );
    let mut header = RawBlockHeader {
        checksum: U64::new(0),
        block_type: parts.block_type as u8,
        compression: parts.compression as u8,
        zero: U16::new(0),
        stored_bytes: U32::new(u32::try_from(parts.stored.len()).expect("a block is far below 4 GiB")),
        raw_bytes: U32::new(u32::try_from(parts.raw_bytes).expect("a block is far below 4 GiB")),
        count: U32::new(parts.count),
    };
    let start = out.len();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(parts.stored);
    header.checksum = U64::new(xxh3_64_with_seed(&out[start + 8..], seal.seed(offset)));
    out[start..start + 8].copy_from_slice(header.checksum.as_bytes());
    out.resize(start + padded_bytes(parts.stored.len()), 0);
}

/// A block whose checksum held, its payload borrowed as stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsealed<'a> {
    pub(crate) compression: Compression,
    pub(crate) stored: &'a [u8],
    pub(crate) raw_bytes: usize,
    pub(crate) count: u32,
}

/// The bytes on disk that the block starting `bytes` says it takes. Says nothing about whether it is valid: the
/// caller checks the length against the file, reads so much, and then unseals.
pub(crate) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, _) = RawBlockHeader::ref_from_prefix(bytes).ok()?;
    Some(padded_bytes(header.stored_bytes.get() as usize))
}

/// Checks the block that fills `bytes` exactly and lies at `offset`.
pub(crate) fn unseal_block(
    bytes: &[u8],
    seal: Seal,
    offset: u64,
    expected_type: BlockType,
) -> Result<Unsealed<'_>, FormatError> {
    let Ok((header, rest)) = RawBlockHeader::ref_from_prefix(bytes) else {
        return Err(FormatError::Length {
            stored_bytes: 0,
            there_bytes: bytes.len(),
        });
    };
    let stored_bytes = header.stored_bytes.get();
    let Some(stored) = rest
        .get(..stored_bytes as usize)
        .filter(|s| padded_bytes(s.len()) == bytes.len())
    else {
        return Err(FormatError::Length {
            stored_bytes,
            there_bytes: bytes.len(),
        });
    };
    let expected = header.checksum.get();
    let found = xxh3_64_with_seed(&bytes[8..BLOCK_HEADER_BYTES + stored.len()], seal.seed(offset));
    if expected != found {
        return Err(FormatError::Checksum { expected, found });
    }
    if header.block_type != expected_type as u8 {
        return Err(FormatError::Type {
            expected: expected_type,
            found: header.block_type,
        });
    }
    let compression =
        Compression::from_byte(header.compression).ok_or(FormatError::Compression(header.compression))?;
    if header.zero.get() != 0 {
        return Err(FormatError::Malformed(
            "a reserved field of the block header is not zero",
        ));
    }
    let raw_bytes = header.raw_bytes.get() as usize;
    let possible = match compression {
        Compression::None => raw_bytes == stored.len(),
        Compression::Lz4 => raw_bytes >= stored.len() && raw_bytes <= MAX_COMPRESSED_RAW_BYTES,
    };
    if !possible {
        return Err(FormatError::Malformed("the block's raw length is impossible"));
    }
    Ok(Unsealed {
        compression,
        stored,
        raw_bytes,
        count: header.count.get(),
    })
}

impl Unsealed<'_> {
    /// Replaces the content of `out` by the raw payload; keeps its allocation where it suffices.
    pub(crate) fn unpack_into(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        match self.compression {
            Compression::None => {
                out.clear();
                out.extend_from_slice(self.stored);
            }
            Compression::Lz4 => {
                // Whatever `out` held is overwritten, so only growth needs zeroing.
                out.resize(self.raw_bytes, 0);
                let unpacked = lz4_flex::block::decompress_into(self.stored, out)
                    .map_err(|_| FormatError::Malformed("the block's LZ4 data cannot be decompressed"))?;
                if unpacked != self.raw_bytes {
                    return Err(FormatError::Malformed(
                        "the block decompresses to another length than it says",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What the last page says of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) identity: TableIdentity,
    pub(crate) file_bytes: u64,
    pub(crate) data_pages: u32,
    pub(crate) partitions: u32,
    pub(crate) top: BlockHandle,
    pub(crate) properties: BlockHandle,
    /// Whether some entry may end ([`FEATURE_EXPIRY`]).
    pub(crate) expiring: bool,
}

/// The last page of the file.
pub(crate) fn encode_footer(footer: &Footer) -> [u8; PAGE_BYTES] {
    let mut raw = RawFooter {
        magic: MAGIC,
        version: U32::new(FORMAT_VERSION),
        shard: U16::new(footer.identity.shard),
        zero: U16::new(0),
        features: U64::new(if footer.expiring { FEATURE_EXPIRY } else { 0 }),
        database: U64::new(footer.identity.database),
        number: U64::new(footer.identity.number),
        file_bytes: U64::new(footer.file_bytes),
        data_pages: U32::new(footer.data_pages),
        partitions: U32::new(footer.partitions),
        top_page: U32::new(footer.top.page),
        top_pages: U32::new(footer.top.pages),
        properties_page: U32::new(footer.properties.page),
        properties_pages: U32::new(footer.properties.pages),
        reserved: [0; 48],
        checksum: U64::new(0),
    };
    raw.checksum = U64::new(xxh3_64(&raw.as_bytes()[..FOOTER_BYTES - 8]));
    let mut page = [0; PAGE_BYTES];
    page[..FOOTER_BYTES].copy_from_slice(raw.as_bytes());
    page
}

/// Reads the footer from the last page of a file of `file_bytes`, which should be the table `identity`.
///
/// Checked in this order: magic, checksum, version, features, identity, and then that the parts fill the file without
/// a gap, which leaves no length in it to be believed unchecked (R17).
pub(crate) fn decode_footer(
    page: &[u8],
    identity: TableIdentity,
    file_bytes: u64,
) -> Result<Footer, FormatError> {
    let Ok((raw, _)) = RawFooter::ref_from_prefix(page) else {
        return Err(FormatError::Length {
            stored_bytes: 0,
            there_bytes: page.len(),
        });
    };
    if raw.magic != MAGIC {
        return Err(FormatError::Magic(raw.magic));
    }
    let expected = raw.checksum.get();
    let found = xxh3_64(&raw.as_bytes()[..FOOTER_BYTES - 8]);
    if expected != found {
        return Err(FormatError::Checksum { expected, found });
    }
    if raw.version.get() != FORMAT_VERSION {
        return Err(FormatError::Version(raw.version.get()));
    }
    if raw.features.get() & !FEATURES_KNOWN != 0 {
        return Err(FormatError::Features(raw.features.get() & !FEATURES_KNOWN));
    }
    let footer = Footer {
        identity: TableIdentity {
            database: raw.database.get(),
            shard: raw.shard.get(),
            number: raw.number.get(),
        },
        file_bytes: raw.file_bytes.get(),
        data_pages: raw.data_pages.get(),
        partitions: raw.partitions.get(),
        top: BlockHandle {
            page: raw.top_page.get(),
            pages: raw.top_pages.get(),
        },
        properties: BlockHandle {
            page: raw.properties_page.get(),
            pages: raw.properties_pages.get(),
        },
        expiring: raw.features.get() & FEATURE_EXPIRY != 0,
    };
    if footer.identity != identity {
        return Err(FormatError::Identity(footer.identity));
    }
    if footer.file_bytes != file_bytes {
        return Err(FormatError::Malformed(
            "the footer gives the file another length than it has",
        ));
    }
    if !footer.parts_are_adjacent() {
        return Err(FormatError::Malformed("the footer's parts do not fill the file"));
    }
    Ok(footer)
}

impl Footer {
    fn parts_are_adjacent(&self) -> bool {
        let end_page = self.file_bytes / PAGE_BYTES as u64;
        let after = |handle: BlockHandle| u64::from(handle.page) + u64::from(handle.pages);
        self.data_pages > 0
            && self.partitions > 0
            && self.top.pages > 0
            && self.properties.pages > 0
            && self.top.page > self.data_pages
            && after(self.top) == u64::from(self.properties.page)
            && after(self.properties) + 1 == end_page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: TableIdentity = TableIdentity {
        database: 11,
        shard: 2,
        number: 7,
    };

    fn sealed(offset: u64, stored: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let parts = BlockParts {
            block_type: BlockType::Data,
            compression: Compression::None,
            stored,
            raw_bytes: stored.len(),
            count: 1,
        };
        seal_block(&mut out, Seal::of(IDENTITY), offset, parts);
        out
    }

    #[test]
    fn r15_a_block_is_valid_only_in_its_own_table_and_place() {
        let bytes = sealed(8192, b"payload");
        let unsealed = unseal_block(&bytes, Seal::of(IDENTITY), 8192, BlockType::Data).unwrap();
        assert_eq!(unsealed.stored, b"payload");
        let strangers = [
            TableIdentity {
                database: 12,
                ..IDENTITY
            },
            TableIdentity { shard: 3, ..IDENTITY },
            TableIdentity {
                number: 8,
                ..IDENTITY
            },
        ];
        for other in strangers {
            let result = unseal_block(&bytes, Seal::of(other), 8192, BlockType::Data);
            assert!(matches!(result, Err(FormatError::Checksum { .. })), "{other:?}");
        }
        let moved = unseal_block(&bytes, Seal::of(IDENTITY), 4096, BlockType::Data);
        assert!(matches!(moved, Err(FormatError::Checksum { .. })));
        let other_type = unseal_block(&bytes, Seal::of(IDENTITY), 8192, BlockType::Index);
        assert!(matches!(other_type, Err(FormatError::Type { .. })));
    }

    #[test]
    fn r17_a_length_beyond_the_bytes_is_refused_before_it_is_used() {
        let bytes = sealed(0, &[1; 5000]);
        assert_eq!(claimed_bytes(&bytes), Some(8192));
        for cut in [0, 7, 24, 4096, 8191] {
            let result = unseal_block(&bytes[..cut], Seal::of(IDENTITY), 0, BlockType::Data);
            assert!(matches!(result, Err(FormatError::Length { .. })), "cut at {cut}");
        }
    }

    fn footer() -> Footer {
        Footer {
            identity: IDENTITY,
            file_bytes: 6 * PAGE_BYTES as u64,
            data_pages: 1,
            partitions: 1,
            top: BlockHandle { page: 3, pages: 1 },
            properties: BlockHandle { page: 4, pages: 1 },
            expiring: false,
        }
    }

    #[test]
    fn r13_a_table_with_values_that_end_says_so_in_its_feature_bits() {
        let expiring = Footer {
            expiring: true,
            ..footer()
        };
        let page = encode_footer(&expiring);
        assert_eq!(decode_footer(&page, IDENTITY, footer().file_bytes), Ok(expiring));
        let bits = |footer: &Footer| {
            let page = encode_footer(footer);
            RawFooter::ref_from_prefix(&page).unwrap().0.features.get()
        };
        assert_eq!((bits(&footer()), bits(&expiring)), (0, 1));
    }

    #[test]
    fn a_footer_reads_back_and_names_a_stranger() {
        let page = encode_footer(&footer());
        assert_eq!(decode_footer(&page, IDENTITY, footer().file_bytes), Ok(footer()));
        let other = TableIdentity {
            number: 8,
            ..IDENTITY
        };
        assert_eq!(
            decode_footer(&page, other, footer().file_bytes),
            Err(FormatError::Identity(IDENTITY))
        );
    }

    #[test]
    fn r13_newer_versions_and_unknown_features_are_refused_by_name() {
        let resealed = |change: fn(&mut RawFooter)| {
            let mut page = encode_footer(&footer());
            let (raw, _) = RawFooter::mut_from_prefix(&mut page).unwrap();
            change(raw);
            raw.checksum = U64::new(xxh3_64(&raw.as_bytes()[..FOOTER_BYTES - 8]));
            decode_footer(&page, IDENTITY, footer().file_bytes).unwrap_err()
        };
        assert_eq!(resealed(|raw| raw.version = U32::new(2)), FormatError::Version(2));
        assert_eq!(
            resealed(|raw| raw.features = U64::new(4)),
            FormatError::Features(4)
        );
        assert_eq!(resealed(|raw| raw.magic = [0; 8]), FormatError::Magic([0; 8]));
    }

    #[test]
    fn r17_a_footer_whose_parts_do_not_fill_the_file_is_refused() {
        let bad = [
            Footer {
                data_pages: 0,
                ..footer()
            },
            Footer {
                data_pages: 3,
                ..footer()
            },
            Footer {
                top: BlockHandle { page: 3, pages: 0 },
                ..footer()
            },
            Footer {
                properties: BlockHandle {
                    page: 4,
                    pages: u32::MAX,
                },
                ..footer()
            },
            Footer {
                file_bytes: 7 * PAGE_BYTES as u64,
                ..footer()
            },
        ];
        for footer in bad {
            let page = encode_footer(&footer);
            let result = decode_footer(&page, IDENTITY, footer.file_bytes);
            assert!(matches!(result, Err(FormatError::Malformed(_))), "{footer:?}");
        }
    }
}
