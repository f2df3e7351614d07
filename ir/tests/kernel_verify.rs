//! The kernel files verify, and broken variants of them do not.

use mlxc_ir::kernel::{parse, verify};

#[test]
fn kernel_files_verify() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");
    let mut failed = String::new();
    for f in std::fs::read_dir(folder).unwrap() {
        let path = f.unwrap().path();
        for k in parse(&std::fs::read_to_string(&path).unwrap(), "k").unwrap() {
            let t = std::time::Instant::now();
            let r = verify(&k);
            println!("{} {:?}", k.name, t.elapsed());
            if let Err(errors) = r {
                for e in errors.iter().take(3) {
                    failed.push_str(&format!("{e}\n"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
}
