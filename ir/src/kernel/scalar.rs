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
