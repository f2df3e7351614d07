//! Logarithms: x = 2ᵉ·(1 + f) with √½ ≤ 1 + f < √2, and log(1 + f) = f − f²/2 + f³·P(f).

use mlxc_ir::DType;

use super::{Compute, V, or_itself};

/// P, highest power first; relative error of log(1 + f) 2⁻²⁹·⁴.
pub(super) const LOG: [f32; 9] = [
    6.754_156e-2,
    -1.167_381_4e-1,
    1.188_398_8e-1,
    -1.240_586_3e-1,
    1.422_026_4e-1,
    -1.666_799_8e-1,
    2.000_207_5e-1,
    -2.500_001e-1,
    3.333_331_3e-1,
];
/// ln 2 and log₁₀ 2 in two parts, the first short enough that e times it is exact.
const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
const LOG10_2: (f32, f32) = (0.301_025_4, 4.605_039e-6);
/// Bits of √½.
const ROOT_HALF: u32 = 0x3F35_04F3;

/// e as an f32, and 1 + f, of a positive number.
pub(super) fn split(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let small = m.lt(x, V::F32(f32::MIN_POSITIVE));
    let raised = m.mul(x, V::F32(8_388_608.0));
    let normal = m.select(small, raised, x);
    let shift = m.select(small, V::F32(-23.0), V::F32(0.0));
    let bits = m.bits(normal, DType::U32);
    let field = m.sub(bits, V::U32(ROOT_HALF));
    let field = m.and(field, V::U32(0xFF80_0000));
    let mantissa = m.sub(bits, field);
    let mantissa = m.bits(mantissa, DType::F32);
    let exponent = m.bits(field, DType::I32);
    let exponent = m.cast(exponent, DType::F32);
    let exponent = m.mad(exponent, V::F32(1.0 / 8_388_608.0), shift);
    (exponent, mantissa)
}

/// log(1 + f) − f.
fn tail(m: &mut Compute<'_, '_>, f: V) -> V {
    let square = m.mul(f, f);
    let p = m.polynomial(f, &LOG);
    let cube = m.mul(f, square);
    let p = m.mul(p, cube);
    m.mad(square, V::F32(-0.5), p)
}

/// −∞ at `zero`, NaN below it, x itself at +∞, else `usual`.
fn limits(m: &mut Compute<'_, '_>, x: V, zero: f32, usual: V) -> V {
    let finite = m.lt(x, V::F32(f32::INFINITY));
    let large = m.select(finite, usual, x);
    let at_zero = m.eq(x, V::F32(zero));
    let small = m.select(at_zero, V::F32(f32::NEG_INFINITY), V::F32(f32::NAN));
    let above = m.gt(x, V::F32(zero));
    m.select(above, large, small)
}

/// e·ln 2 + f + rest, smallest first.
fn natural(m: &mut Compute<'_, '_>, e: V, f: V, rest: V) -> V {
    let sum = m.mad(e, V::F32(LN2.1), rest);
    let sum = m.add(sum, f);
    m.mad(e, V::F32(LN2.0), sum)
}

pub(super) fn log(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F32(1.0));
    let rest = tail(m, f);
    let usual = natural(m, e, f, rest);
    limits(m, x, 0.0, usual)
}

pub(super) fn log2(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F32(1.0));
    let rest = tail(m, f);
    // log₂ e = 1 + 0.44…: the product with the 1 is exact.
    let ln = m.add(f, rest);
    let usual = m.mad(ln, V::F32(0.442_695_05), rest);
    let usual = m.add(usual, f);
    let usual = m.add(usual, e);
    limits(m, x, 0.0, usual)
}

pub(super) fn log10(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F32(1.0));
    let rest = tail(m, f);
    let ln = m.add(f, rest);
    let sum = m.mul(e, V::F32(LOG10_2.1));
    let sum = m.mad(ln, V::F32(std::f32::consts::LOG10_E), sum);
    let usual = m.mad(e, V::F32(LOG10_2.0), sum);
    limits(m, x, 0.0, usual)
}

/// log of u = 1 + x, and what the rounding of u lost, divided by u.
pub(super) fn log1p(m: &mut Compute<'_, '_>, x: V) -> V {
    let u = m.add(x, V::F32(1.0));
    if m.folds {
        return log1p_by_ranges(m, x, u);
    }
    // Two-sum: the error of u whichever of 1 and x is larger.
    let part = m.sub(u, V::F32(1.0));
    let other = m.sub(u, part);
    let (a, b) = (m.sub(x, part), m.sub(V::F32(1.0), other));
    let lost = m.add(a, b);
    let lost = m.div(lost, u);
    let (e, mantissa) = split(m, u);
    let f = m.sub(mantissa, V::F32(1.0));
    let rest = tail(m, f);
    let rest = m.add(rest, lost);
    let usual = natural(m, e, f, rest);
    let result = limits(m, x, -1.0, usual);
    or_itself(m, x, result)
}

/// Near 0, x itself is f; elsewhere the rounding of u = 1 + x is as little as the logarithm's own. For compilers that
/// take what a sum lost for nothing.
fn log1p_by_ranges(m: &mut Compute<'_, '_>, x: V, u: V) -> V {
    let (e, mantissa) = split(m, u);
    let f = m.sub(mantissa, V::F32(1.0));
    let (above, below) = (m.gt(x, V::F32(-0.29)), m.lt(x, V::F32(0.41)));
    let near = m.and(above, below);
    let e = m.select(near, V::F32(0.0), e);
    let f = m.select(near, x, f);
    let rest = tail(m, f);
    let usual = natural(m, e, f, rest);
    let result = limits(m, x, -1.0, usual);
    or_itself(m, x, result)
}
