//! See `eventkit::fuzzing::body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::body(input));
