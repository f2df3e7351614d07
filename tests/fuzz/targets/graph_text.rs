//! Fuzzes `mlxc_tests::fuzz::graph_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| mlxc_tests::fuzz::graph_text(data));
