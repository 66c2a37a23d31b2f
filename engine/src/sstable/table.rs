//! Reads a table: opening it, finding the one block that answers for a key, and reading that block.
//!
//! Opening reads the footer, the top index and the properties, verifies all of them, and with `pin` every partition of
//! index and filter as well. After that a lookup is:
//!
//! 1. [`Table::locate`], synchronous: key bounds, then partition, then its filter, then its index. It allocates nothing.
//! 2. the block from the cache, or [`Table::read_block`]: exactly one device read, verified before it is parsed.
//! 3. [`Block::get`], synchronous.
//!
//! Only where partitions are not pinned can step 1 ask for one first: [`Located::NeedPartition`], one more read.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::block::Block;
use super::format::{
    BlockHandle, BlockType, Footer, FormatError, Seal, TableIdentity, decode_footer, unseal_block,
};
use super::index::{Partition, PartitionHandle, TopIndex, open_top_index};
use super::properties::Properties;
use crate::cache::{BlockCache as Cache, Weigh};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io, OpenOptions};
use crate::types::{MAX_SEQUENCE, PAGE_BYTES, Sequence};

/// How much is read from the end of a file to open it. The top index and the properties of a table of 64 MiB fit.
const TAIL_BYTES: u64 = 64 * 1024;

/// How much is read at once to load all partitions.
const RUN_BYTES: usize = 256 * 1024;

/// What the cache keeps of a table. Cloning counts a reference.
#[derive(Debug, Clone)]
pub enum Cached {
    /// A data block.
    Block(Rc<Block>),
    /// A partition of index and filter.
    Partition(Rc<Partition>),
}

impl Weigh for Cached {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Block(block) => block.held_bytes(),
            Self::Partition(partition) => partition.held_bytes(),
        }
    }
}

/// The cache of a shard's data blocks and partitions.
pub type BlockCache = Cache<Cached>;

/// Where the answer for a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// Not in this table, by the bounds of its keys or its index.
    Absent,
    /// Not in this table: its filter says so, and spares a block.
    Filtered,
    /// In this block, if anywhere.
    Block(BlockHandle),
    /// This partition of the index is not in memory: load it and ask again.
    NeedPartition(PartitionHandle),
}

/// An open table. Used behind an `Rc`; the file is closed when the last user is gone, or by [`Table::close`].
pub struct Table<I: Io> {
    file: I::File,
    path: PathBuf,
    identity: TableIdentity,
    seal: Seal,
    footer: Footer,
    properties: Properties,
    top: TopIndex,
    pinned: Option<Box<[Rc<Partition>]>>,
}

impl<I: Io> std::fmt::Debug for Table<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("path", &self.path)
            .field("identity", &self.identity)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}

/// A stretch of the file in memory.
pub(crate) struct Window<F: File> {
    pub(crate) start: u64,
    pub(crate) bytes: F::ReadBuf,
}

impl<F: File> Window<F> {
    /// The bytes from `offset` on, if the window reaches there.
    #[inline]
    pub(crate) fn from(&self, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..)
    }

    /// The bytes of a block, if the window holds it whole.
    pub(crate) fn block(&self, handle: BlockHandle) -> Option<&[u8]> {
        self.from(handle.offset())?.get(..handle.bytes())
    }
}

/// An error for damage at `offset` of `file`.
pub(crate) fn damaged(doing: String, file: &Path, offset: u64, cause: &FormatError) -> Error {
    let kind = match cause {
        FormatError::Version(_) | FormatError::Features(_) | FormatError::Compression(_) => {
            ErrorKind::Incompatible
        }
        _ => ErrorKind::Corruption,
    };
    Error::located(kind, doing, file, Some(offset), cause.to_string())
}

/// Reads exactly `bytes` at `offset` of a file that is known to be so long.
pub(crate) async fn read_exactly<F: File>(
    file: &F,
    path: &Path,
    doing: &str,
    offset: u64,
    bytes: usize,
) -> Result<Window<F>> {
    whole_read(path, doing, offset, bytes, file.read_at(offset, bytes).await)
}

