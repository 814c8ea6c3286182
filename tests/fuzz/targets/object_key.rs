//! See `eventkit::fuzzing::object_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| eventkit::fuzzing::object_key(input));
