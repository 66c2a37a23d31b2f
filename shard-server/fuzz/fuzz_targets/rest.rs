//! What the admin plane decodes: keys, queries, cursors, batches.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_server::fuzzing::rest(data));
