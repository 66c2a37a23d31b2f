//! The pure k-way merge.
