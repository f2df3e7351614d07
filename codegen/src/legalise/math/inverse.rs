//! Inverse circular functions.

use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use super::{Compute, V, or_itself};

/// (asin x − x)/x³ in x², |x| ≤ ½; relative error 2⁻³¹·⁷.
const ASIN: [f32; 6] = [3.763_527_4e-2, 1.435_298_9e-2, 3.183_076_5e-2, 4.451_412e-2, 7.500_52e-2, 1.666_666e-1];
/// (atan x − x)/x³ in x², |x| ≤ tan π/8; relative error 2⁻³⁰·⁴.
const ATAN: [f32; 5] = [-6.087_586e-2, 1.059_833_3e-1, -1.424_430_2e-1, 1.999_852_5e-1, -3.333_331_6e-1];
/// π/2 less its f32.
const HALF_PI_REST: f32 = -4.371_139e-8;
const TAN_PI_8: f32 = 0.414_213_57;
const TAN_3PI_8: f32 = 2.414_213_7;

/// asin of |x|, or of √((1 − |x|)/2) beyond ½; and which.
fn half_way(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let size = m.abs(x);
    let beyond = m.gt(size, V::F32(0.5));
    let rest = m.mad(size, V::F32(-0.5), V::F32(0.5));
    let square = m.mul(size, size);
    let z = m.select(beyond, rest, square);
    let root = m.sqrt(rest);
    let w = m.select(beyond, root, size);
    let p = m.polynomial(z, &ASIN);
    let cube = m.mul(w, z);
    (m.mad(p, cube, w), beyond)
}

pub(super) fn asin(m: &mut Compute<'_, '_>, x: V) -> V {
    let (p, beyond) = half_way(m, x);
    let far = m.mad(p, V::F32(-2.0), V::F32(HALF_PI_REST));
    let far = m.add(far, V::F32(FRAC_PI_2));
    let size = m.select(beyond, far, p);
    let result = m.with_sign(size, x);
    let valid = m.eq(p, p);
    m.select(valid, result, p)
}

pub(super) fn acos(m: &mut Compute<'_, '_>, x: V) -> V {
    let (p, beyond) = half_way(m, x);
    let twice = m.add(p, p);
    let negative = m.lt(x, V::F32(0.0));
    let left = m.sub(V::F32(2.0 * HALF_PI_REST), twice);
    let left = m.add(left, V::F32(PI));
    let far = m.select(negative, left, twice);
    let opposite = m.neg(p);
    let signed = m.select(negative, opposite, p);
    let near = m.sub(V::F32(HALF_PI_REST), signed);
    let near = m.add(near, V::F32(FRAC_PI_2));
    m.select(beyond, far, near)
}

/// atan(t) + `base` + `rest` for |t| ≤ tan π/8.
fn near(m: &mut Compute<'_, '_>, t: V, base: V, rest: V) -> V {
    let square = m.mul(t, t);
    let p = m.polynomial(square, &ATAN);
    let cube = m.mul(square, t);
    let sum = m.mad(p, cube, rest);
    let sum = m.add(sum, t);
    m.add(base, sum)
}

pub(super) fn atan(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let (middle, far) = (m.gt(size, V::F32(TAN_PI_8)), m.gt(size, V::F32(TAN_3PI_8)));
    let (less, more) = (m.sub(size, V::F32(1.0)), m.add(size, V::F32(1.0)));
    let top = m.select(middle, less, size);
    let top = m.select(far, V::F32(-1.0), top);
    let bottom = m.select(middle, more, V::F32(1.0));
    let bottom = m.select(far, size, bottom);
    let t = m.div(top, bottom);
    let base = m.select(middle, V::F32(FRAC_PI_4), V::F32(0.0));
    let base = m.select(far, V::F32(FRAC_PI_2), base);
    let rest = m.mul(base, V::F32(HALF_PI_REST / FRAC_PI_2));
    let angle = near(m, t, base, rest);
    let result = m.with_sign(angle, x);
    or_itself(m, x, result)
}

pub(super) fn atan2(m: &mut Compute<'_, '_>, y: V, x: V) -> V {
    let (height, width) = (m.abs(y), m.abs(x));
    let steep = m.gt(height, width);
    let small = m.select(steep, width, height);
    let large = m.select(steep, height, width);
    let ratio = m.div(small, large);
    // 0/0 is 0 here, and ∞/∞ is 1.
    let none = m.eq(large, V::F32(0.0));
    let ratio = m.select(none, V::F32(0.0), ratio);
    let equal = m.eq(small, large);
    let infinite = m.eq(large, V::F32(f32::INFINITY));
    let both = m.and(equal, infinite);
    let ratio = m.select(both, V::F32(1.0), ratio);

    let middle = m.gt(ratio, V::F32(TAN_PI_8));
    let (less, more) = (m.sub(ratio, V::F32(1.0)), m.add(ratio, V::F32(1.0)));
    let folded = m.div(less, more);
    let t = m.select(middle, folded, ratio);
    // The angle is base ± atan t: steep points count from π/2, points on the left from π.
    let left = m.bits(x, mlxc_ir::DType::U32);
    let left = m.and(left, V::U32(0x8000_0000));
    let left = m.ne(left, V::U32(0));
    let eighth = m.select(middle, V::F32(FRAC_PI_4), V::F32(0.0));
    let opposite = m.neg(eighth);
    let downwards = m.xor(steep, left);
    let eighth = m.select(downwards, opposite, eighth);
    let origin = m.select(left, V::F32(PI), V::F32(0.0));
    let origin = m.select(steep, V::F32(FRAC_PI_2), origin);
    let base = m.add(origin, eighth);
    let rest = m.mul(base, V::F32(HALF_PI_REST / FRAC_PI_2));
    let back = m.neg(t);
    let t = m.select(downwards, back, t);
    let angle = near(m, t, base, rest);
    // `near` may give a zero of either sign.
    let angle = m.abs(angle);
    let result = m.with_sign(angle, y);
    let sum = m.add(x, y);
    let (x_nan, y_nan) = (m.ne(x, x), m.ne(y, y));
    let nan = m.or(x_nan, y_nan);
    m.select(nan, sum, result)
}
