//! SSTables: sorted, immutable files of block-aligned entries.
