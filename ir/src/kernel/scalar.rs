//! Constants of every element type, as bits.

use half::{bf16, f16};
use mlxc_package::DType;

/// The bits of a number of this type: floats round to nearest even, integers truncate and saturate, NaN is 0.
pub(super) fn from_f64(dtype: DType, v: f64) -> u64 {
    match dtype {
        DType::Bool => u64::from(v != 0.0),
        DType::U8 => u64::from(v as u8),
        DType::U16 => u64::from(v as u16),
        DType::U32 => u64::from(v as u32),
        DType::U64 => v as u64,
        DType::I8 => u64::from(v as i8 as u8),
        DType::I16 => u64::from(v as i16 as u16),
        DType::I32 => u64::from(v as i32 as u32),
        DType::I64 => v as i64 as u64,
        DType::F16 => u64::from(f16_from_f64(v).to_bits()),
        DType::BF16 => u64::from(bf16_from_f64(v).to_bits()),
        DType::F32 => u64::from((v as f32).to_bits()),
        DType::F64 => v.to_bits(),
    }
}

/// The bits of an integer as this type: integers wrap, floats round to nearest even.
pub(super) fn from_i64(dtype: DType, v: i64) -> u64 {
    match dtype {
        DType::Bool => u64::from(v != 0),
        d if d.is_float() => from_f64(d, v as f64),
        d => v as u64 & mask(d),
    }
}

/// All bits of the type.
pub(super) const fn mask(dtype: DType) -> u64 {
    match dtype {
        DType::Bool => 1,
        d => u64::MAX >> (64 - d.bytes() * 8),
    }
}

/// The number behind the bits; exact except for 64-bit integers.
pub(super) fn to_f64(dtype: DType, bits: u64) -> f64 {
    match dtype {
        DType::F16 => f16::from_bits(bits as u16).to_f64(),
        DType::BF16 => bf16::from_bits(bits as u16).to_f64(),
        DType::F32 => f64::from(f32::from_bits(bits as u32)),
        DType::F64 => f64::from_bits(bits),
        DType::U64 => bits as f64,
        d => to_i64(d, bits) as f64,
    }
}

/// The integer behind the bits; a `u64` wraps.
pub(super) fn to_i64(dtype: DType, bits: u64) -> i64 {
    match dtype {
        DType::I8 => i64::from(bits as u8 as i8),
        DType::I16 => i64::from(bits as u16 as i16),
        DType::I32 => i64::from(bits as u32 as i32),
        _ => bits as i64,
    }
}

/// `f64` to `f16` with one rounding to nearest even.
pub(super) fn f16_from_f64(v: f64) -> f16 {
    f16::from_f32(odd_f32(v))
}

/// `f64` to `bf16` with one rounding to nearest even.
pub(super) fn bf16_from_f64(v: f64) -> bf16 {
    bf16::from_f32(odd_f32(v))
}

/// Rounds to odd, which keeps a later rounding to fewer bits from rounding twice.
fn odd_f32(v: f64) -> f32 {
    let near = v as f32;
    let back = f64::from(near);
    if back == v || v.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    if near.is_infinite() {
        return if v.is_infinite() { near } else { f32::MAX.copysign(near) };
    }
    let away = (back < v) == (v > 0.0);
    let bits = near.to_bits();
    // The neighbour on v's side of an even value is odd.
    f32::from_bits(if away { bits + 1 } else { bits - 1 })
}

/// The NaN that prints as `nan`.
pub(super) const fn quiet_nan(dtype: DType) -> u64 {
    match dtype {
        DType::F16 => 0x7e00,
        DType::BF16 => 0x7fc0,
        DType::F32 => 0x7fc0_0000,
        _ => 0x7ff8_0000_0000_0000,
    }
}

/// A decimal or hexadecimal float literal, rounded to nearest even; `None` if it is malformed, if a hexadecimal
/// one has more than 53 significant bits, or if it overflows.
pub(super) fn parse_float(dtype: DType, text: &str, negative: bool) -> Option<u64> {
    let sign = if negative { -1.0 } else { 1.0 };
    let bits = match text.strip_prefix("0x") {
        Some(hex) => from_f64(dtype, sign * hex_float(hex)?),
        None if dtype == DType::F32 => {
            let v: f32 = text.parse().ok()?;
            u64::from((v * sign as f32).to_bits())
        }
        None => from_f64(dtype, sign * text.parse::<f64>().ok()?),
    };
    to_f64(dtype, bits).is_finite().then_some(bits)
}

/// `1.8p-3` after its `0x`.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['p', 'P']) {
        Some((d, e)) => (d, e.parse::<i32>().ok().filter(|e| e.abs() <= 2000)?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut mantissa = 0u64;
    for d in whole.chars().chain(fraction.chars()) {
        mantissa = mantissa.checked_mul(16)?.checked_add(u64::from(d.to_digit(16)?))?;
    }
    let exact = mantissa == 0 || 64 - mantissa.leading_zeros() - mantissa.trailing_zeros() <= 53;
    let mut scale = exponent - 4 * i32::try_from(fraction.len()).ok()?;
    if !exact {
        return None;
    }
    let mut v = mantissa as f64;
    while scale > 0 && v.is_finite() {
        let step = scale.min(1000);
        v *= 2f64.powi(step);
        scale -= step;
    }
    // In small steps, so that no power underflows; only results below 2^-1022 round.
    while scale < 0 && v != 0.0 {
        let step = (-scale).min(1000);
        v /= 2f64.powi(step);
        scale += step;
    }
    Some(v)
}
