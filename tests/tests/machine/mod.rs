//! The machine that kernels are built for and run on: the interpreter, with the widest profile; in the program `neon`, which
//! includes the tests of others, compiled code for aarch64, emulated where it is not this machine's.

use mlxc_ir::TargetProfile;
use mlxc_ir::graph::Function;
use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::kernel::{BufferData, Kernel, Scalar};
use mlxc_tests::kernels::check_with;
use run::Memory;

#[path = "../../../codegen/tests/run/mod.rs"]
#[allow(clippy::unwrap_used)]
mod run;

fn is_neon() -> bool {
    env!("CARGO_CRATE_NAME") == "neon"
}

/// The profile to build for.
pub fn profile() -> TargetProfile {
    let name = if is_neon() { "aarch64-neon" } else { "x86-64-v4-bf16" };
    mlxc_codegen::profiles::by_name(name).expect("a known profile")
}

/// Compares kernels with the interpreter of graphs.
pub fn check(f: &Function, profile: &TargetProfile, args: &[Tensor], ulp: f64) {
    if is_neon() {
        check_with(f, profile, args, ulp, &mut |k, buffers, scalars| compiled(k, profile, buffers, scalars));
    } else {
        mlxc_tests::kernels::check(f, profile, args, ulp);
    }
}

/// Compares kernels of a profile with the interpreter of graphs: interpreted, and compiled where this machine runs it. Not
/// a second time where NEON is emulated.
pub fn check_for(profile: &TargetProfile, f: &Function, args: &[Tensor], ulp: f64) {
    if is_neon() {
        return;
    }
    mlxc_tests::kernels::check(f, profile, args, ulp);
    if mlxc_codegen::profiles::cpu_target(&profile.name).is_some_and(mlxc_codegen::profiles::runs_here) {
        check_with(f, profile, args, ulp, &mut |k, buffers, scalars| compiled(k, profile, buffers, scalars));
    }
}

/// Compiles a kernel and runs it.
fn compiled(kernel: &Kernel, profile: &TargetProfile, buffers: &mut [BufferData], scalars: &[(&str, Scalar)]) {
    let word = |name: &str| match scalars.iter().find(|(n, _)| *n == name) {
        Some((_, Scalar::Int(v))) => *v as u64,
        other => panic!("`{name}` is {other:?}"),
    };
    let symbols = kernel.symbols.iter().map(|s| word(kernel.var_name(s.var)));
    let words: Vec<u64> = symbols.chain(kernel.args.iter().map(|a| word(&a.name))).collect();
    let mut memory: Vec<Memory> = buffers.iter().map(|b| Memory::from(&b.to_bytes())).collect();
    run::execute(kernel, &run::compiled(kernel, &profile.name), &words, &mut memory);
    for (buffer, memory) in buffers.iter_mut().zip(&memory) {
        *buffer = BufferData::from_bytes(buffer.dtype, memory.bytes());
    }
}