/// The outcome of a read of `bytes` at `offset`, where fewer mean that the file has lost its end.
pub(crate) fn whole_read<F: File>(
    path: &Path,
    doing: &str,
    offset: u64,
    bytes: usize,
    outcome: std::io::Result<F::ReadBuf>,
) -> Result<Window<F>> {
    let buf = outcome.map_err(|e| Error::io(doing, path, Some(offset), &e))?;
    if buf.len() != bytes {
        let cause = format!("the file ends early: found {} bytes, expected {bytes}", buf.len());
        return Err(Error::corruption(doing, path, Some(offset), cause));
    }
    Ok(Window {
        start: offset,
        bytes: buf,
    })
}

impl<I: Io> Table<I> {
    /// Opens the table `identity` at `path`, whose length is known to be `expected_bytes`.
    ///
    /// With `pin` every partition of index and filter is read, verified and kept in memory; without, they go through
    /// the cache. Yields to the other tasks of the core between partitions.
    ///
    /// # Errors
    /// `Corruption` for another length, a wrong checksum or a wrong table; `Incompatible` for a newer version or unknown
    /// features; `Io`. All name the file and the offset.
    pub async fn open(
        io: &I,
        path: PathBuf,
        identity: TableIdentity,
        expected_bytes: u64,
        pin: bool,
    ) -> Result<Self> {
        const DOING: &str = "opening a table";
        let file = io
            .open(&path, OpenOptions::READ)
            .await
            .map_err(|e| Error::io(DOING, &path, None, &e))?;
        let bytes = file
            .bytes()
            .await
            .map_err(|e| Error::io(DOING, &path, None, &e))?;
        if bytes != expected_bytes {
            let cause = format!("the file is {bytes} bytes long, expected {expected_bytes}");
            let offset = bytes.min(expected_bytes);
            return Err(Error::corruption(DOING, &path, Some(offset), cause));
        }
        let pages = bytes / PAGE_BYTES as u64;
        if !bytes.is_multiple_of(PAGE_BYTES as u64) || pages == 0 || pages > u64::from(u32::MAX) {
            let cause = format!("no table is {bytes} bytes long");
            return Err(Error::corruption(DOING, &path, Some(bytes), cause));
        }
        let tail_bytes = bytes.min(TAIL_BYTES);
        let tail_len = usize::try_from(tail_bytes).expect("at most TAIL_BYTES");
        let tail = read_exactly(&file, &path, DOING, bytes - tail_bytes, tail_len).await?;
        let mut table = Self::from_tail(file, path, identity, bytes, tail).await?;
        if pin {
            table.pinned = Some(table.load_partitions(io).await?);
        }
        Ok(table)
    }

    async fn from_tail(
        file: I::File,
        path: PathBuf,
        identity: TableIdentity,
        file_bytes: u64,
        tail: Window<I::File>,
    ) -> Result<Self> {
        let seal = Seal::of(identity);
        let footer_at = file_bytes - PAGE_BYTES as u64;
        let page = tail.from(footer_at).expect("the tail holds the last page");
        let footer = decode_footer(page, identity, file_bytes)
            .map_err(|e| damaged("reading a table's footer".into(), &path, footer_at, &e))?;
        let held;
        let (properties_bytes, top_bytes) = match (tail.block(footer.properties), tail.block(footer.top)) {
            (Some(properties), Some(top)) => (properties, top),
            _ => {
                // Very long keys. Both lie side by side below the footer, which bounds them by the file (R17).
                let start = footer.top.offset();
                let bytes =
                    usize::try_from(footer_at - start).expect("a table is far below the address space");
                held = read_exactly(&file, &path, "reading a table's top index", start, bytes).await?;
                let within = "the footer put both between the top index and itself";
                (
                    held.block(footer.properties).expect(within),
                    held.block(footer.top).expect(within),
                )
            }
        };
        let at = |what: &str, handle: BlockHandle| {
            let (doing, path) = (format!("reading a table's {what}"), path.clone());
            move |error: FormatError| damaged(doing, &path, handle.offset(), &error)
        };
        let properties =
            open_properties(properties_bytes, seal, &footer).map_err(at("properties", footer.properties))?;
        let top = open_top(top_bytes, seal, &footer).map_err(at("top index", footer.top))?;
        if properties.keyspace != 0 {
            let cause = format!(
                "the table is of keyspace {}, which this version does not know",
                properties.keyspace
            );
            let offset = Some(footer.properties.offset());
            return Err(Error::located(
                ErrorKind::Incompatible,
                "opening a table",
                &path,
                offset,
                cause,
            ));
        }
        Ok(Self {
            file,
            path,
            identity,
            seal,
            footer,
            properties,
            top,
            pinned: None,
        })
    }

