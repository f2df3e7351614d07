//! Fuzzes `mlxc_tests::fuzz::config_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| mlxc_tests::fuzz::config_json(data));
