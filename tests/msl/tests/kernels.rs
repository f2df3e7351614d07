//! The kernel files of `ir`, written as MSL: compiled, and run in every order and build against the interpreter of
//! the Kernel IR.

#![allow(clippy::unwrap_used)]

use mlxc_codegen::legalise::legalise_gpu;
use mlxc_codegen::{gpu_profiles, msl};
use mlxc_ir::DType;
use mlxc_ir::kernel::{self, Access, ArgKind, BufferData, Kernel, Options, Scalar, Step, parse};
use mlxc_msl_gate::{Build, Gate};
use mlxc_tests::kernels::Random;

fn file(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/../../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    kernel_of(&text)
}

fn kernel_of(text: &str) -> Kernel {
    parse(text, "test").unwrap_or_else(|d| panic!("{d}\n{text}")).remove(0)
}
