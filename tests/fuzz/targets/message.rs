//! See `eventkit::fuzzing::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::message(input));
