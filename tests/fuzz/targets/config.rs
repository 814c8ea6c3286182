//! See `eventkit::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::config(input));
