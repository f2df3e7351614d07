//! The Llama family: prefill, decode and score over one set of weights and states.

use super::config::Config;
use crate::error::Errors;
use crate::nn::{Attention, AttentionConfig, Embedding, Linear, MLP, RMSNorm, RoPE, last_row};
use crate::trace::{Array, Context, trace_module};
use mlxc_ir::graph::Module;
use mlxc_ir::{DType, Diagnostic};

/// Sizes that are the user's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryOptions {
    /// dtype of weights, activations and state.
    pub dtype: DType,
    /// Tokens of one prefill or score step, at most.
    pub chunk: i64,
    /// Tokens the key-value state holds.
    pub context: i64,
}

/// Traces the three entries of a Llama.
///
/// Each takes `tokens i32[S]` and `position i32[]`, the position of the first token. `prefill` and `decode` (`S = 1`) give
/// `logits f32[vocabulary]` of the last token; `score` gives `logits f32[S, vocabulary]`.
///
/// # Errors
/// `MLXC0913` for a chunk or context of no use, and what tracing says.
pub fn trace_llama(config: &Config, options: EntryOptions) -> Result<Module, Errors> {
    if options.chunk < 1 || options.context < 1 || options.context > 1 << 24 {
        return Err(Diagnostic::new(913, "the context or chunk size is out of range")
            .expected("a chunk of at least 1 and a context of 1 to 2^24 tokens")
            .found(format!("chunk {}, context {}", options.chunk, options.context))
            .into());
    }
    let chunk = options.chunk.min(options.context);
    trace_module(|m| {
        m.entry("prefill", |cx| {
            let s = cx.dim("S", 1..=chunk);
            let tokens = cx.input("tokens", DType::I32, [s]);
            let model = Llama::new(cx, config, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&last_row(&hidden)).reshape([config.vocab_size]));
        });
        m.entry("decode", |cx| {
            let tokens = cx.input("tokens", DType::I32, [1]);
            let model = Llama::new(cx, config, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&hidden).reshape([config.vocab_size]));
        });
        m.entry("score", |cx| {
            let s = cx.dim("S", 1..=chunk);
            let tokens = cx.input("tokens", DType::I32, [s]);
            let model = Llama::new(cx, config, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&hidden));
        });
    })
}

struct Layer {
    input_layernorm: RMSNorm,
    self_attn: Attention,
    post_attention_layernorm: RMSNorm,
    mlp: MLP,
}

struct Llama {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RMSNorm,
    lm_head: Option<Linear>,
    position: Array,
}

impl Llama {
    fn new(cx: &Context, c: &Config, options: EntryOptions) -> Self {
        let dtype = options.dtype;
        let position = cx.scalar("position", 0..=options.context - 1);
        let rope = RoPE {
            dims: c.head_dim as u32,
            traditional: false,
            base: c.rope_theta,
            frequencies: c.rope_frequencies.clone(),
        };
        let attention = AttentionConfig {
            hidden: c.hidden_size,
            heads: c.num_attention_heads,
            kv_heads: c.num_key_value_heads,
            head_dim: c.head_dim,
            qkv_bias: c.attention_bias,
            output_bias: c.attention_bias,
            rope,
            capacity: options.context,
        };
        let norm = |name: &str| RMSNorm::new(cx, name, c.hidden_size, c.rms_norm_eps, dtype);
        let layer = |i: i64| {
            let p = format!("model.layers.{i}");
            Layer {
                input_layernorm: norm(&format!("{p}.input_layernorm")),
                self_attn: Attention::new(cx, &format!("{p}.self_attn"), &attention, dtype),
                post_attention_layernorm: norm(&format!("{p}.post_attention_layernorm")),
                mlp: MLP::new(
                    cx,
                    &format!("{p}.mlp"),
                    c.hidden_size,
                    c.intermediate_size,
                    c.mlp_bias,
                    c.activation,
                    dtype,
                ),
            }
        };
        Llama {
            embed_tokens: Embedding::new(cx, "model.embed_tokens", c.vocab_size, c.hidden_size, dtype),
            layers: (0..c.num_hidden_layers).map(layer).collect(),
            norm: norm("model.norm"),
            lm_head: (!c.tie_word_embeddings)
                .then(|| Linear::new(cx, "lm_head", c.hidden_size, c.vocab_size, false, dtype)),
            position,
        }
    }

    fn hidden(&self, cx: &Context, tokens: &Array) -> Array {
        let mut x = self.embed_tokens.forward(tokens);
        for layer in &self.layers {
            let y = layer.self_attn.forward(cx, &layer.input_layernorm.forward(&x), &self.position);
            let residual = (&x + &y).named("residual");
            let y = layer.mlp.forward(&layer.post_attention_layernorm.forward(&residual));
            x = (&residual + &y).named("hidden");
        }
        x
    }

    fn logits(&self, hidden: &Array) -> Array {
        let x = self.norm.forward(hidden);
        let y = match &self.lm_head {
            Some(head) => head.forward(&x),
            None => self.embed_tokens.as_linear(&x),
        };
        y.astype(DType::F32)
    }
}
