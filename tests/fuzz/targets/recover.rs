//! See `eventkit::fuzzing::recover`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::recover(input));
