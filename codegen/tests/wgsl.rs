//! The WGSL of the GPU kernel files. A snapshot shows that text changed; `gpu.rs` runs the same kernels.

#![allow(clippy::unwrap_used)]

use mlxc_codegen::gpu_profiles;
use mlxc_codegen::legalise::legalise_gpu;
use mlxc_codegen::wgsl::{self, Header};
use mlxc_ir::kernel::{Access, Kernel, parse};

fn file(name: &str) -> Kernel {
    let path = format!("{}/../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    parse(&std::fs::read_to_string(path).unwrap(), name).unwrap().remove(0)
}

fn text(kernel: &Kernel, profile: &str, header: Header) -> String {
    let profile = gpu_profiles::by_name(profile).unwrap();
    let read_only: Vec<bool> = kernel.buffers.iter().map(|b| b.access == Access::Read).collect();
    let legal = legalise_gpu(kernel, &profile, &read_only).unwrap_or_else(|d| panic!("{}", d[0]));
    let modules = wgsl::write(&legal, header);
    if header == Header::Naga {
        modules.iter().for_each(|m| wgsl::validate(&m.text, &profile).unwrap_or_else(|d| panic!("{d}")));
    }
    modules.into_iter().map(|m| m.text).collect::<Vec<_>>().join("\n")
}

#[test]
fn kernel_files() {
    let names =
        ["silu_scale_gpu", "add_rms_norm_gpu", "decode_attention_gpu", "histogram_gpu", "qmv4_gpu", "rope_cache"];
    for name in names {
        let kernel = file(name);
        for profile in ["webgpu", "vulkan"] {
            insta::assert_snapshot!(format!("{name}_{profile}"), text(&kernel, profile, Header::Naga));
        }
    }
    insta::assert_snapshot!("gate_up_silu_regs_webgpu", text(&file("gate_up_silu_regs"), "webgpu", Header::Naga));
}

#[test]
fn headers_differ_in_directives_only() {
    let kernel = file("add_rms_norm_gpu");
    let strip = |text: String| -> Vec<String> {
        let directive = |l: &&str| l.starts_with("enable") || l.starts_with("requires");
        text.lines().filter(|l| !directive(l)).map(str::to_string).collect()
    };
    let [naga, browser] = [Header::Naga, Header::Browser].map(|h| text(&kernel, "vulkan", h));
    assert!(browser.contains("enable subgroups;") && !naga.contains("enable subgroups;"));
    assert_eq!(strip(naga), strip(browser));
}

#[test]
fn names_that_mean_something_to_wgsl_are_changed() {
    let source = "kernel fn { sym array in 1..=9; arg loop: f32; buf storage: f32[array] update; buf __x: f32[4] read
      phase main grid(vec4: array) group 1 { let bitcast = storage[vec4] * loop; var lane_: f32 = bitcast + __x[0]
        for group_id in 0..2 { lane_ = lane_ + f32(group_id) }
        storage[vec4] = lane_ } }";
    let kernel = parse(source, "names").unwrap_or_else(|d| panic!("{d}")).remove(0);
    let text = text(&kernel, "webgpu", Header::Naga);
    assert!(text.contains("bitcast_2") && text.contains("array_2: u32"), "{text}");
}

#[test]
fn naga_says_why_it_refuses() {
    let profile = gpu_profiles::by_name("webgpu").unwrap();
    let refused = wgsl::validate("fn f() { let x = 1u + 1i; }", &profile).unwrap_err();
    assert_eq!(refused.id, 821);
    assert!(refused.notes[0].contains("1i"), "{refused}");
    let needs_f16 = "enable f16;\nfn f() { var x: f16; }";
    assert!(wgsl::validate(needs_f16, &profile).is_err());
    assert!(wgsl::validate(needs_f16, &gpu_profiles::by_name("vulkan").unwrap()).is_ok());
}
