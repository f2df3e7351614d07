//! Fuzzes `mlxc_tests::fuzz::package`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxc_tests::fuzz::package(data));
