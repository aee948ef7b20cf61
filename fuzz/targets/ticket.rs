//! libFuzzer's way into the function of this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krpc_fuzz::ticket::run(data));
