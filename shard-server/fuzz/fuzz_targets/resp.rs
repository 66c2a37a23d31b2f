//! A client's bytes, cut anywhere, over a whole connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_server::fuzzing::resp(data));
