//! Configs as published checkpoints write them: all are read, and what they say arrives.

use mlxc::models::{Architecture, Config, Decoder, Encoder, EntryOptions, Pooling, Scaling, trace_model};
use mlxc::{DType, Options, Quantization};
use serde_json::json;

fn parse(text: &str) -> Config {
    Config::parse(text, "config.json").unwrap_or_else(|e| panic!("{e}"))
}

fn decoder(text: &str) -> Decoder {
    match parse(text).architecture {
        Architecture::Decoder(d) => d,
        Architecture::Encoder(_) => panic!("a decoder"),
    }
}

fn encoder(text: &str) -> Encoder {
    match parse(text).architecture {
        Architecture::Encoder(e) => e,
        Architecture::Decoder(_) => panic!("an encoder"),
    }
}

#[test]
fn llama_3_2() {
    let text = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256}"#;
    let d = decoder(text);
    assert!(d.tied && matches!(d.layers[0].rotary.scaling, Scaling::Llama3 { factor: 32.0, .. }));
    assert_eq!(parse(text).dtype, DType::BF16);
}

#[test]
fn mistral_7b() {
    let d = decoder(
        r#"{"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000}"#,
    );
    assert_eq!((d.head_dim, d.layers[31].window), (128, Some(4096)));
}

#[test]
fn qwen2_5() {
    let d = decoder(
        r#"{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1", "use_cache": true, "use_mrope": false, "use_sliding_window": false,
        "vocab_size": 151936}"#,
    );
    assert!(d.qkv_bias && !d.output_bias && d.layers.iter().all(|l| l.window.is_none()));
}

#[test]
fn qwen3_dense_and_mixture() {
    let d = decoder(
        r#"{"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 40960,
        "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
        "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}"#,
    );
    assert!(d.qk_norm && d.head_dim == 128);
    let d = decoder(
        r#"{"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 6144,
        "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128,
        "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}"#,
    );
    let e = d.layers[47].experts.expect("a mixture");
    assert_eq!((e.count, e.per_token, e.inner, e.normalize), (128, 8, 768, true));
}

#[test]
fn gemma_2_and_3() {
    let d = decoder(
        r#"{"architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16",
        "transformers_version": "4.42.4", "use_cache": true, "vocab_size": 256000}"#,
    );
    assert!(d.tied && d.embedding_scale == 48.0 && d.score_cap == Some(50.0) && d.scale == 1.0 / 16.0);
    let d = decoder(
        r#"{"architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152, "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262144}"#,
    );
    let layers: Vec<_> = d.layers[4..6].iter().map(|l| (l.window, l.rotary.theta)).collect();
    assert_eq!(layers, [(Some(512), 1e4), (None, 1e6)]);
}

#[test]
fn phi_3_and_4() {
    let factors = vec!["1.0"; 48].join(", ");
    let text = |kind: &str| {
        format!(
            r#"{{"architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "auto_map": {{"AutoConfig": "configuration_phi3.Phi3Config"}}, "bos_token_id": 1, "embd_pdrop": 0.0,
            "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
            "intermediate_size": 8192, "max_position_embeddings": 131072, "model_type": "phi3",
            "num_attention_heads": {kind}, "num_hidden_layers": 32, "original_max_position_embeddings": 4096,
            "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
            "rope_scaling": {{"long_factor": [{factors}], "short_factor": [{factors}], "type": "longrope"}},
            "sliding_window": 262144, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "transformers_version": "4.40.2", "use_cache": true, "vocab_size": 32064}}"#
        )
    };
    // Heads of 96 features, all rotated; heads of 128 with three quarters rotated.
    let mini = decoder(&text("32, \"num_key_value_heads\": 32"));
    let four = "24, \"num_key_value_heads\": 8, \"partial_rotary_factor\": 0.75, \"full_attn_mod\": 1,
        \"interpolate_factor\": 1, \"lm_head_bias\": false, \"mlp_bias\": false";
    let four = decoder(&text(four));
    assert_eq!((mini.head_dim, mini.layers[0].rotary.dims), (96, 96));
    assert_eq!((four.head_dim, four.layers[0].rotary.dims), (128, 96));
    let Scaling::LongRope { trained: 4096, magnitude, .. } = four.layers[0].rotary.scaling else { panic!("longrope") };
    assert!((magnitude - 1.190_238_1).abs() < 1e-6, "{magnitude}");
}

