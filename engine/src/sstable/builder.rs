//! Builds a table in memory, page by page: a pure function from sorted entries to the bytes of the file.
//!
//! Entries go into the data block being filled. Once it is full (see [`super::fit`]) it is sealed into the output, and
//! its last key and key hashes into the index partition being filled; partitions stay in memory until the end. The
//! driver takes finished pages away whenever it has a chunk of them, so the builder holds one block, the pages not yet
//! taken, and about 1.5 % of the table as index and filters.

use std::cmp::Ordering;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::entries::{EntriesWriter, RESTART_INTERVAL, common_prefix, order_after};
use super::filter::key_hash;
use super::fit::{Fit, Verdict};
use super::format::{
    BLOCK_HEADER_BYTES, BlockHandle, BlockParts, BlockType, Compression, FOOTER_BYTES, Footer, Seal,
    TableIdentity, encode_footer, padded_pages, seal_block,
};
use super::index::{IndexWriter, raw_parts, separator};
use super::properties::Properties;
use crate::types::{Entry, Kind, MAX_KEY_BYTES, PAGE_BYTES, Sequence};

const _: () = assert!(FOOTER_BYTES <= PAGE_BYTES);

/// How a table is made. Plain data; the defaults suit L0 and L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// How data blocks are stored, where it saves a page.
    pub compression: Compression,
    /// Filter bits a key; 0 makes no filter.
    pub filter_bits_per_key: u32,
    /// Bytes on disk that a data block is filled to, header included: a multiple of the page.
    pub block_bytes: usize,
    /// Bytes on disk that an index partition is filled to: a multiple of the page.
    pub partition_bytes: usize,
    /// The level that the table is made for.
    pub level: u8,
    /// When it is made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What makes it, for people.
    pub creator: String,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            filter_bits_per_key: 10,
            block_bytes: PAGE_BYTES,
            partition_bytes: PAGE_BYTES,
            level: 0,
            created_ms: 0,
            creator: concat!("corelane ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// What a finished table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// The first user key.
    pub smallest: Vec<u8>,
    /// The last user key.
    pub largest: Vec<u8>,
    /// The smallest sequence of any entry.
    pub smallest_sequence: Sequence,
    /// The largest sequence of any entry.
    pub largest_sequence: Sequence,
    /// Bytes of all keys and values before any compression.
    pub raw_bytes: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Partitions of index and filter.
    pub partitions: u32,
    /// Bytes of the file that are data blocks.
    pub data_bytes: u64,
}

/// Builds one table in memory: sorted entries in, pages of the file out.
pub struct TableBuilder {
    identity: TableIdentity,
    seal: Seal,
    fit: Fit,
    block: EntriesWriter,
    spare: EntriesWriter,
    block_hashes: Vec<u64>,
    index: IndexWriter,
    last_key: Vec<u8>,
    last_trailer: u64,
    properties: Properties,
    /// Whether any entry so far is a put with an expiry.
    expiring: bool,
    ready: Vec<u8>,
    /// How much of `ready` was taken already.
    ready_start: usize,
    taken_bytes: u64,
    payload: Vec<u8>,
    compressed: Vec<u8>,
    table: CompressTable,
}

impl std::fmt::Debug for TableBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableBuilder")
            .field("identity", &self.identity)
            .field("properties", &self.properties)
            .field("ready_bytes", &self.ready_bytes())
            .finish_non_exhaustive()
    }
}

impl TableBuilder {
    /// Starts the table `identity`.
    ///
    /// # Panics
    /// If a size in the options is not a positive multiple of the page.
    pub fn new(identity: TableIdentity, options: &TableOptions) -> Self {
        for bytes in [options.block_bytes, options.partition_bytes] {
            assert!(
                bytes > 0 && bytes.is_multiple_of(PAGE_BYTES),
                "blocks are whole pages, not {bytes} bytes"
            );
        }
        Self {
            identity,
            seal: Seal::of(identity),
            fit: Fit::new(options.compression, options.block_bytes),
            block: EntriesWriter::new(RESTART_INTERVAL),
            spare: EntriesWriter::new(RESTART_INTERVAL),
            block_hashes: Vec::new(),
            index: IndexWriter::new(
                options.partition_bytes - BLOCK_HEADER_BYTES,
                options.filter_bits_per_key,
            ),
            last_key: Vec::new(),
            last_trailer: 0,
            properties: Properties {
                smallest_sequence: Sequence::MAX,
                level: options.level,
                created_ms: options.created_ms,
                creator: options.creator.clone(),
                compression: options.compression,
                filter_bits_per_key: options.filter_bits_per_key,
                ..Properties::default()
            },
            expiring: false,
            ready: Vec::new(),
            ready_start: 0,
            taken_bytes: 0,
            payload: Vec::new(),
            compressed: Vec::new(),
            table: CompressTable::default(),
        }
    }

