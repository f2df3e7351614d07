//! Layers, named and parameterised as Hugging Face checkpoints name them.
//!
//! A layer is a handful of handles: making one declares its weights under a prefix, calling it traces its arithmetic.

use crate::trace::{Array, Context, Dim, State};
use mlxc_ir::DType;
use mlxc_ir::graph::Activation;

/// `x @ weight.T + bias`; weight is `[outputs, inputs]`.
#[derive(Clone)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Array,
    /// `[outputs]`.
    pub bias: Option<Array>,
    name: String,
}

impl Linear {
    /// Declares `prefix.weight` and, if wanted, `prefix.bias`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, inputs: i64, outputs: i64, bias: bool, dtype: DType) -> Self {
        let weight = cx.weight(&format!("{prefix}.weight"), dtype, [outputs, inputs]);
        let bias = bias.then(|| cx.weight(&format!("{prefix}.bias"), dtype, [outputs]));
        Linear { weight, bias, name: last(prefix) }
    }

    /// `[.., inputs]` to `[.., outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = x.matmul(&self.weight.t()).named(&self.name);
        match &self.bias {
            Some(b) => y + b,
            None => y,
        }
    }
}

fn last(prefix: &str) -> String {
    prefix.rsplit('.').next().unwrap_or(prefix).to_string()
}

/// Rows of a table by token id.
#[derive(Clone)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: Array,
}

impl Embedding {
    /// Declares `prefix.weight`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, vocabulary: i64, width: i64, dtype: DType) -> Self {
        Embedding { weight: cx.weight(&format!("{prefix}.weight"), dtype, [vocabulary, width]) }
    }

    /// Integer ids `[..]` to `[.., width]`.
    #[track_caller]
    pub fn forward(&self, ids: &Array) -> Array {
        self.weight.take(ids, 0).named("embedding")
    }

    /// `[.., width]` to `[.., vocabulary]`: the tied output head.
    #[track_caller]
    pub fn as_linear(&self, x: &Array) -> Array {
        x.matmul(&self.weight.t()).named("head")
    }
}

/// Root-mean-square norm over the last axis.
#[derive(Clone)]
pub struct RMSNorm {
    /// `[width]`.
    pub weight: Array,
    /// Added to the mean of squares.
    pub eps: f64,
    name: String,
}

impl RMSNorm {
    /// Declares `prefix.weight`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, width: i64, eps: f64, dtype: DType) -> Self {
        RMSNorm { weight: cx.weight(&format!("{prefix}.weight"), dtype, [width]), eps, name: last(prefix) }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        x.rms_norm(Some(&self.weight), self.eps).named(&self.name)
    }
}

/// Layer norm over the last axis.
#[derive(Clone)]
pub struct LayerNorm {
    /// `[width]`.
    pub weight: Array,
    /// `[width]`.
    pub bias: Option<Array>,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// Declares `prefix.weight` and, if wanted, `prefix.bias`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, width: i64, eps: f64, bias: bool, dtype: DType) -> Self {
        let weight = cx.weight(&format!("{prefix}.weight"), dtype, [width]);
        let bias = bias.then(|| cx.weight(&format!("{prefix}.bias"), dtype, [width]));
        LayerNorm { weight, bias, eps }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        x.layer_norm(Some(&self.weight), self.bias.as_ref(), self.eps)
    }
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RoPE {
    /// Rotated features.
    pub dims: u32,
    /// Rotate neighbours instead of halves.
    pub traditional: bool,
    /// Base of the frequencies.
    pub base: f64,
    /// Frequencies that replace those of the base: `dims / 2` of them, in radians a position.
    pub frequencies: Option<Vec<f32>>,
}

impl RoPE {
    /// Rotates `[.., S, D]` for positions `offset + s`.
    #[track_caller]
    pub fn forward(&self, cx: &Context, x: &Array, offset: &Array) -> Array {
        let frequencies = self.frequencies.as_ref().map(|f| cx.constant(f, &[f.len() as i64]));
        x.rope(self.dims, self.traditional, self.base, offset, frequencies.as_ref())
    }
}

