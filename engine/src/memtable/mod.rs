//! The memtable: the newest entries of a shard, sorted, in memory.
