//! Is a result as good as its dtype promises?

use mlxc_ir::DType;
use mlxc_ir::graph::interpret::{Data, Tensor};

/// Largest error of `got` against the reference, in units of what is allowed: the stated-dtype interpreter's own error
/// plus some ulp of the largest value in the tensor.
pub fn excess(got: &Tensor, reference: &Tensor, stated: &Tensor, ulp: f64) -> f64 {
    assert_eq!(got.shape, reference.shape, "shapes agree");
    match (&got.data, &reference.data) {
        (Data::Int(a), Data::Int(b)) => {
            if a == b {
                0.0
            } else {
                f64::INFINITY
            }
        }
        _ => {
            let scale = reference.to_floats().iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
            let own = (0..got.len())
                .map(|i| (stated.float(i) - reference.float(i)).abs())
                .filter(|e| e.is_finite())
                .fold(0.0, f64::max);
            let allowed = own + ulp * epsilon(got.dtype) * scale.max(1e-3) + f64::MIN_POSITIVE;
            (0..got.len()).map(|i| distance(got.float(i), reference.float(i), got.dtype) / allowed).fold(0.0, f64::max)
        }
    }
}

fn distance(a: f64, b: f64, dtype: DType) -> f64 {
    let overflow = match dtype {
        DType::F16 => 65504.0,
        DType::BF16 | DType::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    };
    if a == b || a.is_nan() && b.is_nan() {
        0.0
    } else if a.is_infinite() && b.abs() > 0.99 * overflow && a.signum() == b.signum() {
        // The reference has a wider exponent.
        0.0
    } else if a.is_finite() && b.is_finite() {
        (a - b).abs()
    } else {
        f64::INFINITY
    }
}

/// Distance from 1 to the next value.
pub fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-23),
        _ => 2f64.powi(-52),
    }
}
