//! Hyperbolic functions and their inverses, from exponentials and logarithms where those do not cancel.

use super::exponential::{exp_scaled, half_exp};
use super::logarithm::log1p;
use super::{Compute, V, or_itself};

/// (sinh x − x)/x³ in x², |x| ≤ 1; relative error 2⁻³¹·⁶.
const SINH: [f32; 4] = [2.782_174_5e-6, 1.984_289_8e-4, 8.333_310_5e-3, 1.666_666_7e-1];
/// (tanh x − x)/x³ in x², |x| ≤ 0.625; relative error 2⁻²⁷·⁷.
const TANH: [f32; 5] = [-5.699_337e-3, 2.063_347_4e-2, -5.373_776_3e-2, 1.333_141_5e-1, -3.333_328e-1];
/// From here on √(x² ± 1) is x.
const LARGE: f32 = 1.0e8;

fn odd(m: &mut Compute<'_, '_>, x: V, coefficients: &[f32]) -> V {
    let square = m.mul(x, x);
    let p = m.polynomial(square, coefficients);
    let cube = m.mul(square, x);
    m.mad(p, cube, x)
}

pub(super) fn sinh(m: &mut Compute<'_, '_>, x: V) -> V {
    let small = odd(m, x, &SINH);
    let size = m.abs(x);
    let half = half_exp(m, size);
    let other = m.div(V::F32(0.25), half);
    let large = m.sub(half, other);
    let large = m.with_sign(large, x);
    let near = m.lt(size, V::F32(1.0));
    let result = m.select(near, small, large);
    or_itself(m, x, result)
}

pub(super) fn cosh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let half = half_exp(m, size);
    let other = m.div(V::F32(0.25), half);
    m.add(half, other)
}

/// 1 − 2/(e²ˣ + 1); from 9.02 on that is 1.
pub(super) fn tanh(m: &mut Compute<'_, '_>, x: V) -> V {
    let small = odd(m, x, &TANH);
    let size = m.abs(x);
    let inside = m.min(size, V::F32(10.0));
    let twice = m.add(inside, inside);
    let e = exp_scaled(m, twice, 0);
    let e = m.add(e, V::F32(1.0));
    let quotient = m.div(V::F32(2.0), e);
    let large = m.sub(V::F32(1.0), quotient);
    let large = m.with_sign(large, x);
    let near = m.lt(size, V::F32(0.625));
    let result = m.select(near, small, large);
    or_itself(m, x, result)
}

/// log(1 + y), and log 2 more where `far`.
fn log_of(m: &mut Compute<'_, '_>, y: V, far: V) -> V {
    let log = log1p(m, y);
    let more = m.select(far, V::F32(std::f32::consts::LN_2), V::F32(0.0));
    m.add(log, more)
}

/// log(1 + x + x²/(1 + √(x² + 1))).
pub(super) fn asinh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let far = m.gt(size, V::F32(LARGE));
    let square = m.mul(size, size);
    let root = m.add(square, V::F32(1.0));
    let root = m.sqrt(root);
    let root = m.add(root, V::F32(1.0));
    let part = m.div(square, root);
    let sum = m.add(size, part);
    let y = m.select(far, size, sum);
    let log = log_of(m, y, far);
    let result = m.with_sign(log, x);
    or_itself(m, x, result)
}

/// log(1 + t + √(2t + t²)) with t = x − 1.
pub(super) fn acosh(m: &mut Compute<'_, '_>, x: V) -> V {
    let far = m.gt(x, V::F32(LARGE));
    let t = m.sub(x, V::F32(1.0));
    let twice = m.add(t, t);
    let root = m.mad(t, t, twice);
    let root = m.sqrt(root);
    let sum = m.add(t, root);
    let y = m.select(far, x, sum);
    let log = log_of(m, y, far);
    let valid = m.ge(x, V::F32(1.0));
    m.select(valid, log, V::F32(f32::NAN))
}

/// ½ log(1 + 2x/(1 − x)).
pub(super) fn atanh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let rest = m.sub(V::F32(1.0), size);
    let twice = m.add(size, size);
    let y = m.div(twice, rest);
    let log = log1p(m, y);
    let half = m.mul(log, V::F32(0.5));
    let result = m.with_sign(half, x);
    let valid = m.le(size, V::F32(1.0));
    let result = m.select(valid, result, V::F32(f32::NAN));
    or_itself(m, x, result)
}
