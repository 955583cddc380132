#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::connector::kafka::fuzzing::answer(bytes));
