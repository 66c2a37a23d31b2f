//! The `corelane-bench` binary.
fn main() {}
