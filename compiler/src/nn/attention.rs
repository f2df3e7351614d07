//! Self-attention over a key-value state.

use super::{Linear, RoPE};
use crate::trace::{Array, Context, Scoring, State};
use mlxc_ir::DType;

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
        let y = q.scaled_dot_product_attention(
            &k,
            &v,
            &Scoring { scale, causal: true, offset: Some(position), ..Scoring::default() },
        );
        let y = y.transpose([0, 2, 1, 3]).reshape((&s, c.heads * c.head_dim)).named("attention");
        self.o_proj.forward(&y)
    }
}
