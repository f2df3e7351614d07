//! Feed-forward layers.

use super::Linear;
use crate::trace::{Array, Context};
use mlxc_ir::DType;
use mlxc_ir::graph::Activation;

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
