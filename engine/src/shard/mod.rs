//! One shard: the state of one core.
