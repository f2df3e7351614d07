//! Logarithms: x = 2ᵉ·(1 + f) with √½ ≤ 1 + f < √2, and a series in f/(2 + f) (msun e_log.c, k_log.h).

use mlxc_ir::DType;

use super::{Compute, V, high_word, or_itself};

const LOG: [f64; 7] = [
    0.147_981_986_051_165_86,
    0.153_138_376_992_093_73,
    0.181_835_721_616_180_5,
    0.222_221_984_321_497_84,
    0.285_714_287_436_623_9,
    0.399_999_999_994_094_2,
    0.666_666_666_666_673_5,
];
const LN2: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);
/// 1/ln 2 and 1/ln 10 in two parts, and log₁₀ 2 (msun e_log2.c, e_log10.c).
const LOG2_E: (f64, f64) = (1.442_695_040_721_446_3, 1.675_171_316_488_651_2e-10);
const LOG10_E: (f64, f64) = (0.434_294_481_878_168_9, 2.508_294_671_164_527_5e-11);
const LOG10_2: (f64, f64) = (0.301_029_995_663_611_77, 3.694_239_077_158_931e-13);
/// Bits of √½.
const ROOT_HALF: u64 = 0x3FE6_A09E_667F_3BCD;

/// e and 1 + f of a positive number.
pub(super) fn split(m: &mut Compute<'_, '_>, x: V) -> (V, V) {
    let small = m.lt(x, V::F64(f64::MIN_POSITIVE));
    let raised = m.mul(x, V::F64(18_014_398_509_481_984.0));
    let normal = m.select(small, raised, x);
    let shift = m.select(small, V::F64(-54.0), V::F64(0.0));
    let bits = m.bits(normal, DType::U64);
    let field = m.sub(bits, V::U64(ROOT_HALF));
    let field = m.and(field, V::U64(0xFFF0_0000_0000_0000));
    let mantissa = m.sub(bits, field);
    let mantissa = m.bits(mantissa, DType::F64);
    // The exponent as an unsigned number above an offset: only its bits move, no conversion of 64-bit integers.
    let raised = m.add(field, V::U64(0x4000_0000_0000_0000));
    let number = m.shr(raised, V::U64(52));
    let number = m.or(number, V::U64(0x4330_0000_0000_0000));
    let number = m.bits(number, DType::F64);
    let e = m.sub(number, V::F64(4_503_599_627_370_496.0 + 1024.0));
    (m.add(e, shift), mantissa)
}

/// Half the square of f, and s·(f²/2 + R): log(1 + f) = f − half + tail.
fn parts(m: &mut Compute<'_, '_>, f: V) -> (V, V) {
    let divisor = m.add(f, V::F64(2.0));
    let s = m.div(f, divisor);
    let z = m.mul(s, s);
    let r = m.polynomial_f64(z, &LOG);
    let r = m.mul(r, z);
    let half = m.mul(f, f);
    let half = m.mul(half, V::F64(0.5));
    let sum = m.add(half, r);
    (half, m.mul(s, sum))
}

/// −∞ at `zero`, NaN below it, x itself at +∞ and NaN, else `usual`.
fn limits(m: &mut Compute<'_, '_>, x: V, zero: f64, usual: V) -> V {
    let finite = m.lt(x, V::F64(f64::INFINITY));
    let large = m.select(finite, usual, x);
    let at_zero = m.eq(x, V::F64(zero));
    let small = m.select(at_zero, V::F64(f64::NEG_INFINITY), V::F64(f64::NAN));
    let above = m.gt(x, V::F64(zero));
    m.select(above, large, small)
}

/// e·ln 2 + log(1 + f) + rest.
fn natural(m: &mut Compute<'_, '_>, e: V, f: V, rest: V) -> V {
    let (half, tail) = parts(m, f);
    let low = m.mad(e, V::F64(LN2.1), rest);
    let low = m.add(tail, low);
    let low = m.sub(half, low);
    let low = m.sub(low, f);
    let high = m.mul(e, V::F64(LN2.0));
    m.sub(high, low)
}

pub(super) fn log(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F64(1.0));
    let usual = natural(m, e, f, V::F64(0.0));
    limits(m, x, 0.0, usual)
}

/// log(1 + f) in two parts, the first of 21 bits.
fn two_parts(m: &mut Compute<'_, '_>, f: V) -> (V, V) {
    let (half, tail) = parts(m, f);
    let high = m.sub(f, half);
    let high = high_word(m, high);
    let low = m.sub(f, high);
    let low = m.sub(low, half);
    (high, m.add(low, tail))
}

pub(super) fn log2(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F64(1.0));
    let (high, low) = two_parts(m, f);
    let first = m.mul(high, V::F64(LOG2_E.0));
    let sum = m.add(low, high);
    let second = m.mul(sum, V::F64(LOG2_E.1));
    let second = m.mad(low, V::F64(LOG2_E.0), second);
    let w = m.add(e, first);
    let lost = m.sub(e, w);
    let lost = m.add(lost, first);
    let second = m.add(second, lost);
    let usual = m.add(second, w);
    limits(m, x, 0.0, usual)
}

pub(super) fn log10(m: &mut Compute<'_, '_>, x: V) -> V {
    let (e, mantissa) = split(m, x);
    let f = m.sub(mantissa, V::F64(1.0));
    let (high, low) = two_parts(m, f);
    let first = m.mul(high, V::F64(LOG10_E.0));
    let whole = m.mul(e, V::F64(LOG10_2.0));
    let sum = m.add(low, high);
    let second = m.mul(sum, V::F64(LOG10_E.1));
    let second = m.mad(low, V::F64(LOG10_E.0), second);
    let second = m.mad(e, V::F64(LOG10_2.1), second);
    let w = m.add(whole, first);
    let lost = m.sub(whole, w);
    let lost = m.add(lost, first);
    let second = m.add(second, lost);
    let usual = m.add(second, w);
    limits(m, x, 0.0, usual)
}

/// log of u = 1 + x, and what the rounding of u lost, divided by u.
pub(super) fn log1p(m: &mut Compute<'_, '_>, x: V) -> V {
    let u = super::pair::sum(m, x, V::F64(1.0));
    let lost = m.div(u.low, u.high);
    let (e, mantissa) = split(m, u.high);
    let f = m.sub(mantissa, V::F64(1.0));
    let usual = natural(m, e, f, lost);
    let result = limits(m, x, -1.0, usual);
    or_itself(m, x, result)
}
