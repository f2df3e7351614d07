//! Sine, cosine and tangent: x = n·π/2 + r in f64 (in `single` without it), a polynomial of r in f32, and n's last two bits choose which.

use mlxc_ir::DType;

use super::{Compute, V, or_itself, single};

/// (sin r − r)/r³ in r²; relative error 2⁻³²·⁵.
const SIN: [f32; 4] = [2.831_770_9e-6, -1.985_302_8e-4, 8.333_379e-3, -1.666_666_7e-1];
/// (cos r − 1 + r²/2)/r⁴ in r²; relative error 2⁻³⁶·⁸.
const COS: [f32; 4] = [-2.882_583e-7, 2.482_150_2e-5, -1.388_897_9e-3, 4.166_666_8e-2];
const TWO_OVER_PI: f64 = std::f64::consts::FRAC_2_PI;
/// π/2 in two parts; n times the first is exact for |n| < 2²⁸.
const HALF_PI: (f64, f64) = (1.570_796_310_901_641_8, 1.589_325_477_352_819_7e-8);
/// 1.5·2⁵²: adding it rounds to an integer.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// Beyond this n times the first part of π/2 is not exact any more.
const NEAR: f32 = 2.0e8;
/// 2/π in pieces of 24 bits, each an exact f64: 188 bits and more, enough for the largest f32.
const PIECES: [f64; 8] = [
    10_680_707.0 * EXP_24,
    7_228_996.0 * EXP_48,
    1_387_004.0 * EXP_72,
    2_578_385.0 * EXP_96,
    16_069_853.0 * EXP_120,
    12_639_074.0 * EXP_144,
    9_804_092.0 * EXP_168,
    4_427_841.0 * EXP_192,
];
const EXP_24: f64 = 1.0 / 16_777_216.0;
const EXP_48: f64 = EXP_24 * EXP_24;
const EXP_72: f64 = EXP_48 * EXP_24;
const EXP_96: f64 = EXP_48 * EXP_48;
const EXP_120: f64 = EXP_96 * EXP_24;
const EXP_144: f64 = EXP_96 * EXP_48;
const EXP_168: f64 = EXP_144 * EXP_24;
const EXP_192: f64 = EXP_96 * EXP_96;

/// n modulo 4 as an i32, and r as an f32.
fn reduce(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    if !m.f64 {
        return single::reduce(m, x);
    }
    let wide = m.cast(x, DType::F64);
    let n = nearest(m, wide, TWO_OVER_PI);
    let r = m.mad(n, V::F64(-HALF_PI.0), wide);
    let r = m.mad(n, V::F64(-HALF_PI.1), r);
    let n = m.variable(n);
    let r = m.variable(r);
    let size = m.abs(x);
    let far = m.any_above(size, NEAR);
    m.when(far, |m| {
        let (far_n, far_r) = reduce_far(m, wide);
        let is_far = m.gt(size, V::F32(NEAR));
        for (near, far) in [(n, far_n), (r, far_r)] {
            let chosen = m.select(is_far, far, near);
            m.set(near, chosen);
        }
    });
    let quadrant = m.cast(n, DType::I32);
    let r = m.cast(r, DType::F32);
    (quadrant, r)
}

/// The nearest integer to x·by.
fn nearest(m: &mut Compute<'_, '_>, x: V, by: f64) -> V {
    let n = m.mad(x, V::F64(by), V::F64(MAGIC));
    m.sub(n, V::F64(MAGIC))
}

/// Payne and Hanek's way: products with pieces of 2/π are exact, and multiples of 4 in them drop out.
fn reduce_far(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let mut sum = V::F64(0.0);
    for piece in PIECES {
        let product = m.mul(x, V::F64(piece));
        let fours = m.mul(product, V::F64(0.25));
        let fours = m.floor(fours);
        let part = m.mad(fours, V::F64(-4.0), product);
        let total = m.add(sum, part);
        let fours = m.mul(total, V::F64(0.25));
        let fours = m.floor(fours);
        sum = m.mad(fours, V::F64(-4.0), total);
    }
    let n = nearest(m, sum, 1.0);
    let r = m.sub(sum, n);
    let r = m.mul(r, V::F64(std::f64::consts::FRAC_PI_2));
    (n, r)
}

fn both(m: &mut Compute<'_, '_>, r: V) -> (V, V) {
    let square = m.mul(r, r);
    let s = m.polynomial(square, &SIN);
    let cube = m.mul(square, r);
    let sin = m.mad(s, cube, r);
    let c = m.polynomial(square, &COS);
    let fourth = m.mul(square, square);
    let half = m.mad(square, V::F32(-0.5), V::F32(1.0));
    let cos = m.mad(c, fourth, half);
    (sin, cos)
}

/// sin(r + quadrant·π/2).
fn turn(m: &mut Compute<'_, '_>, quadrant: V, r: V) -> V {
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
