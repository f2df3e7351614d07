//! The kernel files verify.

#![allow(clippy::unwrap_used)]

use mlxc_ir::kernel::{parse, verify};

#[test]
fn kernel_files_verify() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");
    let mut failed = String::new();
    for f in std::fs::read_dir(folder).unwrap() {
        let path = f.unwrap().path();
        for k in parse(&std::fs::read_to_string(&path).unwrap(), "k").unwrap() {
            if let Err(errors) = verify(&k) {
                for e in errors.iter().take(3) {
                    failed.push_str(&format!("{e}\n"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
}
