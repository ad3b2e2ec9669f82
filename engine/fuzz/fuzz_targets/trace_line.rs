#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mmsb_fuzz::targets::trace_line(input));
