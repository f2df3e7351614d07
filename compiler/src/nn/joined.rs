//! Several linear layers of one input, stored one by one or as one weight.

use super::Linear;
use crate::trace::{Array, Context};
use mlxc_ir::DType;

/// Linear layers that read the same input.
#[derive(Clone)]
pub(super) struct Joined {
    /// One for each part, or one for all.
    layers: Vec<Linear>,
    widths: Vec<i64>,
}

impl Joined {
    /// Declares `prefix.NAME` for each part, or `prefix.FUSED` for all of them in order.
    #[track_caller]
    pub fn new(
        cx: &Context,
        prefix: &str,
        parts: &[(&str, i64)],
        fused: Option<&str>,
        inputs: i64,
        bias: bool,
        dtype: DType,
    ) -> Self {
        let linear = |name: &str, n: i64| Linear::new(cx, &format!("{prefix}.{name}"), inputs, n, bias, dtype);
        let widths: Vec<i64> = parts.iter().map(|(_, n)| *n).collect();
        let layers = match fused {
            Some(name) => vec![linear(name, widths.iter().sum())],
            None => parts.iter().map(|(name, n)| linear(name, *n)).collect(),
        };
        Joined { layers, widths }
    }

    /// The results, in the order of the parts.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Vec<Array> {
        match self.layers.as_slice() {
            [all] => all.forward(x).split(&self.widths, -1),
            layers => layers.iter().map(|l| l.forward(x)).collect(),
        }
    }
}
