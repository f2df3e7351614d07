//! Feed-forward layers.

use super::Linear;
use super::joined::Joined;
use crate::trace::{Array, Context};
use mlxc_ir::DType;
use mlxc_ir::graph::Activation;

/// Sizes of a gated feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MLPConfig {
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width between the products.
    pub inner: i64,
    /// Bias on the projections.
    pub bias: bool,
    /// Gate and up are one weight, `gate_up_proj`, the gate first.
    pub fused: bool,
    /// Activation of the gate.
    pub activation: Activation,
}

/// Gated feed-forward layer: `down(activation(gate(x)) * up(x))`.
#[derive(Clone)]
pub struct MLP {
    gates: Joined,
    down_proj: Linear,
    config: MLPConfig,
}

impl MLP {
    /// Declares `prefix.{gate,up,down}_proj`, or `prefix.{gate_up,down}_proj`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, config: &MLPConfig, dtype: DType) -> Self {
        let c = *config;
        let parts = [("gate_proj", c.inner), ("up_proj", c.inner)];
        let fused = c.fused.then_some("gate_up_proj");
        MLP {
            gates: Joined::new(cx, prefix, &parts, fused, c.hidden, c.bias, dtype),
            down_proj: Linear::new(cx, &format!("{prefix}.down_proj"), c.inner, c.hidden, c.bias, dtype),
            config: c,
        }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let gates = self.gates.forward(x);
        self.down_proj.forward(&gates[0].gated(self.config.activation, &gates[1]).named("activated"))
    }
}
