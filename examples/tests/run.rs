//! The examples do what they say.

use mlxc::source::Build;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn trace_and_run() {
    let out = Command::new(env!("CARGO_BIN_EXE_trace_and_run")).output().expect("the program starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("[3, 96]") && text.contains("fused:"), "{text}");
}

#[test]
fn run_package() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/kjv-llama");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("kjv.mlxc");
    let mut build = Build::new(fixture);
    build.dtype = Some(mlxc::DType::F32);
    let compiled = build.compile(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let extras = build.extras(std::slice::from_ref(&compiled)).unwrap_or_else(|e| panic!("{e}"));
    let weights = build.weights(&compiled.traced).unwrap_or_else(|e| panic!("{e}"));
    compiled.save(&path, &*weights, &extras, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let prompt = "In the beginning God created";
    let out = Command::new(env!("CARGO_BIN_EXE_run_package"))
        .arg(&path)
        .args([prompt, "8"])
        .output()
        .expect("the program starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.starts_with(prompt) && text.trim_end().len() > prompt.len(), "{text}");
}
