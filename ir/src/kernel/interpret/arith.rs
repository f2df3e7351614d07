//! Arithmetic on one element, given and returned as bits. Half types are computed in f32 and rounded once.

use super::special;
use crate::kernel::ops::{BinaryOp, Comparison, MathFn, UnaryOp};
use crate::kernel::scalar::{from_f64, from_i64, mask, to_f64, to_i64};
use half::{bf16, f16};
use mlxc_package::DType;

pub(super) fn f32_of(d: DType, bits: u64) -> f32 {
    match d {
        DType::F32 => f32::from_bits(bits as u32),
        DType::BF16 => bf16::from_bits(bits as u16).to_f32(),
        _ => f16::from_bits(bits as u16).to_f32(),
    }
}

pub(super) fn f32_to(d: DType, v: f32) -> u64 {
    match d {
        DType::F32 => u64::from(v.to_bits()),
        DType::BF16 => u64::from(bf16::from_f32(v).to_bits()),
        _ => u64::from(f16::from_f32(v).to_bits()),
    }
}

/// Why an operation has no result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    ZeroDivisor,
    ShiftAmount,
}

pub(super) fn binary(op: BinaryOp, d: DType, a: u64, b: u64) -> Result<u64, Fault> {
    if d == DType::F64 {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        return Ok(match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x * y,
            BinaryOp::Div => x / y,
            BinaryOp::Min if x < y => x,
            BinaryOp::Max if x > y => x,
            _ => y,
        }
        .to_bits());
    }
    if d.is_float() {
        let (x, y) = (f32_of(d, a), f32_of(d, b));
        return Ok(match op {
            BinaryOp::Add => f32_to(d, x + y),
            BinaryOp::Sub => f32_to(d, x - y),
            BinaryOp::Mul => f32_to(d, x * y),
            BinaryOp::Div => f32_to(d, x / y),
            BinaryOp::Min if x < y => a,
            BinaryOp::Max if x > y => a,
            _ => b,
        });
    }
    let bits = if d == DType::Bool { 1 } else { d.bytes() * 8 };
    let signed = d.is_signed_int();
    let (x, y) = (to_i64(d, a), to_i64(d, b));
    let less = if signed { x < y } else { a < b };
    let out = match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div | BinaryOp::Rem if b == 0 => return Err(Fault::ZeroDivisor),
        BinaryOp::Div if signed => x.wrapping_div(y) as u64,
        BinaryOp::Div => a / b,
        BinaryOp::Rem if signed => x.wrapping_rem(y) as u64,
        BinaryOp::Rem => a % b,
        BinaryOp::Min => return Ok(if less { a } else { b }),
        BinaryOp::Max => return Ok(if less || a == b { b } else { a }),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl | BinaryOp::Shr if b >= bits => return Err(Fault::ShiftAmount),
        BinaryOp::Shl => a << b,
        BinaryOp::Shr if signed => (x >> b) as u64,
        BinaryOp::Shr => a >> b,
    };
    Ok(out & mask(d))
}

pub(super) fn unary(op: UnaryOp, d: DType, a: u64) -> u64 {
    if d.is_float() {
        let sign = 1u64 << (d.bytes() * 8 - 1);
        return match op {
            UnaryOp::Neg => a ^ sign,
            UnaryOp::Abs => a & !sign,
            _ if d == DType::F64 => round_like(op, f64::from_bits(a)).to_bits(),
            // Exact in f64, except the root, which rounds to f32 the same from f64 as at once.
            _ => f32_to(d, round_like(op, f64::from(f32_of(d, a))) as f32),
        };
    }
    let out = match op {
        UnaryOp::Not => !a,
        UnaryOp::Abs if to_i64(d, a) >= 0 || !d.is_signed_int() => a,
        _ => a.wrapping_neg(),
    };
    out & mask(d)
}

