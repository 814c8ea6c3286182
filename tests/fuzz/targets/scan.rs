//! See `eventkit::fuzzing::scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::scan(input));
