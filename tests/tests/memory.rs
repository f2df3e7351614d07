//! How far arenas are from their lower bounds, on models that people run, and what fusion takes off the bound.
//!
//! `MLXC_BLESS=1 cargo test -p mlxc-tests --test memory` writes the table of `docs/src/planning.md` anew.

use mlxc::pipeline::{Options, plan};
use mlxc::report::{EntryReport, human, report};
use mlxc::source::Build;
use mlxc::{DType, Module, trace};
use mlxc_examples::models::{text_encoder::TextEncoder, unet::UNet, vit::ViT};

/// A config of Llama's shape, in a folder of its own.
fn llama(config: &str, dtype: DType) -> Module {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.json"), config).expect("a config is written");
    let mut build = Build::new(folder.path());
    build.random_weights = Some(1);
    build.dtype = Some(dtype);
    build.trace().unwrap_or_else(|e| panic!("{e}"))
}

const LLAMA_1B: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":2048,
"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,
"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000.0,"max_position_embeddings":4096,
"tie_word_embeddings":true,"hidden_act":"silu","torch_dtype":"bfloat16"}"#;

const LLAMA_8B: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,
"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,
"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000.0,"max_position_embeddings":4096,
"tie_word_embeddings":false,"hidden_act":"silu","torch_dtype":"bfloat16"}"#;

/// The entries of a module, compiled for a fixed target.
fn entries(module: &Module, fuse: bool) -> Vec<EntryReport> {
    let mut options = Options::for_target("x86-64-v4-bf16").unwrap_or_else(|e| panic!("{e}"));
    options.fuse = fuse;
    let (scheduled, _) = plan(module, &options).unwrap_or_else(|e| panic!("{e}"));
    report(&scheduled.plan).entries
}

#[test]
fn arenas_meet_their_lower_bounds() {
    let traced = |name, model: &dyn Fn(&mlxc::Context)| trace(name, model).unwrap_or_else(|e| panic!("{e}"));
    let models = [
        ("Llama 1B, bf16", llama(LLAMA_1B, DType::BF16)),
        ("Llama 8B, bf16", llama(LLAMA_8B, DType::BF16)),
        ("MiniLM-L6, f32", traced("embed", &|cx| TextEncoder::mini_lm().trace(cx))),
        ("ViT-B/16, f32", traced("classify", &|cx| ViT::base().trace(cx))),
        ("U-Net 64x64, f32", traced("denoise", &|cx| UNet::base().trace(cx))),
    ];
    let mut table = String::new();
    let mut missed = Vec::new();
    for (name, module) in &models {
        let (fused, apart) = (entries(module, true), entries(module, false));
        for (e, plain) in fused.iter().zip(&apart) {
            let ratio = e.scratch_bytes as f64 / e.lower_bound_bytes.max(1) as f64;
            table.push_str(&format!(
                "| {name} | {} | {} | {} | {ratio:.3} | {} | {} | {:.2} |\n",
                e.name,
                e.launches,
                human(e.scratch_bytes),
                human(plain.lower_bound_bytes),
                plain.launches,
                e.lower_bound_bytes as f64 / plain.lower_bound_bytes.max(1) as f64,
            ));
            if e.scratch_bytes > e.lower_bound_bytes {
                missed.push(format!("{name}, {}: {ratio}", e.name));
            }
        }
    }
    println!("{table}");
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn dbg_unet() {
    let module = trace("denoise", |cx| UNet::base().trace(cx)).unwrap_or_else(|e| panic!("{e}"));
    let options = Options::for_target("x86-64-v4-bf16").unwrap_or_else(|e| panic!("{e}"));
    let (s, times) = plan(&module, &options).unwrap_or_else(|e| panic!("{e}"));
    println!("{times:?}");
    println!("{}", mlxc::report::memory(&s.plan.entries[0]));
    println!(
        "{}",
        mlxc::report::kernels(&s.plan, &s.plan.entries[0])
            .lines()
            .filter(|l| !l.contains("from:"))
            .take(400)
            .collect::<Vec<_>>()
            .join("\n")
    );
}
