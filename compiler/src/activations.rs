//! Activations of MLX's `nn`, as functions of arrays. Each is elementwise unless it names an axis.

use crate::trace::{Array, Operand};

/// `max(x, 0)`: MLX's `nn.relu`.
#[track_caller]
pub fn relu(x: &Array) -> Array {
    x.relu()
}

/// `max(x, 0)²`: MLX's `nn.relu2`.
#[track_caller]
pub fn relu2(x: &Array) -> Array {
    x.relu().square()
}

/// `min(max(x, 0), 6)`: MLX's `nn.relu6`.
#[track_caller]
pub fn relu6(x: &Array) -> Array {
    x.relu().minimum(6.0)
}

/// `max(slope * x, x)`: MLX's `nn.leaky_relu`, whose slope is 0.01 unless given.
#[track_caller]
pub fn leaky_relu(x: &Array, negative_slope: f64) -> Array {
    (x * negative_slope).maximum(x)
}

/// `x` where positive, else `alpha * (e^x - 1)`: MLX's `nn.elu`.
#[track_caller]
pub fn elu(x: &Array, alpha: f64) -> Array {
    x.greater(0.0).choose(x, (x.exp() - 1.0) * alpha)
}

/// `elu` of MLX's rounded constants, scaled: MLX's `nn.selu`.
#[track_caller]
pub fn selu(x: &Array) -> Array {
    elu(x, 1.67326) * 1.0507
}

/// `max(x, 0) + alpha * (e^(min(x, 0) / alpha) - 1)`: MLX's `nn.celu`.
#[track_caller]
pub fn celu(x: &Array, alpha: f64) -> Array {
    x.maximum(0.0) + ((x.minimum(0.0) / alpha).exp() - 1.0) * alpha
}

/// `max(x, 0) + alpha * min(x, 0)` with an array `alpha`: MLX's `nn.prelu`.
#[track_caller]
pub fn prelu(x: &Array, alpha: &Array) -> Array {
    x.maximum(0.0) + alpha * x.minimum(0.0)
}

/// `x * Φ(x)`: MLX's `nn.gelu`.
#[track_caller]
pub fn gelu(x: &Array) -> Array {
    x.gelu()
}

/// The tanh approximation: MLX's `nn.gelu_approx`.
#[track_caller]
pub fn gelu_approx(x: &Array) -> Array {
    x.gelu_approx()
}

/// `x * sigmoid(1.702 x)`: MLX's `nn.gelu_fast_approx`.
#[track_caller]
pub fn gelu_fast_approx(x: &Array) -> Array {
    x * (x * 1.702).sigmoid()
}

/// `x * sigmoid(x)`: MLX's `nn.silu`.
#[track_caller]
pub fn silu(x: &Array) -> Array {
    x.silu()
}

/// `x * tanh(softplus(x))`: MLX's `nn.mish`.
#[track_caller]
pub fn mish(x: &Array) -> Array {
    x * x.softplus().tanh()
}

/// `x * min(max(x + 3, 0), 6) / 6`: MLX's `nn.hardswish`.
#[track_caller]
pub fn hardswish(x: &Array) -> Array {
    x * (x + 3.0).maximum(0.0).minimum(6.0) / 6.0
}

/// `log(1 + e^x)`: MLX's `nn.softplus`.
#[track_caller]
pub fn softplus(x: &Array) -> Array {
    x.softplus()
}

/// `x / (1 + |x|)`: MLX's `nn.softsign`.
#[track_caller]
pub fn softsign(x: &Array) -> Array {
    x / (x.abs() + 1.0)
}

/// `x` moved towards 0 by `lambd`, 0 where it is nearer: MLX's `nn.softshrink`.
#[track_caller]
pub fn softshrink(x: &Array, lambd: f64) -> Array {
    x.abs().greater(lambd).choose(x - x.sign() * lambd, 0.0)
}

/// `x`, 0 within `lambd` of 0: MLX's `nn.hard_shrink`.
#[track_caller]
pub fn hard_shrink(x: &Array, lambd: f64) -> Array {
    x.abs().greater(lambd).choose(x, 0.0)
}

/// Between two limits: MLX's `nn.hard_tanh`, of -1 and 1 unless given.
#[track_caller]
pub fn hard_tanh(x: &Array, min: f64, max: f64) -> Array {
    x.clip(Some(Operand::Float(min)), Some(Operand::Float(max)))
}

/// `log(sigmoid(x))`: MLX's `nn.log_sigmoid`.
#[track_caller]
pub fn log_sigmoid(x: &Array) -> Array {
    x.negative().softplus().negative()
}

/// `x - log(sum(e^x))` over one axis: MLX's `nn.log_softmax`.
#[track_caller]
pub fn log_softmax(x: &Array, axis: i32) -> Array {
    x.log_softmax(axis)
}

/// Softmax over one axis: MLX's `nn.softmax`.
#[track_caller]
pub fn softmax(x: &Array, axis: i32) -> Array {
    x.softmax_over(axis)
}

/// Softmax of `-x` over one axis: MLX's `nn.softmin`.
#[track_caller]
pub fn softmin(x: &Array, axis: i32) -> Array {
    x.negative().softmax_over(axis)
}

/// The first half of an axis times the sigmoid of the second: MLX's `nn.glu`.
///
/// # Errors
/// `MLXC0142` where the axis is not even.
#[track_caller]
pub fn glu(x: &Array, axis: i32) -> Array {
    match x.split_sections(2, axis).as_slice() {
        [a, b] => a * b.sigmoid(),
        // The split has said why.
        _ => x.clone(),
    }
}

/// 1 from `threshold` on, else 0, of type i32: MLX's `nn.step`.
#[track_caller]
pub fn step(x: &Array, threshold: f64) -> Array {
    x.greater_equal(threshold).choose(1, 0)
}

/// MLX's `nn.tanh`.
#[track_caller]
pub fn tanh(x: &Array) -> Array {
    x.tanh()
}

/// MLX's `nn.sigmoid`.
#[track_caller]
pub fn sigmoid(x: &Array) -> Array {
    x.sigmoid()
}
