//! Powers of f32 in f64 (in `single` without it): 2 to the y·log₂ x, rounded once at the end.

use mlxc_ir::DType;

use super::logarithm::split;
use super::{Compute, V, single};

/// 2/ln 2 · 1/(2k + 1): log₂ m by the series of artanh, |s| ≤ 0.172; error 2⁻⁴⁵.
const LOG2: [f64; 9] = {
    let mut series = [0.0; 9];
    let mut k = 0;
    while k < 9 {
        series[8 - k] = 2.0 / std::f64::consts::LN_2 / (2 * k + 1) as f64;
        k += 1;
    }
    series
};
/// (ln 2)ᵏ/k!: 2ᶠ by its own series, |f| ≤ ½; error 2⁻³⁷.
const EXP2: [f64; 10] = {
    let mut series = [0.0; 10];
    let (mut k, mut term) = (0, 1.0);
    while k < 10 {
        series[9 - k] = term;
        k += 1;
        term *= std::f64::consts::LN_2 / k as f64;
    }
    series
};
/// 1.5·2⁵²: adding it leaves the nearest integer in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

pub(super) fn pow(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let size = m.abs(x);
    let magnitude = positive(m, size, y);

    let whole = m.floor(y);
    let whole = m.eq(whole, y);
    let half = m.mul(y, V::F32(0.5));
    let even = m.floor(half);
    let odd = m.ne(even, half);
    let odd = m.and(odd, whole);
    let signed = m.with_sign(magnitude, x);
    let result = m.select(odd, signed, magnitude);

    let negative = m.lt(x, V::F32(0.0));
    let finite = m.lt(size, V::F32(f32::INFINITY));
    let fraction = m.not(whole);
    let undefined = m.and(negative, finite);
    let undefined = m.and(undefined, fraction);
    let (x_nan, y_nan) = (m.ne(x, x), m.ne(y, y));
    let nan = m.or(x_nan, y_nan);
    let nan = m.or(nan, undefined);
    let result = m.select(nan, V::F32(f32::NAN), result);
    let to_zero = m.eq(y, V::F32(0.0));
    let of_one = m.eq(x, V::F32(1.0));
    let one = m.or(to_zero, of_one);
    m.select(one, V::F32(1.0), result)
}

/// xʸ for x ≥ 0, 0 and ∞ included.
fn positive(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    if !m.f64 {
        return single::positive(m, x, y);
    }
    let (exponent, mantissa) = split(m, x);
    let mantissa = m.cast(mantissa, DType::F64);
    let exponent = m.cast(exponent, DType::F64);
    let (less, more) = (m.sub(mantissa, V::F64(1.0)), m.add(mantissa, V::F64(1.0)));
    let s = m.div(less, more);
    let square = m.mul(s, s);
    let p = m.polynomial_f64(square, &LOG2);
    let log = m.mad(p, s, exponent);
    let zero = m.eq(x, V::F32(0.0));
    let log = m.select(zero, V::F64(f64::NEG_INFINITY), log);
    let infinite = m.eq(x, V::F32(f32::INFINITY));
    let log = m.select(infinite, V::F64(f64::INFINITY), log);

    let y = m.cast(y, DType::F64);
    let t = m.mul(y, log);
    // (−1)^∞ is 1.
    let level = m.eq(log, V::F64(0.0));
    let t = m.select(level, V::F64(0.0), t);
    let t = m.max(t, V::F64(-200.0));
    let t = m.min(t, V::F64(200.0));
    let z = m.add(t, V::F64(MAGIC));
    let n = m.sub(z, V::F64(MAGIC));
    let f = m.sub(t, n);
    let p = m.polynomial_f64(f, &EXP2);
    let field = m.bits(z, DType::U64);
    let field = m.shl(field, V::U64(52));
    let bits = m.bits(p, DType::U64);
    let bits = m.add(bits, field);
    let value = m.bits(bits, DType::F64);
    m.cast(value, DType::F32)
}