    async fn load_partitions(&self, io: &I) -> Result<Box<[Rc<Partition>]>> {
        let end = self.footer.top.offset();
        let mut run: Option<Window<I::File>> = None;
        let mut partitions = Vec::with_capacity(self.top.handles().len());
        for &handle in self.top.handles() {
            let whole = handle.whole();
            if run.as_ref().and_then(|run| run.block(whole)).is_none() {
                let left =
                    usize::try_from(end - whole.offset()).expect("a table is far below the address space");
                let bytes = left.min(RUN_BYTES.max(whole.bytes()));
                run = Some(
                    read_exactly(
                        &self.file,
                        &self.path,
                        "reading partitions",
                        whole.offset(),
                        bytes,
                    )
                    .await?,
                );
            }
            let bytes = run
                .as_ref()
                .and_then(|run| run.block(whole))
                .expect("the run was read to hold it");
            partitions.push(self.parse_partition(bytes, handle)?);
            if io.should_yield() {
                io.yield_now().await;
            }
        }
        Ok(partitions.into())
    }

    fn parse_partition(&self, bytes: &[u8], handle: PartitionHandle) -> Result<Rc<Partition>> {
        Partition::open(bytes, self.seal, handle, self.footer.data_pages).map_err(|(offset, error)| {
            damaged(
                "reading a partition of the index".into(),
                &self.path,
                offset,
                &error,
            )
        })
    }

    /// Finds the block that answers for (`key`, `at`). `hash` is [`super::key_hash`] of the key.
    #[inline]
    pub fn locate(&self, key: &[u8], hash: u64, at: Sequence, cache: &BlockCache) -> Located {
        if key < self.properties.smallest.as_slice() || key > self.properties.largest.as_slice() {
            return Located::Absent;
        }
        let Some(number) = self.top.search(key, at) else {
            return Located::Absent;
        };
        if let Some(pinned) = &self.pinned {
            return self.locate_in(&pinned[number], key, hash, at);
        }
        let handle = self.top.handle(number);
        match cache.get(self.identity.number, handle.page) {
            Some(Cached::Partition(partition)) => self.locate_in(&partition, key, hash, at),
            _ => Located::NeedPartition(handle),
        }
    }

    /// The same for a cursor, without filter and cache: where the first entry that is not before (`key`, `at`) is.
    pub(crate) fn locate_seek(&self, key: &[u8], at: Sequence) -> Located {
        let Some(number) = self.top.search(key, at) else {
            return Located::Absent;
        };
        match &self.pinned {
            Some(pinned) => pinned[number]
                .search(key, at)
                .map_or(Located::Absent, Located::Block),
            None => Located::NeedPartition(self.top.handle(number)),
        }
    }

    /// How many partitions index and filter have; at least one.
    pub(crate) fn partitions(&self) -> usize {
        self.top.handles().len()
    }

    /// Where a partition lies.
    pub(crate) fn partition_handle(&self, number: usize) -> PartitionHandle {
        self.top.handle(number)
    }

    /// A partition that is kept in memory with the table.
    pub(crate) fn pinned_partition(&self, number: usize) -> Option<Rc<Partition>> {
        self.pinned.as_ref().map(|pinned| Rc::clone(&pinned[number]))
    }

    /// The partition in which a walk backwards meets the last entry with a key below `key`, or else turns to the one before.
    pub(crate) fn partition_towards(&self, key: &[u8]) -> usize {
        self.top
            .search(key, MAX_SEQUENCE)
            .unwrap_or(self.partitions() - 1)
    }

    /// Reads one data block: exactly one device read, its checksum verified before anything in it is used.
    ///
    /// # Errors
    /// `Corruption` naming file, offset, expected and found; `Io`.
    pub async fn read_block(&self, handle: BlockHandle) -> Result<Rc<Block>> {
        let window = read_exactly(
            &self.file,
            &self.path,
            "reading a block",
            handle.offset(),
            handle.bytes(),
        )
        .await?;
        self.parse_block(&window.bytes, handle)
    }

