//! Sine, cosine and tangent: x = n·π/2 + r in two parts, and a polynomial of r (msun e_rem_pio2.c, k_sin.c, k_cos.c).

use mlxc_ir::DType;

use super::pair::{Pair, add, sum};
use super::{Compute, V, nearest, or_itself};

/// π/2 in parts of 33 bits and a rest: a factor of 20 bits times each is exact.
const HALF_PI: [f64; 4] =
    [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_711_166_5e-21, 8.478_427_660_368_9e-32];
const TWO_TO_20: f64 = 1_048_576.0;
/// 2⁴⁰: n beyond is not two factors of 20 bits any more.
const LARGEST: f64 = 1_099_511_627_776.0;
const SIN: [f64; 6] = [
    1.589_690_995_211_55e-10,
    -2.505_076_025_340_686_3e-8,
    2.755_731_370_707_006_8e-6,
    -0.000_198_412_698_298_579_5,
    0.008_333_333_333_322_49,
    -0.166_666_666_666_666_32,
];
const COS: [f64; 6] = [
    -1.135_964_755_778_819_5e-11,
    2.087_572_321_298_175e-9,
    -2.755_731_435_139_066_3e-7,
    2.480_158_728_947_673e-5,
    -0.001_388_888_888_887_411,
    0.041_666_666_666_666_6,
];

/// n modulo 4 as an i32, and r; NaN beyond the largest argument.
fn reduce(m: &mut Compute<'_, '_>, x: V) -> (V, Pair) {
    let size = m.abs(x);
    let inside = m.le(size, V::F64(LARGEST));
    let x = m.select(inside, x, V::F64(f64::NAN));
    let n = m.mul(x, V::F64(std::f64::consts::FRAC_2_PI));
    let n = nearest(m, n);
    let high = m.mul(n, V::F64(1.0 / TWO_TO_20));
    let high = m.floor(high);
    let high = m.mul(high, V::F64(TWO_TO_20));
    let low = m.sub(n, high);
    let (mut r, zero) = (Pair { high: x, low: V::F64(0.0) }, V::F64(0.0));
    for part in HALF_PI {
        for factor in [high, low] {
            let term = m.mul(factor, V::F64(-part));
            r = add(m, r, Pair { high: term, low: zero });
        }
    }
    let r = sum(m, r.high, r.low);
    let ordered = m.eq(n, n);
    let known = m.select(ordered, low, V::F64(0.0));
    (m.cast(known, DType::I32), r)
}

fn both(m: &mut Compute<'_, '_>, r: Pair) -> (V, V) {
    let z = m.mul(r.high, r.high);
    // sin: x + (x³·p − (z·(tail/2 − x³·q) − tail)), written as series and tail.
    let (last, first) = (SIN[5], &SIN[..5]);
    let q = m.polynomial_f64(z, first);
    let cube = m.mul(z, r.high);
    let half = m.mul(r.low, V::F64(0.5));
    let product = m.mul(cube, q);
    let inner = m.sub(half, product);
    let inner = m.mul(z, inner);
    let inner = m.sub(inner, r.low);
    let third = m.mul(cube, V::F64(last));
    let inner = m.sub(inner, third);
    let sin = m.sub(r.high, inner);
    let c = m.polynomial_f64(z, &COS);
    let c = m.mul(c, z);
    let half = m.mul(z, V::F64(0.5));
    let w = m.sub(V::F64(1.0), half);
    let lost = m.sub(V::F64(1.0), w);
    let lost = m.sub(lost, half);
    let series = m.mul(z, c);
    let tail = m.mul(r.high, r.low);
    let rest = m.sub(series, tail);
    let rest = m.add(lost, rest);
    (sin, m.add(w, rest))
}

/// sin(r + quadrant·π/2).
fn turn(m: &mut Compute<'_, '_>, quadrant: V, r: Pair) -> V {
    let (sin, cos) = both(m, r);
    let odd = m.and(quadrant, V::I32(1));
    let odd = m.ne(odd, V::I32(0));
    let value = m.select(odd, cos, sin);
    let lower = m.and(quadrant, V::I32(2));
    let lower = m.ne(lower, V::I32(0));
    let opposite = m.neg(value);
    m.select(lower, opposite, value)
}

pub(super) fn sin(m: &mut Compute<'_, '_>, x: V) -> V {
    let (quadrant, r) = reduce(m, x);
    let result = turn(m, quadrant, r);
    or_itself(m, x, result)
}

pub(super) fn cos(m: &mut Compute<'_, '_>, x: V) -> V {
    let (quadrant, r) = reduce(m, x);
    let quadrant = m.add(quadrant, V::I32(1));
    turn(m, quadrant, r)
}

pub(super) fn tan(m: &mut Compute<'_, '_>, x: V) -> V {
    let (quadrant, r) = reduce(m, x);
    let (sin, cos) = both(m, r);
    let odd = m.and(quadrant, V::I32(1));
    let odd = m.ne(odd, V::I32(0));
    let opposite = m.neg(cos);
    let top = m.select(odd, opposite, sin);
    let bottom = m.select(odd, sin, cos);
    let result = m.div(top, bottom);
    or_itself(m, x, result)
}
