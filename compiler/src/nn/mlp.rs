//! Feed-forward layers.

use super::Linear;
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
    gates: Gates,
    down_proj: Linear,
    config: MLPConfig,
}

#[derive(Clone)]
enum Gates {
    Apart { gate_proj: Linear, up_proj: Linear },
    Fused { gate_up_proj: Linear },
}

impl MLP {
    /// Declares `prefix.{gate,up,down}_proj`, or `prefix.{gate_up,down}_proj`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, config: &MLPConfig, dtype: DType) -> Self {
        let c = *config;
        let linear = |name: &str, i: i64, o: i64| Linear::new(cx, &format!("{prefix}.{name}"), i, o, c.bias, dtype);
        let gates = if c.fused {
            Gates::Fused { gate_up_proj: linear("gate_up_proj", c.hidden, 2 * c.inner) }
        } else {
            let (gate_proj, up_proj) = (linear("gate_proj", c.hidden, c.inner), linear("up_proj", c.hidden, c.inner));
            Gates::Apart { gate_proj, up_proj }
        };
        MLP { gates, down_proj: linear("down_proj", c.inner, c.hidden), config: c }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let (gate, up) = match &self.gates {
            Gates::Apart { gate_proj, up_proj } => (gate_proj.forward(x), up_proj.forward(x)),
            Gates::Fused { gate_up_proj } => {
                let both = gate_up_proj.forward(x);
                let n = self.config.inner;
                (both.slice(-1, 0, n), both.slice(-1, n, 2 * n))
            }
        };
        self.down_proj.forward(&gate.gated(self.config.activation, &up).named("activated"))
    }
}
