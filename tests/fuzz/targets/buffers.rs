//! Fuzzes `mlxc_tests::fuzz::buffers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxc_tests::fuzz::buffers(data));