    /// Adds the next entry.
    ///
    /// # Panics
    /// If it is not after the one before in internal order, or a length is none that its kind admits.
    pub fn add(&mut self, entry: Entry<'_>) {
        let Entry { key, value, .. } = entry;
        let trailer = entry.trailer();
        assert!(
            entry.kind != Kind::Tombstone || value.is_empty(),
            "a tombstone has no value"
        );
        assert!(
            key.len() <= MAX_KEY_BYTES && entry.kind.admits(value.len()),
            "lengths are within the limits"
        );
        let common = common_prefix(&self.last_key, key);
        if self.properties.entries > 0 {
            let in_order = match order_after(common, key, &self.last_key) {
                Ordering::Greater => true,
                Ordering::Equal => trailer < self.last_trailer,
                Ordering::Less => false,
            };
            assert!(in_order, "entries come in strict internal order");
        }
        let mut shared = self.block.shared(common);
        while !self.block.is_empty()
            && self.block.bytes_with(shared, key.len(), value.len()) > self.fit.raw_target_bytes()
        {
            self.close_block(Some(key));
            shared = self.block.shared(common);
        }
        self.block.push(shared, key, trailer, value);
        if self.properties.filter_bits_per_key > 0 {
            self.block_hashes.push(key_hash(key));
        }
        self.count(entry);
        self.last_key.truncate(common);
        self.last_key.extend_from_slice(&key[common..]);
        self.last_trailer = trailer;
    }

    fn count(&mut self, entry: Entry<'_>) {
        let properties = &mut self.properties;
        if properties.entries == 0 {
            properties.smallest = entry.key.to_vec();
        }
        properties.entries += 1;
        properties.tombstones += u64::from(entry.kind == Kind::Tombstone);
        self.expiring |= entry.kind == Kind::PutUntil;
        properties.raw_key_bytes += entry.key.len() as u64;
        properties.raw_value_bytes += entry.value.len() as u64;
        properties.smallest_sequence = properties.smallest_sequence.min(entry.sequence);
        properties.largest_sequence = properties.largest_sequence.max(entry.sequence);
    }

    /// Entries added so far.
    pub fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// Length in bytes that the file would have if it ended here, within a few pages: what a caller compares with the
    /// size at which it starts the next table.
    pub fn estimated_bytes(&self) -> u64 {
        self.end_offset() + (self.block.bytes() + self.index.estimated_bytes() + 3 * PAGE_BYTES) as u64
    }

    /// The last user key added; empty before the first.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Bytes of finished pages that wait to be taken.
    pub fn ready_bytes(&self) -> usize {
        self.ready.len() - self.ready_start
    }

    /// Moves finished pages, in file order, into `out`, and says how many bytes. They are whole pages.
    ///
    /// # Panics
    /// If `out` is not whole pages long.
    pub fn take(&mut self, out: &mut [u8]) -> usize {
        assert!(out.len().is_multiple_of(PAGE_BYTES), "pages are taken whole");
        let bytes = out.len().min(self.ready_bytes());
        let end = self.ready_start + bytes;
        out[..bytes].copy_from_slice(&self.ready[self.ready_start..end]);
        self.taken_bytes += bytes as u64;
        self.ready_start = end;
        // Moving the rest to the front only when it is the smaller half keeps the cost of a huge block linear.
        if end * 2 >= self.ready.len() {
            self.ready.drain(..end);
            self.ready_start = 0;
        }
        bytes
    }

    fn end_offset(&self) -> u64 {
        self.taken_bytes + self.ready_bytes() as u64
    }

    fn end_page(&self) -> u32 {
        u32::try_from(self.end_offset() / PAGE_BYTES as u64).expect("a table is far below 16 TiB")
    }

