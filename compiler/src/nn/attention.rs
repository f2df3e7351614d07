//! Self-attention over a key-value state.

use super::cache::Cache;
use super::joined::Joined;
use super::{Linear, RMSNorm, RoPE};
use crate::trace::{Array, Context, Scoring};
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
    /// q, k and v are one weight, `qkv_proj`, in this order.
    pub fused: bool,
    /// Queries and keys are normed head by head, with this epsilon.
    pub qk_norm: Option<f64>,
    /// Those norms multiply by `1 + weight`.
    pub norm_shifted: bool,
    /// Factor on the scores.
    pub scale: f64,
    /// Cap on the scores.
    pub softcap: Option<f64>,
    /// Keys a query sees, itself the last.
    pub window: Option<u32>,
    /// Positions.
    pub rope: RoPE,
    /// Tokens the key-value state holds.
    pub capacity: i64,
}

impl AttentionConfig {
    /// Grouped queries without bias, norms or limits.
    pub fn new(hidden: i64, heads: i64, kv_heads: i64, head_dim: i64, rope: RoPE, capacity: i64) -> Self {
        AttentionConfig {
            hidden,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: false,
            output_bias: false,
            fused: false,
            qk_norm: None,
            norm_shifted: false,
            scale: 1.0 / (head_dim as f64).sqrt(),
            softcap: None,
            window: None,
            rope,
            capacity,
        }
    }
}

/// Self-attention with grouped queries, rotary positions and a key-value state.
#[derive(Clone)]
pub struct Attention {
    projections: Joined,
    norms: Option<(RMSNorm, RMSNorm)>,
    o_proj: Linear,
    keys: Cache,
    values: Cache,
    config: AttentionConfig,
}

impl Attention {
    /// Declares `prefix.{q,k,v,o}_proj` (or `prefix.{qkv,o}_proj`), `prefix.{q,k}_norm` where heads are normed, and the
    /// states `prefix.keys` and `prefix.values` (8-bit codes, where the module asks for them).
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, config: &AttentionConfig, dtype: DType) -> Self {
        let c = config;
        let (queries, shared) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let parts = [("q_proj", queries), ("k_proj", shared), ("v_proj", shared)];
        let fused = c.fused.then_some("qkv_proj");
        let norms = c.qk_norm.map(|eps| {
            let norm = |name: &str| {
                let norm = RMSNorm::new(cx, &format!("{prefix}.{name}"), c.head_dim, eps, dtype);
                if c.norm_shifted { norm.shifted() } else { norm }
            };
            (norm("q_norm"), norm("k_norm"))
        });
        let cache = [1, c.kv_heads, c.capacity, c.head_dim];
        Attention {
            projections: Joined::new(cx, prefix, &parts, fused, c.hidden, c.qkv_bias, dtype),
            norms,
            o_proj: Linear::new(cx, &format!("{prefix}.o_proj"), queries, c.hidden, c.output_bias, dtype),
            keys: Cache::new(cx, &format!("{prefix}.keys"), dtype, cache),
            values: Cache::new(cx, &format!("{prefix}.values"), dtype, cache),
            config: config.clone(),
        }
    }

    /// `x [S, hidden]` at positions `position..position + S`, attending to what was before and to itself.
    #[track_caller]
    pub fn forward(&self, cx: &Context, x: &Array, position: &Array) -> Array {
        let c = &self.config;
        let s = x.dim(0);
        let parts = self.projections.forward(x);
        let heads = |i: usize, n: i64| parts[i].reshape((1, &s, n, c.head_dim));
        let (mut q, mut k, v) = (heads(0, c.heads), heads(1, c.kv_heads), heads(2, c.kv_heads));
        if let Some((q_norm, k_norm)) = &self.norms {
            (q, k) = (q_norm.forward(&q), k_norm.forward(&k));
        }
        let [q, k, v] = [q, k, v].map(|y| y.transpose([0, 2, 1, 3]));
        let q = c.rope.forward(cx, &q, position).named("queries");
        let k = c.rope.forward(cx, &k, position);
        let k = self.keys.update(&k, position).named("keys");
        let v = self.values.update(&v, position).named("values");
        let how = Scoring {
            scale: c.scale,
            causal: true,
            mask: None,
            offset: Some(position),
            window: c.window,
            softcap: c.softcap,
        };
        let y = q.scaled_dot_product_attention(&k, &v, &how);
        let y = y.transpose([0, 2, 1, 3]).reshape((&s, c.heads * c.head_dim)).named("attention");
        self.o_proj.forward(&y)
    }
}
