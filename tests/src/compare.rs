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

/// As [`excess`], each element against its own value: the stated mode's error of that element plus some ulp of it.
pub fn excess_each(got: &Tensor, reference: &Tensor, stated: &Tensor, ulp: f64) -> f64 {
    assert_eq!(got.shape, reference.shape, "shapes agree");
    if let (Data::Int(a), Data::Int(b)) = (&got.data, &reference.data) {
        return if a == b { 0.0 } else { f64::INFINITY };
    }
    (0..got.len())
        .map(|i| {
            let (want, own) = (reference.float(i), (stated.float(i) - reference.float(i)).abs());
            let own = if own.is_finite() { own } else { 0.0 };
            let scale = if want.is_finite() { want.abs() } else { 0.0 };
            let allowed = own + ulp * epsilon(got.dtype) * scale + flushed(got.dtype);
            let d = distance(got.float(i), want, got.dtype);
            if d == 0.0 { 0.0 } else { d / allowed }
        })
        .fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) })
}

/// What may become 0: elementary functions give no subnormal f32, and AVX-512 narrows f32 to bf16 without them. f16 is
/// computed in f32, where its subnormals are ordinary.
fn flushed(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::BF16 => f64::from(f32::MIN_POSITIVE),
        _ => 0.0,
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