/// Sizes of an attention layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Width of the residual stream.
    pub hidden: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Features of a head.
    pub head_dim: i64,
    /// Bias on the projections of q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Positions.
    pub rope: RoPE,
    /// Tokens the key-value state holds.
    pub capacity: i64,
}

/// Self-attention with grouped queries, rotary positions and a key-value state.
#[derive(Clone)]
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    keys: State,
    values: State,
    config: AttentionConfig,
}

impl Attention {
    /// Declares `prefix.{q,k,v,o}_proj` and the states `prefix.keys` and `prefix.values`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, config: &AttentionConfig, dtype: DType) -> Self {
        let c = config;
        let linear = |name: &str, inputs: i64, outputs: i64, bias: bool| {
            Linear::new(cx, &format!("{prefix}.{name}"), inputs, outputs, bias, dtype)
        };
        let cache = [1, c.kv_heads, c.capacity, c.head_dim];
        Attention {
            q_proj: linear("q_proj", c.hidden, c.heads * c.head_dim, c.qkv_bias),
            k_proj: linear("k_proj", c.hidden, c.kv_heads * c.head_dim, c.qkv_bias),
            v_proj: linear("v_proj", c.hidden, c.kv_heads * c.head_dim, c.qkv_bias),
            o_proj: linear("o_proj", c.heads * c.head_dim, c.hidden, c.output_bias),
            keys: cx.state(&format!("{prefix}.keys"), dtype, cache),
            values: cx.state(&format!("{prefix}.values"), dtype, cache),
            config: config.clone(),
        }
    }

    /// `x [S, hidden]` at positions `position..position + S`, attending to everything up to itself.
    #[track_caller]
    pub fn forward(&self, cx: &Context, x: &Array, position: &Array) -> Array {
        let c = &self.config;
        let s = x.dim(0);
        let heads = |y: Array, n: i64| y.reshape((1, &s, n, c.head_dim)).transpose([0, 2, 1, 3]);
        let q = heads(self.q_proj.forward(x), c.heads);
        let k = heads(self.k_proj.forward(x), c.kv_heads);
        let v = heads(self.v_proj.forward(x), c.kv_heads);
        let q = c.rope.forward(cx, &q, position).named("queries");
        let k = c.rope.forward(cx, &k, position);
        let k = self.keys.update(&k, position, 2).named("keys");
        let v = self.values.update(&v, position, 2).named("values");
        let scale = 1.0 / (c.head_dim as f64).sqrt();
        let y = q.scaled_dot_product_attention(&k, &v, scale, true, None, Some(position));
        let y = y.transpose([0, 2, 1, 3]).reshape((&s, c.heads * c.head_dim)).named("attention");
        self.o_proj.forward(&y)
    }
}

/// Gated feed-forward layer: `down(activation(gate(x)) * up(x))`.
#[derive(Clone)]
pub struct MLP {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    activation: Activation,
}

impl MLP {
    /// Declares `prefix.{gate,up,down}_proj`.
    #[track_caller]
    pub fn new(
        cx: &Context,
        prefix: &str,
        hidden: i64,
        inner: i64,
        bias: bool,
        activation: Activation,
        dtype: DType,
    ) -> Self {
        let linear = |name: &str, i: i64, o: i64| Linear::new(cx, &format!("{prefix}.{name}"), i, o, bias, dtype);
        MLP {
            gate_proj: linear("gate_proj", hidden, inner),
            up_proj: linear("up_proj", hidden, inner),
            down_proj: linear("down_proj", inner, hidden),
            activation,
        }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let (gate, up) = (self.gate_proj.forward(x), self.up_proj.forward(x));
        self.down_proj.forward(&gate.gated(self.activation, &up).named("activated"))
    }
}

/// The last row of `[S, width]`, as `[1, width]`.
#[track_caller]
pub fn last_row(x: &Array) -> Array {
    let s: Dim = x.dim(0);
    x.slice(0, &s - 1, &s)
}
