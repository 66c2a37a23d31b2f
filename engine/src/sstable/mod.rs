//! SSTables: sorted, immutable files of block-aligned entries.
//!
//! ```text
//! page 0      data blocks, sorted by key, newest version of a key first; one page each where they fit
//!             partitions: a filter and the index of the data blocks it covers, side by side
//!             top index: the partitions
//!             properties
//! last page   footer
//! ```
//!
//! Every block starts and ends on a page and carries a checksum seeded by the table's identity and the block's offset.
//! [`format`](TableIdentity) draws the headers, `entries` the entries, `index`, `filter` and `properties` their payloads.
//!
//! - [`TableBuilder`] turns sorted entries into pages (pure); [`TableWriter`] writes those to a file.
//! - [`Table`] finds the one block that answers for a key and reads it; [`TableCursor`] walks entries in order.
//! - What is read is verified before it is parsed or cached, and every error names file, offset, expected and found.

mod block;
mod builder;
mod cursor;
mod entries;
mod feed;
mod filter;
mod fit;
mod format;
mod index;
mod properties;
mod started;
mod table;
mod writer;

#[cfg(test)]
mod tests;

pub use block::Block;
pub use builder::{TableBuilder, TableOptions, TableSummary};
pub use cursor::TableCursor;
pub use filter::key_hash;
pub use format::{
    BLOCK_HEADER_BYTES, BlockHandle, Compression, FOOTER_BYTES, FORMAT_VERSION, MAX_COMPRESSED_RAW_BYTES,
    TableIdentity,
};
pub use index::{Partition, PartitionHandle};
pub use properties::Properties;
pub use table::{BlockCache, Cached, Located, Table};
pub use writer::TableWriter;
