//! Compaction: choosing, running and pacing merges of tables.
