//! Pure encodings shared by every format: variable-length integers, log frames, and the batch of operations.
//!
//! Nothing here touches a file. Decoders never panic and never allocate from a length that the input itself has not
//! backed with bytes (rule R17).

pub mod batch;
pub mod frame;
pub mod varint;
