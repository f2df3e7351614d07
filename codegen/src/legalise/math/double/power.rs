//! Powers: 2 to the y·log₂ x, the logarithm in two parts.

use super::exponential::{near, scale};
use super::logarithm::split;
use super::pair::{Pair, add, mul, product, quick_sum, sum};
use super::{Compute, V, nearest, with_sign};

/// 1/ln 2 in two parts.
const LOG2_E: (f64, f64) = (std::f64::consts::LOG2_E, 2.035_527_374_093_103_3e-17);
/// 2/3 in two parts.
const TWO_THIRDS: (f64, f64) = (2.0 / 3.0, 3.700_743_415_417_188e-17);
/// 2/(2k + 1) for k from 12 to 2: the series of artanh beyond its first two terms, |s| ≤ 0.172.
const SERIES: [f64; 11] = {
    let mut series = [0.0; 11];
    let mut k = 2;
    while k <= 12 {
        series[12 - k] = 2.0 / (2 * k + 1) as f64;
        k += 1;
    }
    series
};

/// log₂ of a positive number, in two parts.
fn log2(m: &mut Compute<'_, '_>, x: V) -> Pair {
    let (e, mantissa) = split(m, x);
    // s = (m − 1)/(m + 1), with what the division loses.
    let top = m.sub(mantissa, V::F64(1.0));
    let bottom = sum(m, mantissa, V::F64(1.0));
    let s = m.div(top, bottom.high);
    let back = product(m, s, bottom.high);
    let left = m.sub(top, back.high);
    let left = m.sub(left, back.low);
    let lost = m.mul(s, bottom.low);
    let left = m.sub(left, lost);
    let rest = m.div(left, bottom.high);
    let s = quick_sum(m, s, rest);
    let square = mul(m, s, s);
    let cube = mul(m, square, s);
    let third = mul(m, cube, Pair { high: V::F64(TWO_THIRDS.0), low: V::F64(TWO_THIRDS.1) });
    let series = m.polynomial_f64(square.high, &SERIES);
    let fifth = m.mul(cube.high, square.high);
    let tail = m.mul(series, fifth);
    let twice = Pair { high: m.add(s.high, s.high), low: m.add(s.low, s.low) };
    let log = add(m, twice, third);
    let log = add(m, log, Pair { high: tail, low: V::F64(0.0) });
    let log = mul(m, log, Pair { high: V::F64(LOG2_E.0), low: V::F64(LOG2_E.1) });
    add(m, Pair { high: e, low: V::F64(0.0) }, log)
}

/// xʸ for x ≥ 0, 0 and ∞ included.
fn positive(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let zero = m.eq(x, V::F64(0.0));
    let infinite = m.eq(x, V::F64(f64::INFINITY));
    let edge = m.or(zero, infinite);
    let usual = m.select(edge, V::F64(2.0), x);
    let log = log2(m, usual);
    // Larger exponents over- or underflow all the same.
    let clamped = m.max(y, V::F64(-1e25));
    let clamped = m.min(clamped, V::F64(1e25));
    let t = mul(m, log, Pair { high: clamped, low: V::F64(0.0) });
    let high = m.max(t.high, V::F64(-1100.0));
    let high = m.min(high, V::F64(1100.0));
    let n = nearest(m, high);
    let f = m.sub(high, n);
    let f = m.add(f, t.low);
    let r = m.mul(f, V::F64(std::f64::consts::LN_2));
    let r = m.max(r, V::F64(-1.0));
    let r = m.min(r, V::F64(1.0));
    let q = near(m, r);
    let p = m.add(q, V::F64(1.0));
    let value = scale(m, p, n);
    let grows = m.gt(y, V::F64(0.0));
    let to_edge = m.xor(zero, grows);
    let far = m.select(to_edge, V::F64(f64::INFINITY), V::F64(0.0));
    m.select(edge, far, value)
}

pub(super) fn pow(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let size = m.abs(x);
    let magnitude = positive(m, size, y);
    let whole = m.floor(y);
    let whole = m.eq(whole, y);
    let half = m.mul(y, V::F64(0.5));
    let even = m.floor(half);
    let odd = m.ne(even, half);
    let odd = m.and(odd, whole);
    let signed = with_sign(m, magnitude, x);
    let result = m.select(odd, signed, magnitude);
    let negative = m.lt(x, V::F64(0.0));
    let finite = m.lt(size, V::F64(f64::INFINITY));
    let fraction = m.not(whole);
    let undefined = m.and(negative, finite);
    let undefined = m.and(undefined, fraction);
    let (x_nan, y_nan) = (m.ne(x, x), m.ne(y, y));
    let nan = m.or(x_nan, y_nan);
    let nan = m.or(nan, undefined);
    let result = m.select(nan, V::F64(f64::NAN), result);
    // (−1)^∞ is 1.
    let endless = m.abs(y);
    let endless = m.eq(endless, V::F64(f64::INFINITY));
    let unit = m.eq(size, V::F64(1.0));
    let level = m.and(endless, unit);
    let to_zero = m.eq(y, V::F64(0.0));
    let of_one = m.eq(x, V::F64(1.0));
    let one = m.or(to_zero, of_one);
    let one = m.or(one, level);
    m.select(one, V::F64(1.0), result)
}
