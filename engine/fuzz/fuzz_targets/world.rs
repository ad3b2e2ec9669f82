#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mmsb_fuzz::targets::world(input));
