//! Exponentials: x = n·ln 2 + r with |r| ≤ ½ ln 2, a Taylor series in r, and two factors for 2ⁿ.

use mlxc_ir::DType;

use super::{Compute, MAGIC, V, nearest, or_itself};

/// ln 2 in two parts, n times the first exact (msun e_exp.c).
const LN2: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);
const LOG2_E: f64 = std::f64::consts::LOG2_E;

/// 1/k! for k from 14 to 2, highest power first: (eʳ − 1 − r)/r² to 2⁻⁵⁷ of eʳ.
const SERIES: [f64; 13] = {
    let mut series = [0.0; 13];
    let (mut k, mut factorial) = (2, 2.0);
    while k <= 14 {
        series[14 - k] = 1.0 / factorial;
        k += 1;
        factorial *= k as f64;
    }
    series
};

/// 2ⁿ of an integer n of -1022 to 1023.
fn power_of_two(m: &mut Compute<'_, '_>, n: V) -> V {
    let z = m.add(n, V::F64(MAGIC));
    let bits = m.bits(z, DType::U64);
    let biased = m.add(bits, V::U64(1023));
    let bits = m.shl(biased, V::U64(52));
    m.bits(bits, DType::F64)
}

/// p · 2ⁿ for n of -2044 to 2046, rounded once where the result is subnormal.
pub(super) fn scale(m: &mut Compute<'_, '_>, p: V, n: V) -> V {
    let half = m.mul(n, V::F64(0.5));
    let half = m.floor(half);
    let rest = m.sub(n, half);
    let (a, b) = (power_of_two(m, half), power_of_two(m, rest));
    let p = m.mul(p, a);
    m.mul(p, b)
}

/// eʳ − 1 for |r| ≤ 0.35.
pub(super) fn near(m: &mut Compute<'_, '_>, r: V) -> V {
    let q = m.polynomial_f64(r, &SERIES);
    let square = m.mul(r, r);
    m.mad(q, square, r)
}

/// n and r of x.
fn reduce(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let n = m.mul(x, V::F64(LOG2_E));
    let n = nearest(m, n);
    let high = m.mul(n, V::F64(LN2.0));
    let r = m.sub(x, high);
    let low = m.mul(n, V::F64(LN2.1));
    (n, m.sub(r, low))
}

/// x itself where it is NaN.
fn keep_nan(m: &mut Compute<'_, '_>, x: V, result: V) -> V {
    let ordered = m.eq(x, x);
    m.select(ordered, result, x)
}

fn within(m: &mut Compute<'_, '_>, x: V, low: f64, high: f64) -> V {
    let x = m.max(x, V::F64(low));
    m.min(x, V::F64(high))
}

pub(super) fn exp(m: &mut Compute<'_, '_>, x: V) -> V {
    let inside = within(m, x, -750.0, 710.0);
    let (n, r) = reduce(m, inside);
    let q = near(m, r);
    let p = m.add(q, V::F64(1.0));
    let result = scale(m, p, n);
    keep_nan(m, x, result)
}

pub(super) fn exp2(m: &mut Compute<'_, '_>, x: V) -> V {
    let inside = within(m, x, -1080.0, 1025.0);
    let n = nearest(m, inside);
    let f = m.sub(inside, n);
    let r = m.mul(f, V::F64(std::f64::consts::LN_2));
    let q = near(m, r);
    let p = m.add(q, V::F64(1.0));
    let result = scale(m, p, n);
    keep_nan(m, x, result)
}

/// eˣ/2 for x ≥ 0: finite as long as sinh x is.
pub(super) fn half_exp(m: &mut Compute<'_, '_>, x: V) -> V {
    let inside = m.min(x, V::F64(712.0));
    let (n, r) = reduce(m, inside);
    let q = near(m, r);
    let p = m.add(q, V::F64(1.0));
    let n = m.sub(n, V::F64(1.0));
    let result = scale(m, p, n);
    keep_nan(m, x, result)
}

/// 2ⁿ·(eʳ − 1) + (2ⁿ − 1), everything halved so that n = 1024 fits.
pub(super) fn expm1(m: &mut Compute<'_, '_>, x: V) -> V {
    let inside = within(m, x, -50.0, 710.0);
    let (n, r) = reduce(m, inside);
    let q = near(m, r);
    let n = m.sub(n, V::F64(1.0));
    let half = power_of_two(m, n);
    let offset = m.sub(half, V::F64(0.5));
    let sum = m.mad(half, q, offset);
    let twice = m.add(sum, sum);
    // With n = 0 the halves cancel.
    let whole = m.eq(half, V::F64(0.5));
    let result = m.select(whole, q, twice);
    or_itself(m, x, result)
}
