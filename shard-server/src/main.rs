//! The `corelane` server binary.
fn main() {}
