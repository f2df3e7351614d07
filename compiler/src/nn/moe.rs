//! Mixtures of experts: each token goes through the few feed-forward layers that a router likes best.

use super::{Linear, SwitchLinear};
use crate::trace::{Array, Context};
use mlxc_ir::DType;
use mlxc_ir::graph::Activation;

/// Sizes of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseMoeConfig {
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width between the products of an expert.
    pub inner: i64,
    /// Experts.
    pub experts: i64,
    /// Experts of a token.
    pub top_k: i64,
    /// The weights of a token's experts are divided by their sum.
    pub normalize: bool,
    /// Activation of the gate.
    pub activation: Activation,
}

/// A mixture of gated feed-forward layers.
#[derive(Clone)]
pub struct SparseMoe {
    gate: Linear,
    gate_proj: SwitchLinear,
    up_proj: SwitchLinear,
    down_proj: SwitchLinear,
    config: SparseMoeConfig,
}

impl SparseMoe {
    /// Declares `prefix.gate` and `prefix.switch_mlp.{gate,up,down}_proj`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, config: &SparseMoeConfig, dtype: DType) -> Self {
        let c = *config;
        let switch = |name: &str, i: i64, o: i64| {
            SwitchLinear::new(cx, &format!("{prefix}.switch_mlp.{name}"), c.experts, i, o, dtype)
        };
        SparseMoe {
            gate: Linear::new(cx, &format!("{prefix}.gate"), c.hidden, c.experts, false, dtype),
            gate_proj: switch("gate_proj", c.hidden, c.inner),
            up_proj: switch("up_proj", c.hidden, c.inner),
            down_proj: switch("down_proj", c.inner, c.hidden),
            config: c,
        }
    }

    /// `[S, hidden]` to the same shape.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let c = &self.config;
        let (s, k) = (x.dim(0), c.top_k);
        let (weights, experts) = self.route(x);
        // A row for each pair of token and expert.
        let pairs = &s * k;
        let rows = x.expand_dims(1).broadcast_to((&s, k, c.hidden)).reshape((&pairs, c.hidden));
        let experts = experts.reshape([&pairs]);
        let gate = self.gate_proj.forward(&rows, &experts);
        let up = self.up_proj.forward(&rows, &experts);
        let y = self.down_proj.forward(&gate.gated(c.activation, &up).named("activated"), &experts);
        let y = y.astype(DType::F32).reshape((&s, k, c.hidden)) * weights.expand_dims(-1);
        y.sum(1, false).astype(x.dtype()).named("mixture")
    }

    /// Weights f32 and numbers of each token's experts, the largest first, both `[S, top_k]`.
    fn route(&self, x: &Array) -> (Array, Array) {
        let c = &self.config;
        let scores = self.gate.forward(x).astype(DType::F32).softmax().named("router");
        // The sort is stable: of equal scores the first expert comes first.
        let experts = scores.negative().argsort(-1).slice(-1, 0, c.top_k);
        let weights = scores.take_along_axis(&experts, -1);
        let weights = if c.normalize { &weights / weights.sum(-1, true) } else { weights };
        (weights.named("shares"), experts.named("experts"))
    }
}
