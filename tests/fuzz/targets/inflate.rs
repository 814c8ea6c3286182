//! See `eventkit::fuzzing::inflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::inflate(input));