    /// Seals one block from the entries collected; some of them may stay, for the next. `next` is the key that follows
    /// all of them, if one does.
    fn close_block(&mut self, next: Option<&[u8]>) {
        let mut cut = None;
        let mut verdict = Verdict::StoreRaw;
        if self.fit.try_next(self.block.bytes()) {
            verdict = self.judge(self.block.count() > 1);
        } else if self.block.bytes() > self.fit.room_bytes() {
            // Left over from a compressed block that did not fit: too much for a raw one.
            verdict = Verdict::CutAndStoreRaw(self.fit.room_bytes());
        }
        if let Verdict::CutAndRetry(bytes) | Verdict::CutAndStoreRaw(bytes) = verdict {
            cut = self.block.split(bytes, &mut self.spare);
            verdict = match verdict {
                Verdict::CutAndRetry(_) => self.judge(false),
                _ => Verdict::StoreRaw,
            };
        }
        let count = self.block.count();
        let handle = self.seal_data_block(verdict == Verdict::StoreCompressed);
        let last = match cut {
            Some((key, trailer)) => separator(&key, trailer, self.spare.first_key()),
            None => separator(&self.last_key, self.last_trailer, next),
        };
        std::mem::swap(&mut self.block, &mut self.spare);
        let hashes = count.min(self.block_hashes.len());
        self.index.add(last, handle, self.block_hashes.drain(..hashes));
        self.properties.data_blocks += 1;
    }

    /// Compresses the entries collected and asks what to do with the result, which stays in `compressed`.
    fn judge(&mut self, may_cut: bool) -> Verdict {
        self.payload.clear();
        self.block.copy_into(&mut self.payload);
        self.compressed
            .resize(get_maximum_output_size(self.payload.len()), 0);
        let bytes = compress_into_with_table(&self.payload, &mut self.compressed, &mut self.table)
            .expect("the output has room for the worst case");
        self.compressed.truncate(bytes);
        self.fit.judge(self.payload.len(), bytes, may_cut)
    }

    fn seal_data_block(&mut self, compressed: bool) -> BlockHandle {
        self.payload.clear();
        let count = self.block.finish_into(&mut self.payload);
        let (compression, stored) = if compressed {
            (Compression::Lz4, &self.compressed)
        } else {
            (Compression::None, &self.payload)
        };
        let pages = u32::try_from(padded_pages(stored.len())).expect("a block is far below 4 GiB");
        let handle = BlockHandle {
            page: self.end_page(),
            pages,
        };
        let parts = BlockParts {
            block_type: BlockType::Data,
            compression,
            stored,
            raw_bytes: self.payload.len(),
            count,
        };
        seal_block(&mut self.ready, self.seal, handle.offset(), parts);
        handle
    }

    /// Ends the table: the rest of its pages becomes ready to be taken.
    ///
    /// # Panics
    /// If nothing was added: an empty table is never made.
    pub fn finish(&mut self) -> TableSummary {
        assert!(self.properties.entries > 0, "a table holds at least one entry");
        while !self.block.is_empty() {
            self.close_block(None);
        }
        self.properties.largest.clone_from(&self.last_key);
        let data_pages = self.end_page();
        let mut top_entries = EntriesWriter::new(1);
        let partitions = self.index.finish();
        for partition in &partitions {
            let page = self.end_page();
            partition.seal_into(&mut self.ready, self.seal, page, &mut top_entries);
        }
        let mut payload = Vec::new();
        let count = top_entries.finish_into(&mut payload);
        let top = self.seal_raw(BlockType::TopIndex, &payload, count);
        let properties = self.seal_raw(BlockType::Properties, &self.properties.encode(), 0);
        let footer = Footer {
            identity: self.identity,
            file_bytes: self.end_offset() + PAGE_BYTES as u64,
            data_pages,
            partitions: count,
            top,
            properties,
            expiring: self.expiring,
        };
        self.ready.extend_from_slice(&encode_footer(&footer));
        self.summary(&footer)
    }

    fn seal_raw(&mut self, block_type: BlockType, payload: &[u8], count: u32) -> BlockHandle {
        let pages = u32::try_from(padded_pages(payload.len())).expect("a block is far below 4 GiB");
        let handle = BlockHandle {
            page: self.end_page(),
            pages,
        };
        seal_block(
            &mut self.ready,
            self.seal,
            handle.offset(),
            raw_parts(block_type, payload, count),
        );
        handle
    }

    fn summary(&self, footer: &Footer) -> TableSummary {
        let properties = &self.properties;
        TableSummary {
            bytes: footer.file_bytes,
            entries: properties.entries,
            tombstones: properties.tombstones,
            smallest: properties.smallest.clone(),
            largest: properties.largest.clone(),
            smallest_sequence: properties.smallest_sequence,
            largest_sequence: properties.largest_sequence,
            raw_bytes: properties.raw_key_bytes + properties.raw_value_bytes,
            data_blocks: properties.data_blocks,
            partitions: footer.partitions,
            data_bytes: u64::from(footer.data_pages) * PAGE_BYTES as u64,
        }
    }
}
