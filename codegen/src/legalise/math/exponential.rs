//! Exponentials: x = n·ln 2 + r with |r| ≤ ½ ln 2 (Cody and Waite), a polynomial in r, and n added to the exponent.

use mlxc_ir::DType;

use super::{Compute, V, or_itself};

/// 1.5·2²³: adding it leaves the nearest integer in the low bits.
const MAGIC: f32 = 12582912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first short enough that n times it is exact.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// Where eˣ becomes the smallest normal number, and where it overflows.
const SMALLEST: f32 = -87.336_54;
const LARGEST: f32 = 88.722_83;
/// Where eˣ/2 overflows.
const LARGEST_HALF: f32 = 89.415_985;
const OVERFLOW: f32 = 88.722_84;

/// (eʳ − 1 − r)/r², highest power first; relative error of eʳ 2⁻²⁸·¹.
const EXP: [f32; 5] = [1.381_709_4e-3, 8.368_668e-3, 4.166_828_5e-2, 1.666_652_1e-1, 4.999_999_4e-1];
/// The same one degree higher; relative error of eʳ − 1 2⁻³¹·⁰.
const EXPM1: [f32; 6] = [1.976_359_2e-4, 1.393_231_7e-3, 8.333_544e-3, 4.166_649_3e-2, 1.666_666_7e-1, 0.5];
/// (2ʳ − 1)/r; relative error of 2ʳ 2⁻²⁸·².
pub(super) const EXP2: [f32; 6] =
    [1.532_458_9e-4, 1.339_096_5e-3, 9.618_505e-3, 5.550_359_6e-2, 2.402_264_7e-1, 6.931_472e-1];

/// n, as an f32 and as an integer in the exponent field, and r.
fn reduce(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let (n, field) = nearest(m, x, LOG2_E);
    let r = m.mad(n, V::F32(-LN2_HIGH), x);
    let r = m.mad(n, V::F32(-LN2_LOW), r);
    (field, r)
}

/// The nearest integer to x·by, as an f32 and in the exponent field.
fn nearest(m: &mut Compute<'_, '_>, x: V, by: f32) -> (V, V) {
    if m.folds {
        // A compiler that reassociates takes the constant away again before it has rounded.
        let product = m.mul(x, V::F32(by));
        let n = m.rint(product);
        let field = m.cast(n, DType::I32);
        let field = m.bits(field, DType::U32);
        return (n, m.shl(field, V::U32(23)));
    }
    let z = if by == 1.0 { m.add(x, V::F32(MAGIC)) } else { m.mad(x, V::F32(by), V::F32(MAGIC)) };
    let n = m.sub(z, V::F32(MAGIC));
    let field = m.bits(z, DType::U32);
    (n, m.shl(field, V::U32(23)))
}

/// `p` times a power of two, given in its exponent field.
fn scale(m: &mut Compute<'_, '_>, p: V, field: V) -> V {
    let bits = m.bits(p, DType::U32);
    let bits = m.add(bits, field);
    m.bits(bits, DType::F32)
}

/// eˣ·2ᵏ for x within −87 to 89 + k; anything for others.
pub(super) fn exp_scaled(m: &mut Compute<'_, '_>, x: V, k: i32) -> V {
    let (field, r) = reduce(m, x);
    let q = m.polynomial(r, &EXP);
    let p = m.mad(q, r, V::F32(1.0));
    let p = m.mad(p, r, V::F32(1.0));
    let field = if k == 0 { field } else { m.add(field, V::U32((k as u32) << 23)) };
    scale(m, p, field)
}

/// 0 below `low`, +∞ (or NaN) unless at most `high`, else `usual`, which may be anything for other x.
fn limits(m: &mut Compute<'_, '_>, x: V, low: f32, high: f32, usual: V) -> V {
    let under = m.lt(x, V::F32(low));
    let result = m.select(under, V::F32(0.0), usual);
    let within = m.le(x, V::F32(high));
    let beyond = m.add(x, V::F32(f32::INFINITY));
    m.select(within, result, beyond)
}

pub(super) fn exp(m: &mut Compute<'_, '_>, x: V) -> V {
    let usual = exp_scaled(m, x, 0);
    limits(m, x, SMALLEST, LARGEST, usual)
}

/// eˣ/2 for x ≥ 0: finite as long as sinh x is.
pub(super) fn half_exp(m: &mut Compute<'_, '_>, x: V) -> V {
    let usual = exp_scaled(m, x, -1);
    let within = m.le(x, V::F32(LARGEST_HALF));
    let beyond = m.add(x, V::F32(f32::INFINITY));
    m.select(within, usual, beyond)
}

pub(super) fn exp2(m: &mut Compute<'_, '_>, x: V) -> V {
    let (n, field) = nearest(m, x, 1.0);
    let r = m.sub(x, n);
    let q = m.polynomial(r, &EXP2);
    let p = m.mad(q, r, V::F32(1.0));
    let usual = scale(m, p, field);
    limits(m, x, -126.0, 127.999_99, usual)
}

/// 2ⁿ·(eʳ − 1) + (2ⁿ − 1), everything halved so that n = 128 fits.
pub(super) fn expm1(m: &mut Compute<'_, '_>, x: V) -> V {
    let inside = m.max(x, V::F32(-18.0));
    let inside = m.min(inside, V::F32(OVERFLOW));
    let (field, r) = reduce(m, inside);
    let q = m.polynomial(r, &EXPM1);
    let square = m.mul(r, r);
    let p = m.mad(q, square, r);
    let half = m.add(field, V::U32(126 << 23));
    let half = m.bits(half, DType::F32);
    let offset = m.sub(half, V::F32(0.5));
    let sum = m.mad(half, p, offset);
    let result = m.add(sum, sum);
    or_itself(m, x, result)
}
