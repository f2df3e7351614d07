//! Decoders: prefill, decode and score over one set of weights and states.
//!
//! A family says what differs as data; the layers are composed here, once.

use super::entries::EntryOptions;
use super::reader::Reader;
use super::rope::{self, Rotary};
use crate::error::Errors;
use crate::nn::{
    Attention, AttentionConfig, Embedding, Linear, MLP, MLPConfig, RMSNorm, SparseMoe, SparseMoeConfig, last_row,
};
use crate::trace::{Array, Context, ModuleTracer};
use mlxc_ir::graph::Activation;
use mlxc_ir::{DType, Diagnostic};
use serde_json::Value;

/// A decoder's sizes and arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Inner width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Features of a head.
    pub head_dim: i64,
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: i64,
    /// Added to the mean of squares in norms.
    pub rms_norm_eps: f64,
    /// Norms multiply by `1 + weight`.
    pub norm_shifted: bool,
    /// Norms stand behind attention and feed-forward layers too.
    pub sandwich: bool,
    /// Queries and keys of each head are normed.
    pub qk_norm: bool,
    /// Bias on the projections of q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection of attention.
    pub output_bias: bool,
    /// Bias on the feed-forward projections.
    pub mlp_bias: bool,
    /// q, k and v are one weight, and gate and up are.
    pub fused: bool,
    /// Activation of the gate.
    pub activation: Activation,
    /// Factor on attention scores.
    pub scale: f64,
    /// Cap on attention scores.
    pub score_cap: Option<f64>,
    /// Cap on logits.
    pub logit_cap: Option<f64>,
    /// Factor on embeddings.
    pub embedding_scale: f64,
    /// The output head is the embedding.
    pub tied: bool,
    /// What differs from layer to layer.
    pub layers: Vec<DecoderLayer>,
}

/// What differs from layer to layer.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderLayer {
    /// Keys a query sees, itself the last.
    pub window: Option<u32>,
    /// Positions.
    pub rotary: Rotary,
    /// The feed-forward layer is a mixture.
    pub experts: Option<Experts>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// The layer's name in checkpoints.
    pub name: &'static str,
    /// Experts.
    pub count: i64,
    /// Experts of a token.
    pub per_token: i64,
    /// Width between the products of one.
    pub inner: i64,
    /// The weights of a token's experts are divided by their sum.
    pub normalize: bool,
}

/// Most experts of a token: each is one more step of choosing.
const MOST_PER_TOKEN: i64 = 64;

impl Experts {
    /// Checks that there are as many experts as a token takes; `count` comes with its key.
    pub(super) fn new(
        r: &Reader<'_>,
        name: &'static str,
        count: (&str, i64),
        per_token: i64,
        inner: i64,
        normalize: bool,
    ) -> Result<Self, Diagnostic> {
        if per_token > count.1.min(MOST_PER_TOKEN) {
            let expected = format!("at most {MOST_PER_TOKEN} and `{}`, which is {}", count.0, count.1);
            return Err(r.wrong("num_experts_per_tok", &expected, &Value::from(per_token)));
        }
        Ok(Experts { name, count: count.1, per_token, inner, normalize })
    }
}

/// What a family takes where a file does not say.
pub(super) struct Defaults {
    pub kv_heads: Option<i64>,
    pub head_dim: Option<i64>,
    pub theta: f64,
    pub eps: f64,
    pub longest: i64,
    pub tied: bool,
    pub activation: (&'static str, Activation),
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            kv_heads: None,
            head_dim: None,
            theta: 10000.0,
            eps: 1e-6,
            longest: 2048,
            tied: false,
            activation: ("hidden_act", Activation::Silu),
        }
    }
}

impl Decoder {
    /// Reads the keys that all families share; every layer sees everything.
    pub(super) fn read(r: &Reader<'_>, defaults: &Defaults) -> Result<Self, Diagnostic> {
        let mut d = Self::read_sizes(r, defaults)?;
        let rotary = rope::read(r, d.head_dim, defaults.theta, d.max_position_embeddings)?;
        d.layers.iter_mut().for_each(|l| l.rotary = rotary.clone());
        Ok(d)
    }

