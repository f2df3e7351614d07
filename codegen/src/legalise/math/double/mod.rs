//! Elementary functions of f64, as statements.
//!
//! Coefficients are Taylor series, computed here, or those of FreeBSD's msun (fdlibm, Sun Microsystems 1993), whose file
//! is named beside them. The largest errors seen against correctly rounded values are 2 ulp for `tan` and `tanh`, 1 for
//! the others; one more without `fma`. Sines and tangents of more than 2⁴⁰ are NaN: f64 has no fraction left there to
//! speak of.

use mlxc_ir::DType;
use mlxc_ir::kernel::MathFn;

use super::{Compute, V};

mod circular;
mod error;
mod exponential;
mod hyperbolic;
mod inverse;
mod logarithm;
mod pair;
mod power;

/// The function of f64 operands.
pub(super) fn function(m: &mut Compute<'_, '_>, function: MathFn, x: V, y: Option<V>) -> V {
    let second = y.unwrap_or(x);
    match function {
        MathFn::Exp => exponential::exp(m, x),
        MathFn::Exp2 => exponential::exp2(m, x),
        MathFn::Expm1 => exponential::expm1(m, x),
        MathFn::Log => logarithm::log(m, x),
        MathFn::Log2 => logarithm::log2(m, x),
        MathFn::Log10 => logarithm::log10(m, x),
        MathFn::Log1p => logarithm::log1p(m, x),
        MathFn::Sin => circular::sin(m, x),
        MathFn::Cos => circular::cos(m, x),
        MathFn::Tan => circular::tan(m, x),
        MathFn::Asin => inverse::asin(m, x),
        MathFn::Acos => inverse::acos(m, x),
        MathFn::Atan => inverse::atan(m, x),
        MathFn::Atan2 => inverse::atan2(m, x, second),
        MathFn::Sinh => hyperbolic::sinh(m, x),
        MathFn::Cosh => hyperbolic::cosh(m, x),
        MathFn::Tanh => hyperbolic::tanh(m, x),
        MathFn::Asinh => hyperbolic::asinh(m, x),
        MathFn::Acosh => hyperbolic::acosh(m, x),
        MathFn::Atanh => hyperbolic::atanh(m, x),
        MathFn::Erf => error::erf(m, x),
        MathFn::Erfinv => error::erfinv(m, x),
        MathFn::Pow => power::pow(m, x, second),
        MathFn::Fmod => {
            let quotient = m.div(x, second);
            let quotient = m.trunc(quotient);
            let product = m.mul(quotient, second);
            let rest = m.sub(x, product);
            let (size, divisor) = (m.abs(x), m.abs(second));
            let infinite = m.eq(divisor, V::F64(f64::INFINITY));
            let finite = m.lt(size, V::F64(f64::INFINITY));
            let whole = m.and(infinite, finite);
            m.select(whole, x, rest)
        }
        MathFn::Rsqrt => x,
    }
}

/// 1.5·2⁵²: adding it leaves the nearest integer in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
const SIGN: u64 = 1 << 63;

/// The nearest integer.
fn nearest(m: &mut Compute<'_, '_>, x: V) -> V {
    let z = m.add(x, V::F64(MAGIC));
    m.sub(z, V::F64(MAGIC))
}

/// `magnitude` (not negative) with the sign of `sign`.
fn with_sign(m: &mut Compute<'_, '_>, magnitude: V, sign: V) -> V {
    let bits = m.bits(sign, DType::U64);
    let sign = m.and(bits, V::U64(SIGN));
    let magnitude = m.bits(magnitude, DType::U64);
    let both = m.or(magnitude, sign);
    m.bits(both, DType::F64)
}

/// `result`, but `x` itself where x² is 0 or x is NaN.
fn or_itself(m: &mut Compute<'_, '_>, x: V, result: V) -> V {
    let square = m.mul(x, x);
    let usual = m.gt(square, V::F64(0.0));
    m.select(usual, result, x)
}

/// x with the lower 32 bits of its mantissa cleared.
fn high_word(m: &mut Compute<'_, '_>, x: V) -> V {
    let bits = m.bits(x, DType::U64);
    let high = m.and(bits, V::U64(0xFFFF_FFFF_0000_0000));
    m.bits(high, DType::F64)
}
