//! Constants as the bits of their type.

use mlxc_ir::DType;

/// The bits of an integer as this type: integers wrap, floats round to nearest even.
pub(crate) fn of_integer(dtype: DType, value: i64) -> u64 {
    match dtype {
        DType::Bool => u64::from(value != 0),
        DType::F32 => u64::from((value as f32).to_bits()),
        DType::F64 => (value as f64).to_bits(),
        DType::F16 => u64::from(half::f16::from_f32(value as f32).to_bits()),
        DType::BF16 => u64::from(half::bf16::from_f32(value as f32).to_bits()),
        d => value as u64 & (u64::MAX >> (64 - d.bytes() * 8)),
    }
}
