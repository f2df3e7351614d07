//! Norms over the last axis.

use super::last;
use crate::trace::{Array, Context};
use mlxc_ir::DType;

/// Root-mean-square norm over the last axis.
#[derive(Clone)]
pub struct RMSNorm {
    /// `[width]`.
    pub weight: Array,
    /// Added to the mean of squares.
    pub eps: f64,
    /// The factor is `1 + weight`.
    pub shifted: bool,
    name: String,
}

impl RMSNorm {
    /// Declares `prefix.weight`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, width: i64, eps: f64, dtype: DType) -> Self {
        RMSNorm {
            weight: cx.weight(&format!("{prefix}.weight"), dtype, [width]),
            eps,
            shifted: false,
            name: last(prefix),
        }
    }

    /// The same norm with the factor `1 + weight`, in f32: weights near 0 then keep their precision.
    pub fn shifted(self) -> Self {
        RMSNorm { shifted: true, ..self }
    }

    /// Same shape out as in.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = if self.shifted {
            // n + n * weight: the factor itself would be one more value to keep.
            let n = x.astype(DType::F32).rms_norm(None, self.eps);
            (&n * self.weight.astype(DType::F32) + &n).astype(x.dtype())
        } else {
            x.rms_norm(Some(&self.weight), self.eps)
        };
        y.named(&self.name)
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
