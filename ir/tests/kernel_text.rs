//! Every kernel file parses, and printing and parsing are inverse.

#![allow(clippy::unwrap_used)]

use mlxc_ir::kernel::{parse, print};

fn files() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");
    let mut out: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "kir"))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    out.sort();
    assert!(!out.is_empty());
    out
}

#[test]
fn printing_and_parsing_are_inverse() {
    for (name, text) in files() {
        let kernels = parse(&text, &name).unwrap_or_else(|e| panic!("{e}"));
        for k in &kernels {
            let once = print(k);
            let again = parse(&once, &name).unwrap_or_else(|e| panic!("{e}\n{once}"));
            assert_eq!(again.len(), 1);
            assert_eq!(once, print(&again[0]), "{name}");
        }
    }
}
