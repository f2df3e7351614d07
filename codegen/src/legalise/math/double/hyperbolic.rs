//! Hyperbolic functions and their inverses, from exponentials and logarithms where those do not cancel.

use super::exponential::{expm1, half_exp};
use super::logarithm::log1p;
use super::{Compute, V, or_itself, with_sign};

/// From here on √(x² ± 1) is x.
const LARGE: f64 = 1.0e20;

/// (t + t/(t + 1))/2 with t = eˣ − 1; eˣ/2 from 22 on.
pub(super) fn sinh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let inside = m.min(size, V::F64(30.0));
    let t = expm1(m, inside);
    let more = m.add(t, V::F64(1.0));
    let quotient = m.div(t, more);
    let near = m.add(t, quotient);
    let near = m.mul(near, V::F64(0.5));
    let far = half_exp(m, size);
    let is_near = m.lt(size, V::F64(22.0));
    let magnitude = m.select(is_near, near, far);
    let result = with_sign(m, magnitude, x);
    or_itself(m, x, result)
}

pub(super) fn cosh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let half = half_exp(m, size);
    let other = m.div(V::F64(0.25), half);
    m.add(half, other)
}

/// −t/(t + 2) with t = e⁻²ˣ − 1.
pub(super) fn tanh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let twice = m.mul(size, V::F64(-2.0));
    let t = expm1(m, twice);
    let more = m.add(t, V::F64(2.0));
    let quotient = m.div(t, more);
    let magnitude = m.abs(quotient);
    let result = with_sign(m, magnitude, x);
    or_itself(m, x, result)
}

/// log(1 + y), and log 2 more where `far`.
fn log_of(m: &mut Compute<'_, '_>, y: V, far: V) -> V {
    let log = log1p(m, y);
    let more = m.select(far, V::F64(std::f64::consts::LN_2), V::F64(0.0));
    m.add(log, more)
}

/// log(1 + x + x²/(1 + √(x² + 1))).
pub(super) fn asinh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let far = m.gt(size, V::F64(LARGE));
    let square = m.mul(size, size);
    let root = m.add(square, V::F64(1.0));
    let root = m.sqrt(root);
    let root = m.add(root, V::F64(1.0));
    let part = m.div(square, root);
    let sum = m.add(size, part);
    let y = m.select(far, size, sum);
    let log = log_of(m, y, far);
    let result = with_sign(m, log, x);
    or_itself(m, x, result)
}

/// log(1 + t + √(2t + t²)) with t = x − 1.
pub(super) fn acosh(m: &mut Compute<'_, '_>, x: V) -> V {
    let far = m.gt(x, V::F64(LARGE));
    let t = m.sub(x, V::F64(1.0));
    let twice = m.add(t, t);
    let root = m.mad(t, t, twice);
    let root = m.sqrt(root);
    let sum = m.add(t, root);
    let y = m.select(far, x, sum);
    let log = log_of(m, y, far);
    let valid = m.ge(x, V::F64(1.0));
    m.select(valid, log, V::F64(f64::NAN))
}

/// ½ log(1 + 2x/(1 − x)).
pub(super) fn atanh(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let rest = m.sub(V::F64(1.0), size);
    let twice = m.add(size, size);
    let y = m.div(twice, rest);
    let log = log1p(m, y);
    let half = m.mul(log, V::F64(0.5));
    let result = with_sign(m, half, x);
    let valid = m.le(size, V::F64(1.0));
    let result = m.select(valid, result, V::F64(f64::NAN));
    or_itself(m, x, result)
}
