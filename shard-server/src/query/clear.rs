//! `FLUSHALL`: walks the keys and deletes them, a page at a time.
//!
//! Each page's deletions are one batch a shard. A crash in the middle leaves the keys behind it; a key that is written
//! behind the walk stays. So it costs what the keys cost, and memory only for a page of them.

use std::ops::Bound;

use corelane::api::{Batch, Durability, Op, ScanRange};

use crate::command::Failure;
use crate::store::Store;

/// Keys deleted at once.
const PAGE: usize = 1024;

/// Keys deleted at once stop at this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Deletes every key there is when it is asked.
pub(super) async fn clear<S: Store>(store: &S, durability: Durability) -> Result<(), Failure> {
    let mut start = Bound::Unbounded;
    loop {
        let range = ScanRange {
            start,
            end: Bound::Unbounded,
            reverse: false,
            limit: PAGE,
            bytes_limit: PAGE_BYTES,
            keys_only: true,
            at: None,
        };
        let page = store.scan(range).await?;
        let mut batches: Vec<(u16, Batch)> = Vec::new();
        for (key, _) in page.entries.iter() {
            let shard = store.shard_of(key);
            let place = batches
                .iter()
                .position(|(of, _)| *of == shard)
                .unwrap_or_else(|| {
                    batches.push((shard, Batch::new()));
                    batches.len() - 1
                });
            batches[place].1.delete(key)?;
        }
        let ops = batches
            .into_iter()
            .map(|(shard, batch)| (shard, Op::Write { batch, durability }));
        for outcome in store.execute(ops.collect()).await {
            outcome?;
        }
        match page.resume {
            Some(resume) => start = Bound::Excluded(resume),
            None => return Ok(()),
        }
    }
}
