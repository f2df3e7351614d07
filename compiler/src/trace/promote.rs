//! MLX's type promotion: JAX's lattice, with Python-style weak scalars.

use mlxc_ir::DType;

/// The dtype two arrays meet in, as `mlx.core` promotes.
pub fn promote(a: DType, b: DType) -> DType {
    use DType::*;
    if a == b {
        return a;
    }
    match (a, b) {
        (Bool, d) | (d, Bool) => d,
        (F64, _) | (_, F64) => F64,
        (F16, BF16) | (BF16, F16) => F32,
        (F32, _) | (_, F32) => F32,
        (F16 | BF16, _) => a,
        (_, F16 | BF16) => b,
        (x, y) if x.is_signed_int() == y.is_signed_int() => {
            if x.bytes() >= y.bytes() {
                x
            } else {
                y
            }
        }
        (x, y) => {
            let (signed, unsigned) = if x.is_signed_int() { (x, y) } else { (y, x) };
            if unsigned == U64 {
                F32
            } else if signed.bytes() > unsigned.bytes() {
                signed
            } else {
                match unsigned {
                    U8 => I16,
                    U16 => I32,
                    _ => I64,
                }
            }
        }
    }
}

/// The dtype an array and a weak scalar meet in.
pub fn weak(array: DType, scalar_is_float: bool) -> DType {
    match (array, scalar_is_float) {
        (DType::Bool, false) => DType::I32,
        (d, true) if !d.is_float() => DType::F32,
        (d, _) => d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_symmetric_and_known() {
        for a in DType::ALL {
            assert_eq!(promote(a, a), a);
            for b in DType::ALL {
                assert_eq!(promote(a, b), promote(b, a));
            }
        }
        assert_eq!(promote(DType::F16, DType::BF16), DType::F32);
        assert_eq!(promote(DType::U8, DType::I8), DType::I16);
        assert_eq!(promote(DType::U32, DType::I32), DType::I64);
        assert_eq!(promote(DType::U64, DType::I8), DType::F32);
        assert_eq!(promote(DType::I64, DType::BF16), DType::BF16);
        assert_eq!(weak(DType::I32, true), DType::F32);
        assert_eq!(weak(DType::BF16, true), DType::BF16);
        assert_eq!(weak(DType::U8, false), DType::U8);
    }
}