    pub(crate) fn parse_block(&self, bytes: &[u8], handle: BlockHandle) -> Result<Rc<Block>> {
        Block::open(bytes, self.seal, handle, BlockType::Data)
            .map(Rc::new)
            .map_err(|e| damaged("reading a block".into(), &self.path, handle.offset(), &e))
    }

    /// A data block if it is in the cache.
    #[inline]
    pub fn cached_block(&self, handle: BlockHandle, cache: &BlockCache) -> Option<Rc<Block>> {
        match cache.get(self.identity.number, handle.page) {
            Some(Cached::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// A data block, from the cache or else read and put there.
    ///
    /// # Errors
    /// As [`Table::read_block`].
    pub async fn block(&self, handle: BlockHandle, cache: &BlockCache) -> Result<Rc<Block>> {
        if let Some(block) = self.cached_block(handle, cache) {
            return Ok(block);
        }
        let block = self.read_block(handle).await?;
        cache.insert(
            self.identity.number,
            handle.page,
            Cached::Block(Rc::clone(&block)),
        );
        Ok(block)
    }

    /// Reads a partition that [`Table::locate`] asked for and puts it into the cache. The partition is returned too,
    /// because the cache may decline it: see [`Table::locate_in`].
    ///
    /// # Errors
    /// As [`Table::read_block`].
    pub async fn load_partition(&self, handle: PartitionHandle, cache: &BlockCache) -> Result<Rc<Partition>> {
        let partition = self.read_partition(handle).await?;
        cache.insert(
            self.identity.number,
            handle.page,
            Cached::Partition(Rc::clone(&partition)),
        );
        Ok(partition)
    }

    /// Reads a partition past the cache.
    pub(crate) async fn read_partition(&self, handle: PartitionHandle) -> Result<Rc<Partition>> {
        let whole = handle.whole();
        let doing = "reading a partition of the index";
        let window = read_exactly(&self.file, &self.path, doing, whole.offset(), whole.bytes()).await?;
        self.parse_partition(&window.bytes, handle)
    }

    /// [`Table::locate`] within the partition it asked for.
    #[inline]
    pub fn locate_in(&self, partition: &Partition, key: &[u8], hash: u64, at: Sequence) -> Located {
        if !partition.may_contain(hash) {
            return Located::Filtered;
        }
        partition.search(key, at).map_or(Located::Absent, Located::Block)
    }

    /// What the table says of itself.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Which table this is.
    pub fn identity(&self) -> TableIdentity {
        self.identity
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.footer.file_bytes
    }

    /// Bytes of memory held beside the cache: the top index, and the partitions where they are pinned.
    pub fn held_bytes(&self) -> usize {
        let pinned = self
            .pinned
            .iter()
            .flatten()
            .map(|partition| partition.held_bytes())
            .sum::<usize>();
        self.top.held_bytes() + pinned
    }

    pub(crate) fn file(&self) -> &I::File {
        &self.file
    }

    pub(crate) fn seal(&self) -> Seal {
        self.seal
    }

    /// Where the data blocks end, as an offset in bytes.
    pub(crate) fn data_end(&self) -> u64 {
        u64::from(self.footer.data_pages) * PAGE_BYTES as u64
    }

    /// Closes the file and waits for that.
    ///
    /// # Errors
    /// `Io`; the file is gone from this process all the same.
    pub async fn close(self) -> Result<()> {
        let Self { file, path, .. } = self;
        file.close()
            .await
            .map_err(|e| Error::io("closing a table", &path, None, &e))
    }
}

fn open_properties(
    bytes: &[u8],
    seal: Seal,
    footer: &Footer,
) -> std::result::Result<Properties, FormatError> {
    let unsealed = unseal_block(bytes, seal, footer.properties.offset(), BlockType::Properties)?;
    let mut payload = Vec::new();
    unsealed.unpack_into(&mut payload)?;
    Properties::decode(&payload)
}

fn open_top(bytes: &[u8], seal: Seal, footer: &Footer) -> std::result::Result<TopIndex, FormatError> {
    let block = Block::open(bytes, seal, footer.top, BlockType::TopIndex)?;
    if block.restarts() != footer.partitions as usize {
        return Err(FormatError::Malformed(
            "the top index has another count of partitions than the footer",
        ));
    }
    open_top_index(block, footer.data_pages, footer.top.page)
}