    /// The same without the keys of rotary positions, which stand at the default base.
    pub(super) fn read_sizes(r: &Reader<'_>, defaults: &Defaults) -> Result<Self, Diagnostic> {
        let hidden_size = r.need("hidden_size")?;
        let heads = r.need("num_attention_heads")?;
        let kv_heads = r.int("num_key_value_heads")?.or(defaults.kv_heads).unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(r.wrong("num_key_value_heads", &format!("a divisor of {heads}"), &Value::from(kv_heads)));
        }
        let head_dim = match r.int("head_dim")?.or(defaults.head_dim) {
            Some(d) => d,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => return Err(r.refuse("head_dim", "a number, as heads do not divide the width")),
        };
        let rotary = rope::plain(r, head_dim, defaults.theta, None)?;
        let layers = vec![DecoderLayer { window: None, rotary, experts: None }; r.layers()?];
        Ok(Decoder {
            hidden_size,
            intermediate_size: r.need("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            vocab_size: r.need("vocab_size")?,
            max_position_embeddings: r.int("max_position_embeddings")?.unwrap_or(defaults.longest),
            rms_norm_eps: r.real("rms_norm_eps")?.unwrap_or(defaults.eps),
            norm_shifted: false,
            sandwich: false,
            qk_norm: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            fused: false,
            activation: r.activation(defaults.activation.0, defaults.activation.1)?,
            scale: 1.0 / (head_dim as f64).sqrt(),
            score_cap: None,
            logit_cap: None,
            embedding_scale: 1.0,
            tied: r.flag("tie_word_embeddings", defaults.tied)?,
            layers,
        })
    }

    /// Gives a window to the layers that `layer_types` names, or to those of the pattern.
    pub(super) fn slide(
        &mut self,
        r: &Reader<'_>,
        window: Option<i64>,
        pattern: impl Fn(usize) -> bool,
    ) -> Result<(), Diagnostic> {
        const EXPECTED: &str = "full_attention or sliding_attention, one for each layer";
        let types = match r.get("layer_types") {
            None => None,
            Some(Value::Array(list)) if list.len() == self.layers.len() => Some(list),
            Some(_) => return Err(r.refuse("layer_types", EXPECTED)),
        };
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let slides = match types.map(|t| t[i].as_str()) {
                None => pattern(i),
                Some(Some("sliding_attention")) => true,
                Some(Some("full_attention")) => false,
                Some(_) => return Err(r.refuse("layer_types", EXPECTED)),
            };
            if slides {
                let w = window.ok_or_else(|| r.refuse("sliding_window", "a number, as layers slide"))?;
                layer.window = Some(w as u32);
            }
        }
        Ok(())
    }

    /// Traces the entries `prefill`, `decode` and `score`.
    pub(super) fn trace(&self, m: &ModuleTracer, options: EntryOptions) -> Result<(), Errors> {
        let ropes = self.layers.iter().map(|l| l.rotary.layer(options.context)).collect::<Result<Vec<_>, _>>()?;
        let attention: Vec<AttentionConfig> = self
            .layers
            .iter()
            .zip(ropes)
            .map(|(l, rope)| AttentionConfig {
                qkv_bias: self.qkv_bias,
                output_bias: self.output_bias,
                fused: self.fused,
                qk_norm: self.qk_norm.then_some(self.rms_norm_eps),
                norm_shifted: self.norm_shifted,
                scale: self.scale,
                softcap: self.score_cap,
                window: l.window,
                ..AttentionConfig::new(
                    self.hidden_size,
                    self.heads,
                    self.kv_heads,
                    self.head_dim,
                    rope,
                    options.context,
                )
            })
            .collect();
        m.entry("prefill", |cx| {
            let s = cx.dim("S", 1..=options.chunk);
            let tokens = cx.input("tokens", DType::I32, [s]);
            let model = Model::new(cx, self, &attention, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&last_row(&hidden)).reshape([self.vocab_size]));
        });
        m.entry("decode", |cx| {
            let tokens = cx.input("tokens", DType::I32, [1]);
            let model = Model::new(cx, self, &attention, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&hidden).reshape([self.vocab_size]));
        });
        m.entry("score", |cx| {
            let s = cx.dim("S", 1..=options.chunk);
            let tokens = cx.input("tokens", DType::I32, [s]);
            let model = Model::new(cx, self, &attention, options);
            let hidden = model.hidden(cx, &tokens);
            cx.output("logits", &model.logits(&hidden));
        });
        Ok(())
    }
}

struct Layer {
    input_layernorm: RMSNorm,
    self_attn: Attention,
    post_attention_layernorm: RMSNorm,
    /// Norms before and after the feed-forward layer, where the one after attention stands on its result.
    feedforward: Option<(RMSNorm, RMSNorm)>,
    mlp: FeedForward,
}

