//! Fuzzes `mlxc_tests::fuzz::npy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxc_tests::fuzz::npy(data));
