//! `fmod` of f32, exact: in f64 where there is one, else by long division of the mantissas.

use mlxc_ir::DType;

use super::{Compute, V};

/// Exponents of f32 lie at most this far apart, subnormals counted as their bits say.
const WIDEST: i64 = 277;
/// Bits of the dividend that one step of the long division takes in: with 24 of the divisor they fit 32.
const STEP: u32 = 8;

pub(super) fn fmod(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let rest = if m.f64 { wide(m, x, y) } else { divided(m, x, y) };
    let (size, divisor) = (m.abs(x), m.abs(y));
    let infinite = m.eq(divisor, V::F32(f32::INFINITY));
    let finite = m.lt(size, V::F32(f32::INFINITY));
    let whole = m.and(infinite, finite);
    m.select(whole, x, rest)
}

/// Each step takes the quotient's leading 29 bits away: their product with a divisor of 24 bits is exact, and so is the
/// difference. An f32 quotient has at most 277 bits before the point.
fn wide(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let divisor = m.cast(y, DType::F64);
    let rest = m.cast(x, DType::F64);
    let rest = m.variable(rest);
    m.repeat(10, |m| {
        let quotient = m.div(rest, divisor);
        let quotient = m.trunc(quotient);
        let bits = m.bits(quotient, DType::U64);
        let leading = m.and(bits, V::U64(!0xFF_FFFF));
        let leading = m.bits(leading, DType::F64);
        let product = m.mul(leading, divisor);
        let next = m.sub(rest, product);
        m.set(rest, next);
    });
    m.cast(rest, DType::F32)
}

/// The mantissa as an integer, and the exponent of its last bit plus 150.
fn parts(m: &mut Compute<'_, '_>, bits: V) -> (V, V) {
    let field = m.shr(bits, V::U32(23));
    let fraction = m.and(bits, V::U32(0x007F_FFFF));
    let subnormal = m.eq(field, V::U32(0));
    let normal = m.or(fraction, V::U32(0x0080_0000));
    let mantissa = m.select(subnormal, fraction, normal);
    let exponent = m.select(subnormal, V::U32(1), field);
    (mantissa, exponent)
}

/// 2ᵉ of an i32 within the normal range.
fn power(m: &mut Compute<'_, '_>, e: V) -> V {
    let field = m.add(e, V::I32(127));
    let bits = m.shl(field, V::I32(23));
    m.bits(bits, DType::F32)
}

fn divided(m: &mut Compute<'_, '_>, x: V, y: V) -> V {
    let (size, divisor) = (m.abs(x), m.abs(y));
    let (size, divisor) = (m.bits(size, DType::U32), m.bits(divisor, DType::U32));
    let ((mx, ex), (my, ey)) = (parts(m, size), parts(m, divisor));
    let none = m.eq(my, V::U32(0));
    let my = m.select(none, V::U32(1), my);
    let larger = m.ge(ex, ey);
    let apart = m.sub(ex, ey);
    let apart = m.select(larger, apart, V::U32(0));
    let first = m.rem(mx, my);
    let (rest, left) = (m.variable(first), m.variable(apart));
    m.repeat((WIDEST + i64::from(STEP) - 1) / i64::from(STEP), |m| {
        let shift = m.min(left, V::U32(STEP));
        let shifted = m.shl(rest, shift);
        let next = m.rem(shifted, my);
        m.set(rest, next);
        let after = m.sub(left, shift);
        m.set(left, after);
    });
    // A power of two in two parts, both of them normal numbers.
    let exponent = m.bits(ey, DType::I32);
    let exponent = m.sub(exponent, V::I32(150));
    let half = m.shr(exponent, V::I32(1));
    let other = m.sub(exponent, half);
    let integer = m.bits(rest, DType::I32);
    let value = m.cast(integer, DType::F32);
    let (half, other) = (power(m, half), power(m, other));
    let value = m.mul(value, half);
    let value = m.mul(value, other);
    let value = m.with_sign(value, x);
    let smaller = m.lt(size, divisor);
    let value = m.select(smaller, x, value);
    // Infinite or NaN dividends, NaN and zero divisors.
    let no_number = m.ge(size, V::U32(0x7F80_0000));
    let nan = m.gt(divisor, V::U32(0x7F80_0000));
    let zero = m.eq(divisor, V::U32(0));
    let undefined = m.or(no_number, nan);
    let undefined = m.or(undefined, zero);
    m.select(undefined, V::F32(f32::NAN), value)
}
