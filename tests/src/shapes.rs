//! Models of known shapes without weights: what plans, partitions and stages are measured on.

use mlxc::source::Build;
use mlxc::{Context, DType, Module, trace};
use mlxc_examples::models::{text_encoder::TextEncoder, unet::UNet, vit::ViT};

/// A config of Llama's shape, in a folder of its own.
pub fn llama(config: &str, dtype: DType) -> Module {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.json"), config).expect("a config is written");
    let mut build = Build::new(folder.path());
    build.random_weights = Some(1);
    build.dtype = Some(dtype);
    build.trace().unwrap_or_else(|e| panic!("{e}"))
}

/// Llama 3.2 1B's config.
pub const LLAMA_1B: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":2048,
"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,
"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000.0,"max_position_embeddings":4096,
"tie_word_embeddings":true,"hidden_act":"silu","torch_dtype":"bfloat16"}"#;

/// Llama 3.1 8B's config.
pub const LLAMA_8B: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,
"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,
"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000.0,"max_position_embeddings":4096,
"tie_word_embeddings":false,"hidden_act":"silu","torch_dtype":"bfloat16"}"#;

/// A language model of two sizes, an encoder of texts, an image classifier and a denoiser.
pub fn all() -> Vec<(&'static str, Module)> {
    let traced = |name, model: &dyn Fn(&Context)| trace(name, model).unwrap_or_else(|e| panic!("{e}"));
    vec![
        ("Llama 1B, bf16", llama(LLAMA_1B, DType::BF16)),
        ("Llama 8B, bf16", llama(LLAMA_8B, DType::BF16)),
        ("MiniLM-L6, f32", traced("embed", &|cx| TextEncoder::mini_lm().trace(cx))),
        ("ViT-B/16, f32", traced("classify", &|cx| ViT::base().trace(cx))),
        ("U-Net 64x64, f32", traced("denoise", &|cx| UNet::base().trace(cx))),
    ]
}