enum FeedForward {
    Dense(MLP),
    Mixture(Box<SparseMoe>),
}

impl FeedForward {
    fn forward(&self, x: &Array) -> Array {
        match self {
            FeedForward::Dense(mlp) => mlp.forward(x),
            FeedForward::Mixture(moe) => moe.forward(x),
        }
    }
}

impl Layer {
    fn new(cx: &Context, d: &Decoder, attention: &AttentionConfig, i: usize, dtype: DType) -> Self {
        let p = format!("model.layers.{i}");
        let norm = |name: &str| d.norm(cx, &format!("{p}.{name}"), dtype);
        let mlp = match d.layers[i].experts {
            None => {
                let config = MLPConfig {
                    hidden: d.hidden_size,
                    inner: d.intermediate_size,
                    bias: d.mlp_bias,
                    fused: d.fused,
                    activation: d.activation,
                };
                FeedForward::Dense(MLP::new(cx, &format!("{p}.mlp"), &config, dtype))
            }
            Some(e) => {
                let config = SparseMoeConfig {
                    hidden: d.hidden_size,
                    inner: e.inner,
                    experts: e.count,
                    top_k: e.per_token,
                    normalize: e.normalize,
                    activation: d.activation,
                };
                FeedForward::Mixture(Box::new(SparseMoe::new(cx, &format!("{p}.{}", e.name), &config, dtype)))
            }
        };
        Layer {
            input_layernorm: norm("input_layernorm"),
            self_attn: Attention::new(cx, &format!("{p}.self_attn"), attention, dtype),
            post_attention_layernorm: norm("post_attention_layernorm"),
            feedforward: d.sandwich.then(|| (norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm"))),
            mlp,
        }
    }

    fn forward(&self, cx: &Context, x: &Array, position: &Array) -> Array {
        let y = self.self_attn.forward(cx, &self.input_layernorm.forward(x), position);
        match &self.feedforward {
            None => {
                let residual = (x + &y).named("residual");
                let y = self.mlp.forward(&self.post_attention_layernorm.forward(&residual));
                (&residual + &y).named("hidden")
            }
            Some((before, after)) => {
                let residual = (x + &self.post_attention_layernorm.forward(&y)).named("residual");
                let y = self.mlp.forward(&before.forward(&residual));
                (&residual + &after.forward(&y)).named("hidden")
            }
        }
    }
}

impl Decoder {
    fn norm(&self, cx: &Context, name: &str, dtype: DType) -> RMSNorm {
        let norm = RMSNorm::new(cx, name, self.hidden_size, self.rms_norm_eps, dtype);
        if self.norm_shifted { norm.shifted() } else { norm }
    }
}

struct Model<'a> {
    config: &'a Decoder,
    dtype: DType,
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RMSNorm,
    lm_head: Option<Linear>,
    position: Array,
}

impl<'a> Model<'a> {
    fn new(cx: &Context, d: &'a Decoder, attention: &[AttentionConfig], options: EntryOptions) -> Self {
        let dtype = options.dtype;
        let position = cx.scalar("position", 0..=options.context - 1);
        Model {
            config: d,
            dtype,
            embed_tokens: Embedding::new(cx, "model.embed_tokens", d.vocab_size, d.hidden_size, dtype),
            layers: attention.iter().enumerate().map(|(i, a)| Layer::new(cx, d, a, i, dtype)).collect(),
            norm: d.norm(cx, "model.norm", dtype),
            lm_head: (!d.tied).then(|| Linear::new(cx, "lm_head", d.hidden_size, d.vocab_size, false, dtype)),
            position,
        }
    }

    fn hidden(&self, cx: &Context, tokens: &Array) -> Array {
        let mut x = self.embed_tokens.forward(tokens);
        if self.config.embedding_scale != 1.0 {
            // The factor has the dtype of the weights, as in training.
            x = x * cx.full([0i64; 0], self.config.embedding_scale, self.dtype);
        }
        self.layers.iter().fold(x, |x, layer| layer.forward(cx, &x, &self.position))
    }

    fn logits(&self, hidden: &Array) -> Array {
        let x = self.norm.forward(hidden);
        let y = match &self.lm_head {
            Some(head) => head.forward(&x),
            None => self.embed_tokens.as_linear(&x),
        };
        let y = y.astype(DType::F32);
        match self.config.logit_cap {
            Some(cap) => (y / cap).tanh() * cap,
            None => y,
        }
    }
}
