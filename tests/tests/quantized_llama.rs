//! The trained Llama, quantised: checkpoints that MLX's tool quantised, and quantised as the package is written.

use mlxc::DType;
use mlxc::generate::TextModel;
use mlxc::pipeline::Activations;
use mlxc::source::Build;
use mlxc_runtime::LoadOptions;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(name)
}

fn expected() -> serde_json::Value {
    let path = fixture("kjv-llama/expected.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn loss(build: &Build) -> f64 {
    let package = build.package(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut model = TextModel::load(package, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let text = std::fs::read_to_string(fixture("kjv-llama/valid.txt")).unwrap_or_else(|e| panic!("{e}"));
    model.perplexity(&text, 256, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}")).mean_nll
}

fn sibling(bits: u32) -> PathBuf {
    fixture(&format!("kjv-llama-{bits}bit"))
}

/// Within 0.002 nats of what other software finds on the same quantised weights, in f32 and in bf16.
#[test]
fn loss_on_quantised_weights() {
    let expected = expected();
    for (bits, key) in [(4, "affine_4bit_g64"), (8, "affine_8bit_g64")] {
        let want = expected["loss"][key].as_f64().expect("a number");
        for dtype in [DType::F32, DType::BF16] {
            let mut stored = Build::new(sibling(bits));
            stored.dtype = Some(dtype);
            let mut made = Build::new(fixture("kjv-llama"));
            made.dtype = Some(dtype);
            made.quantize = Some(format!("{bits},64").parse().expect("a scheme"));
            for build in [stored, made] {
                let found = loss(&build);
                println!("{bits} bits {dtype} {}: {found:.6}, expected {want:.6}", build.model.display());
                assert!((found - want).abs() < 0.002, "{bits} bits {dtype}: {found}, expected {want}");
            }
        }
    }
}

/// What 8-bit activations cost in loss, on each target's own kernels.
#[test]
fn loss_with_8_bit_activations() {
    for (bits, most) in [(4, 0.01), (8, 0.005)] {
        let mut build = Build::new(sibling(bits));
        let exact = loss(&build);
        build.activations = Activations::Int8;
        let rounded = loss(&build);
        println!("{bits} bits: {exact:.6}, with 8-bit activations {rounded:.6}");
        assert!(rounded != exact, "{bits} bits: rounding changes results");
        assert!((rounded - exact).abs() < most, "{bits} bits: {rounded} with 8-bit activations, {exact} without");
    }
}

/// Every scheme runs the whole model; what it costs in loss falls with its bits.
#[test]
fn every_scheme_runs_the_model() {
    let dense = expected()["loss"]["f32"].as_f64().expect("a number");
    for (scheme, most) in [
        ("2,32", 6.0),
        ("3,64", 0.3),
        ("5,64", 0.03),
        ("6,64", 0.01),
        ("8,32", 0.003),
        ("mxfp4", 0.3),
        ("mxfp8", 0.05),
        ("nvfp4", 0.1),
    ] {
        let mut build = Build::new(fixture("kjv-llama"));
        build.quantize = Some(scheme.parse().expect("a scheme"));
        let found = loss(&build);
        println!("{scheme}: {found:.6}");
        assert!(found - dense < most && found > dense - 0.01, "{scheme}: {found}");
    }
}

/// Keys and values in 8-bit codes cost next to nothing, and less memory.
#[test]
fn states_in_codes() {
    let dense = expected()["loss"]["f32"].as_f64().expect("a number");
    for dtype in [DType::F32, DType::BF16] {
        let mut build = Build::new(fixture("kjv-llama"));
        (build.dtype, build.kv_bits) = (Some(dtype), Some(8));
        let found = loss(&build);
        println!("{dtype}: {found:.6}");
        assert!((found - dense).abs() < 0.001, "{dtype}: {found}, dense {dense}");
    }
    let bytes = |bits| {
        let mut build = Build::new(fixture("kjv-llama"));
        build.kv_bits = bits;
        let package = build.package(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        package.plan().states.iter().map(|s| s.bytes).sum::<u64>()
    };
    assert!(bytes(Some(8)) * 3 < bytes(None) * 2);
}

/// A checkpoint that is quantised is not quantised again; layers that are named stay dense.
#[test]
fn layers_by_name() {
    let mut again = Build::new(sibling(4));
    again.quantize = Some("8,64".parse().expect("a scheme"));
    assert_eq!(again.trace().expect_err("quantised already").0[0].id, 942);
    let mut mixed = Build::new(fixture("kjv-llama"));
    mixed.quantize = Some("4,64".parse().expect("a scheme"));
    mixed.quantize_layers =
        vec![("*down_proj".into(), None), ("*embed*".into(), Some("8,64".parse().expect("a scheme")))];
    let module = mixed.trace().unwrap_or_else(|e| panic!("{e}"));
    let words = |name: &str| {
        let w = module.weights.iter().find(|w| &*w.name == name).unwrap_or_else(|| panic!("{name}"));
        w.ty.const_shape().and_then(|s| s.last().copied()).unwrap_or(0)
    };
    assert_eq!(words("model.embed_tokens.weight"), 256 * 8 / 32);
    assert_eq!(words("model.layers.0.mlp.up_proj.weight"), 256 * 4 / 32);
    assert_eq!(words("model.layers.0.mlp.down_proj.weight"), 704);
}
