//! The MSL of the GPU kernel files. A snapshot shows that text changed; `tests/msl` compiles and runs the same
//! kernels.

#![allow(clippy::unwrap_used)]

use mlxc_codegen::legalise::legalise_gpu;
use mlxc_codegen::{gpu_profiles, msl};
use mlxc_ir::kernel::{Access, Kernel, parse};

fn file(name: &str) -> Kernel {
    let path = format!("{}/../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    parse(&std::fs::read_to_string(path).unwrap(), name).unwrap().remove(0)
}

fn text(kernel: &Kernel) -> String {
    let profile = gpu_profiles::by_name("apple7").unwrap();
    let read_only: Vec<bool> = kernel.buffers.iter().map(|b| b.access == Access::Read).collect();
    let legal = legalise_gpu(kernel, &profile, &read_only).unwrap_or_else(|d| panic!("{}", d[0]));
    msl::write(&legal).into_iter().map(|m| m.text).collect::<Vec<_>>().join("\n")
}

#[test]
fn kernel_files() {
    for name in [
        "silu_scale_gpu",
        "add_rms_norm_gpu",
        "decode_attention_gpu",
        "gate_up_silu_regs",
        "gate_up_silu_tiles",
        "histogram_gpu",
        "prefill_attention",
        "qmv4_gpu",
        "rope_cache",
    ] {
        insta::assert_snapshot!(name, text(&file(name)));
    }
}

#[test]
fn names_that_mean_something_to_msl_are_changed() {
    let kernel = "kernel taken {
  sym device in 1..=8
  arg half: f32
  buf thread: f32[device, 4] read
  buf float4: i8[device, 4] write
  phase main grid(atomic_uint: device) group 4 {
    let clamp = thread[atomic_uint, lane] * half
    let scalars = i8(clamp) * 3 - 7
    float4[atomic_uint, lane] = scalars
  }
}";
    let kernel = parse(kernel, "taken").unwrap().remove(0);
    insta::assert_snapshot!("taken", text(&kernel));
}
