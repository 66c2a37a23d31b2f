//! Versions: which tables make up a shard, and the manifest that says so durably.