fn round_like(op: UnaryOp, v: f64) -> f64 {
    match op {
        UnaryOp::Sqrt => v.sqrt(),
        UnaryOp::Floor => v.floor(),
        UnaryOp::Ceil => v.ceil(),
        UnaryOp::Trunc => v.trunc(),
        _ => v.round_ties_even(),
    }
}

pub(super) fn compare(op: Comparison, d: DType, a: u64, b: u64) -> bool {
    let order = if d.is_float() {
        to_f64(d, a).partial_cmp(&to_f64(d, b))
    } else if d.is_signed_int() {
        Some(to_i64(d, a).cmp(&to_i64(d, b)))
    } else {
        Some(a.cmp(&b))
    };
    match op {
        Comparison::Eq => order.is_some_and(|o| o.is_eq()),
        Comparison::Ne => order.is_none_or(|o| o.is_ne()),
        Comparison::Lt => order.is_some_and(|o| o.is_lt()),
        Comparison::Le => order.is_some_and(|o| o.is_le()),
        Comparison::Gt => order.is_some_and(|o| o.is_gt()),
        Comparison::Ge => order.is_some_and(|o| o.is_ge()),
    }
}

/// a·b + c, rounded once.
pub(super) fn fma(d: DType, a: u64, b: u64, c: u64) -> u64 {
    match d {
        DType::F64 => f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits(),
        _ => f32_to(d, f32_of(d, a).mul_add(f32_of(d, b), f32_of(d, c))),
    }
}

/// a·b + c, rounded twice (in f32 for half types).
pub(super) fn multiply_add(d: DType, a: u64, b: u64, c: u64) -> u64 {
    match d {
        DType::F64 => (f64::from_bits(a) * f64::from_bits(b) + f64::from_bits(c)).to_bits(),
        _ => f32_to(d, f32_of(d, a) * f32_of(d, b) + f32_of(d, c)),
    }
}

pub(super) fn cast(from: DType, to: DType, bits: u64) -> u64 {
    if from == to {
        return bits;
    }
    if to == DType::Bool {
        return u64::from(if from.is_float() { to_f64(from, bits) != 0.0 } else { bits != 0 });
    }
    if from.is_float() {
        let v = to_f64(from, bits);
        // NaN keeps its sign and stays quiet.
        return from_f64(to, v);
    }
    match (from, to) {
        (DType::U64, DType::F32) => u64::from((bits as f32).to_bits()),
        (_, DType::F32) => u64::from((to_i64(from, bits) as f32).to_bits()),
        (DType::U64, d) if d.is_float() => from_f64(d, bits as f64),
        _ => from_i64(to, to_i64(from, bits)),
    }
}

/// An elementary function, computed in f64 and rounded once.
pub(super) fn math(f: MathFn, d: DType, a: u64, b: u64) -> u64 {
    let (x, y) = (to_f64(d, a), to_f64(d, b));
    let v = match f {
        MathFn::Exp => x.exp(),
        MathFn::Exp2 => x.exp2(),
        MathFn::Expm1 => x.exp_m1(),
        MathFn::Log => x.ln(),
        MathFn::Log2 => x.log2(),
        MathFn::Log10 => x.log10(),
        MathFn::Log1p => x.ln_1p(),
        MathFn::Sin => x.sin(),
        MathFn::Cos => x.cos(),
        MathFn::Tan => x.tan(),
        MathFn::Asin => x.asin(),
        MathFn::Acos => x.acos(),
        MathFn::Atan => x.atan(),
        MathFn::Sinh => x.sinh(),
        MathFn::Cosh => x.cosh(),
        MathFn::Tanh => x.tanh(),
        MathFn::Asinh => x.asinh(),
        MathFn::Acosh => x.acosh(),
        MathFn::Atanh => x.atanh(),
        MathFn::Erf => special::erf(x),
        MathFn::Erfinv => special::erfinv(x),
        MathFn::Rsqrt => 1.0 / x.sqrt(),
        MathFn::Pow => x.powf(y),
        MathFn::Fmod => x % y,
        MathFn::Atan2 => x.atan2(y),
    };
    from_f64(d, v)
}
