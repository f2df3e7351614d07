//! Inverse circular functions (msun e_asin.c, s_atan.c).

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use mlxc_ir::DType;

use super::{Compute, SIGN, V, or_itself, with_sign};

/// (asin x − x)/x in z = x², as z·P/Q.
const P: [f64; 6] = [
    3.479_331_075_960_212e-5,
    0.000_791_534_994_289_814_5,
    -0.040_055_534_500_679_41,
    0.201_212_532_134_862_93,
    -0.325_565_818_622_400_9,
    0.166_666_666_666_666_66,
];
const Q: [f64; 5] =
    [0.077_038_150_555_901_94, -0.688_283_971_605_453_3, 2.020_945_760_233_505_7, -2.403_394_911_734_414, 1.0];
/// (x − atan x)/x³ in x², |x| ≤ 7/16.
const ATAN: [f64; 11] = [
    0.016_285_820_115_365_782,
    -0.036_531_572_744_216_916,
    0.049_768_779_946_159_324,
    -0.058_335_701_337_905_735,
    0.066_610_731_373_875_31,
    -0.076_918_762_050_448_3,
    0.090_908_871_334_365_07,
    -0.111_111_104_054_623_56,
    0.142_857_142_725_034_66,
    -0.199_999_999_998_764_83,
    0.333_333_333_333_329_3,
];
/// π/2 less its f64.
const HALF_PI_REST: f64 = 6.123_233_995_736_766e-17;
const TAN_PI_8: f64 = 0.414_213_562_373_095_05;
const TAN_3PI_8: f64 = 2.414_213_562_373_095;

/// asin of |x|, or of √((1 − |x|)/2) beyond ½; and which.
fn half_way(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let size = m.abs(x);
    let beyond = m.gt(size, V::F64(0.5));
    let rest = m.mad(size, V::F64(-0.5), V::F64(0.5));
    let square = m.mul(size, size);
    let z = m.select(beyond, rest, square);
    let root = m.sqrt(rest);
    let w = m.select(beyond, root, size);
    let (p, q) = (m.polynomial_f64(z, &P), m.polynomial_f64(z, &Q));
    let p = m.mul(p, z);
    let r = m.div(p, q);
    (m.mad(w, r, w), beyond)
}

pub(super) fn asin(m: &mut Compute<'_, '_>, x: V) -> V {
    let (p, beyond) = half_way(m, x);
    let far = m.mad(p, V::F64(-2.0), V::F64(HALF_PI_REST));
    let far = m.add(far, V::F64(FRAC_PI_2));
    let size = m.select(beyond, far, p);
    let result = with_sign(m, size, x);
    let valid = m.eq(p, p);
    m.select(valid, result, p)
}

pub(super) fn acos(m: &mut Compute<'_, '_>, x: V) -> V {
    let (p, beyond) = half_way(m, x);
    let twice = m.add(p, p);
    let negative = m.lt(x, V::F64(0.0));
    let left = m.sub(V::F64(2.0 * HALF_PI_REST), twice);
    let left = m.add(left, V::F64(PI));
    let far = m.select(negative, left, twice);
    let opposite = m.neg(p);
    let signed = m.select(negative, opposite, p);
    let near = m.sub(V::F64(HALF_PI_REST), signed);
    let near = m.add(near, V::F64(FRAC_PI_2));
    m.select(beyond, far, near)
}

/// atan(t) + `base` + `rest` for |t| ≤ tan π/8.
fn near(m: &mut Compute<'_, '_>, t: V, base: V, rest: V) -> V {
    let square = m.mul(t, t);
    let p = m.polynomial_f64(square, &ATAN);
    let p = m.mul(p, square);
    let p = m.mul(p, t);
    let small = m.sub(rest, p);
    let sum = m.add(small, t);
    m.add(base, sum)
}

pub(super) fn atan(m: &mut Compute<'_, '_>, x: V) -> V {
    let size = m.abs(x);
    let (middle, far) = (m.gt(size, V::F64(TAN_PI_8)), m.gt(size, V::F64(TAN_3PI_8)));
    let (less, more) = (m.sub(size, V::F64(1.0)), m.add(size, V::F64(1.0)));
    let top = m.select(middle, less, size);
    let top = m.select(far, V::F64(-1.0), top);
    let bottom = m.select(middle, more, V::F64(1.0));
    let bottom = m.select(far, size, bottom);
    let t = m.div(top, bottom);
    let base = m.select(middle, V::F64(FRAC_PI_4), V::F64(0.0));
    let base = m.select(far, V::F64(FRAC_PI_2), base);
    let rest = m.mul(base, V::F64(HALF_PI_REST / FRAC_PI_2));
    let angle = near(m, t, base, rest);
    let result = with_sign(m, angle, x);
    or_itself(m, x, result)
}

pub(super) fn atan2(m: &mut Compute<'_, '_>, y: V, x: V) -> V {
    let (height, width) = (m.abs(y), m.abs(x));
    let steep = m.gt(height, width);
    let small = m.select(steep, width, height);
    let large = m.select(steep, height, width);
    let ratio = m.div(small, large);
    // 0/0 is 0 here, and ∞/∞ is 1.
    let none = m.eq(large, V::F64(0.0));
    let ratio = m.select(none, V::F64(0.0), ratio);
    let equal = m.eq(small, large);
    let infinite = m.eq(large, V::F64(f64::INFINITY));
    let both = m.and(equal, infinite);
    let ratio = m.select(both, V::F64(1.0), ratio);
    let middle = m.gt(ratio, V::F64(TAN_PI_8));
    let (less, more) = (m.sub(ratio, V::F64(1.0)), m.add(ratio, V::F64(1.0)));
    let folded = m.div(less, more);
    let t = m.select(middle, folded, ratio);
    // The angle is base ± atan t: steep points count from π/2, points on the left from π.
    let left = m.bits(x, DType::U64);
    let left = m.and(left, V::U64(SIGN));
    let left = m.ne(left, V::U64(0));
    let eighth = m.select(middle, V::F64(FRAC_PI_4), V::F64(0.0));
    let opposite = m.neg(eighth);
    let downwards = m.xor(steep, left);
    let eighth = m.select(downwards, opposite, eighth);
    let origin = m.select(left, V::F64(PI), V::F64(0.0));
    let origin = m.select(steep, V::F64(FRAC_PI_2), origin);
    let base = m.add(origin, eighth);
    let rest = m.mul(base, V::F64(HALF_PI_REST / FRAC_PI_2));
    let back = m.neg(t);
    let t = m.select(downwards, back, t);
    let angle = near(m, t, base, rest);
    // `near` may give a zero of either sign.
    let angle = m.abs(angle);
    let result = with_sign(m, angle, y);
    let sum = m.add(x, y);
    let (x_nan, y_nan) = (m.ne(x, x), m.ne(y, y));
    let nan = m.or(x_nan, y_nan);
    m.select(nan, sum, result)
}