#[test]
fn mixtral_8x7b() {
    let d = decoder(
        r#"{"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32,
        "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000}"#,
    );
    let e = d.layers[0].experts.expect("a mixture");
    assert_eq!((e.count, e.per_token, e.inner, e.normalize), (8, 2, 14336, true));
}

const MINILM: &str = r#"{"_name_or_path": "nreimers/MiniLM-L6-H384-uncased", "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": false, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 384, "initializer_range": 0.02, "intermediate_size": 1536,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
    "num_hidden_layers": 6, "pad_token_id": 0, "position_embedding_type": "absolute",
    "transformers_version": "4.8.2", "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522}"#;

#[test]
fn minilm() {
    let e = encoder(MINILM);
    assert_eq!((e.prefix.as_str(), e.layers, e.pooling, e.normalize), ("", 6, Pooling::Mean, true));
    assert_eq!(encoder(&MINILM.replace("BertModel", "BertForMaskedLM")).prefix, "bert.");
}

#[test]
fn pooling_and_modules_of_sentence_transformers() {
    let mut e = encoder(MINILM);
    let pooling = |cls: bool, mean: bool, max: bool| {
        format!(
            r#"{{"word_embedding_dimension": 384, "pooling_mode_cls_token": {cls}, "pooling_mode_mean_tokens": {mean},
            "pooling_mode_max_tokens": {max}, "pooling_mode_mean_sqrt_len_tokens": false}}"#
        )
    };
    e.read_pooling(&pooling(true, false, false), "p.json").expect("cls");
    assert_eq!(e.pooling, Pooling::First);
    e.read_pooling(&pooling(false, true, false), "p.json").expect("mean");
    assert_eq!(e.pooling, Pooling::Mean);
    for (text, id) in [(pooling(false, true, true), 910), (pooling(false, false, false), 910), ("[".into(), 911)] {
        assert_eq!(e.read_pooling(&text, "p.json").expect_err("refused").id, id);
    }
    let module =
        |kind: &str| format!(r#"{{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.{kind}"}}"#);
    let list = |kinds: &[&str]| format!("[{}]", kinds.iter().map(|k| module(k)).collect::<Vec<_>>().join(", "));
    e.read_modules(&list(&["Transformer", "Pooling"]), "m.json").expect("known modules");
    assert!(!e.normalize);
    e.read_modules(&list(&["Transformer", "Pooling", "Normalize"]), "m.json").expect("known modules");
    assert!(e.normalize);
    assert_eq!(e.read_modules(&list(&["Transformer", "Dense"]), "m.json").expect_err("refused").id, 910);
    assert_eq!(e.read_modules("{}", "m.json").expect_err("refused").id, 911);
}

#[test]
fn a_token_takes_no_more_experts_than_there_are() {
    let text = |n: u32| {
        format!(
            r#"{{"model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 8,
            "num_hidden_layers": 2, "vocab_size": 99, "num_experts_per_tok": {n}}}"#
        )
    };
    decoder(&text(8));
    assert_eq!(Config::parse(&text(9), "config.json").expect_err("refused").id, 910);
}

/// A width past what a task's group memory holds is refused before it is counted in u32.
#[test]
fn widths_past_group_memory() {
    let config = json!({"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 1i64 << 31, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 20});
    let config = Config::parse(&config.to_string(), "config.json").unwrap_or_else(|e| panic!("{e}"));
    let options = EntryOptions::new(DType::BF16, 4, 8);
    let module = trace_model(&config, options, &Quantization::default()).unwrap_or_else(|e| panic!("{e}"));
    let e = mlxc::compile(&module, &Options::for_host().unwrap_or_else(|e| panic!("{e}"))).err().expect("refused");
    assert_eq!(e.0[0].id, 320, "{e}");
    assert!(e.to_string().contains("group memory"), "{e}");
}

#[test]
fn heads_too_wide_to_rotate() {
    let config = json!({"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 1, "head_dim": 1i64 << 31, "vocab_size": 20});
    let e = Config::parse(&config.to_string(), "config.json").expect_err("refused");
    assert_eq!(e.id, 910, "{e}");
    assert!(e.to_string().contains("head_dim"), "{e}");
}
