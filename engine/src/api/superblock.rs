//! The superblock: what a database is, written once when it is created and read before anything else.
//!
//! ```text
//! file "superblock", one page (4096 bytes), little-endian
//! offset size
//!      0    8  magic "CORELANE"
//!      8    4  format version, 1
//!     12    4  feature bits, 0; an unknown bit refuses to open
//!     16    8  database: random identity, in every file of the database
//!     24    8  created, milliseconds since the Unix epoch
//!     32    2  number of shards
//!     34    2  number of runs in the slot table
//!     36    4  reserved, 0
//!     40    8  xxh3-64 of the whole page with this field 0
//!     48  4*n  slot table: runs of (slots u16, shard u16)
//!              zeros up to 4096
//! ```
//!
//! Creation is: marker file `creating` durable → shard directories with their manifests and first segments durable →
//! superblock written as `superblock.new`, synced, renamed, directory synced → marker removed. So a directory with a
//! superblock is a whole database, one with the marker and no superblock is an interrupted creation that may be begun
//! again, and one with shards but neither is damaged and is refused: nothing is ever created over data.

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::api::slots::SlotTable;
use crate::types::PAGE_BYTES;

/// The file's name in the database's directory.
pub const FILE_NAME: &str = "superblock";
/// Its name until it is complete.
pub const NEW_FILE_NAME: &str = "superblock.new";
/// The marker of a creation under way.
pub const CREATING_FILE_NAME: &str = "creating";
/// The lock file.
pub const LOCK_FILE_NAME: &str = "lock";

const MAGIC: [u8; 8] = *b"CORELANE";
/// The format version this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
/// As many runs as fit in the page.
const MAX_RUNS: usize = (PAGE_BYTES - HEADER_BYTES) / 4;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    features: U32,
    database: U64,
    created_ms: U64,
    shards: U16,
    runs: U16,
    reserved: [u8; 4],
    checksum: U64,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// What a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Random identity, in every file of the database.
    pub database: u64,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Which shard each slot belongs to.
    pub slots: SlotTable,
}

/// Why a page is not a superblock that this version can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuperblockError {
    /// It is not one, or it is damaged; the text says how.
    Damaged(String),
    /// It is from a newer version, or uses a feature this one does not know.
    Newer(String),
}

impl Superblock {
    /// The page as stored.
    ///
    /// # Panics
    /// If the slot table has more runs than fit the page, which no table made by this version has.
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        let runs = self.slots.runs();
        assert!(runs.len() <= MAX_RUNS, "the slot table fits one page");
        let mut page = [0; PAGE_BYTES];
        for (at, (slots, shard)) in runs.iter().enumerate() {
            let place = &mut page[HEADER_BYTES + 4 * at..][..4];
            place[..2].copy_from_slice(&slots.to_le_bytes());
            place[2..].copy_from_slice(&shard.to_le_bytes());
        }
        let mut header = RawHeader {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            features: U32::new(0),
            database: U64::new(self.database),
            created_ms: U64::new(self.created_ms),
            shards: U16::new(self.slots.shards()),
            runs: U16::new(u16::try_from(runs.len()).expect("bounded above")),
            reserved: [0; 4],
            checksum: U64::new(0),
        };
        page[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        header.checksum = U64::new(xxh3_64(&page));
        page[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        page
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`SuperblockError`].
    pub fn decode(page: &[u8]) -> Result<Self, SuperblockError> {
        let damaged = |text: String| SuperblockError::Damaged(text);
        if page.len() != PAGE_BYTES {
            return Err(damaged(format!(
                "it has {} bytes, expected {PAGE_BYTES}",
                page.len()
            )));
        }
        let (header, _) =
            RawHeader::read_from_prefix(page).map_err(|_| damaged("it is too short".to_owned()))?;
        if header.magic != MAGIC {
            return Err(damaged("it does not begin with CORELANE".to_owned()));
        }
        let mut unsummed = page.to_vec();
        unsummed[40..48].fill(0);
        let (expected, found) = (header.checksum.get(), xxh3_64(&unsummed));
        if expected != found {
            return Err(damaged(format!(
                "its checksum is {found:#018x}, expected {expected:#018x}"
            )));
        }
        let (version, features) = (header.version.get(), header.features.get());
        if version != FORMAT_VERSION {
            return Err(SuperblockError::Newer(format!(
                "it has format version {version}; this build knows version {FORMAT_VERSION}"
            )));
        }
        if features != 0 {
            return Err(SuperblockError::Newer(format!(
                "it uses features {features:#x}; this build knows none"
            )));
        }
        let count = usize::from(header.runs.get());
        if count > MAX_RUNS {
            return Err(damaged(format!("it claims {count} runs of slots")));
        }
        let word = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let runs: Vec<_> = page[HEADER_BYTES..HEADER_BYTES + 4 * count]
            .chunks_exact(4)
            .map(|run| (word(run), word(&run[2..])))
            .collect();
        let slots = SlotTable::from_runs(&runs)
            .filter(|slots| slots.shards() == header.shards.get())
            .ok_or_else(|| damaged("its slot table does not cover the slots".to_owned()))?;
        Ok(Self {
            database: header.database.get(),
            created_ms: header.created_ms.get(),
            slots,
        })
    }
}

/// The name of a shard's directory.
pub fn shard_dir_name(shard: u16) -> String {
    format!("shard-{shard:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            database: 0xfeed_beef,
            created_ms: 1_700_000_000_000,
            slots: SlotTable::contiguous(5),
        }
    }

    #[test]
    fn a_superblock_reads_back() {
        assert_eq!(Superblock::decode(&sample().encode()), Ok(sample()));
        let most = Superblock {
            slots: SlotTable::contiguous(1000),
            ..sample()
        };
        assert_eq!(Superblock::decode(&most.encode()), Ok(most));
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let page = sample().encode();
        for at in 0..PAGE_BYTES {
            let mut bad = page;
            bad[at] ^= 0x40;
            assert!(Superblock::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_naming_both() {
        let mut page = sample().encode();
        page[8] = 2;
        page[40..48].fill(0);
        let sum = xxh3_64(&page);
        page[40..48].copy_from_slice(&sum.to_le_bytes());
        let Err(SuperblockError::Newer(text)) = Superblock::decode(&page) else {
            panic!("it was taken")
        };
        assert!(text.contains("version 2") && text.contains("version 1"), "{text}");
    }

    #[test]
    fn the_stored_page_of_version_1_never_changes() {
        assert_eq!(
            xxh3_64(&sample().encode()),
            GOLDEN,
            "format version 1 is frozen; a change needs version 2"
        );
    }

    /// Of the page that `sample` gives, computed once.
    const GOLDEN: u64 = 4_107_985_870_877_995_222;
}
