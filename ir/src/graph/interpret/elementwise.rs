//! What elementwise ops mean, on f64 and i64.

use super::tensor::{Data, Tensor, round_float, wrap_int};
use crate::graph::op::{BinaryOp, CompareOp, UnaryOp};
use mlxc_package::DType;

/// Error function, to double precision: a series of positive terms near 0, the complement further out
/// (Abramowitz and Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a >= 1.0 {
        return x.signum() * (1.0 - complement(a));
    }
    let (mut term, mut sum, mut n) = (a, a, 0.0);
    while term > sum * 1e-18 && n < 200.0 {
        n += 1.0;
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
    }
    (sum * std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp()).copysign(x)
}

/// 1 − erf of a number from 1 on, by its continued fraction (Abramowitz and Stegun 7.1.14).
fn complement(a: f64) -> f64 {
    let mut tail = 0.0;
    for k in (1..=600).rev() {
        tail = f64::from(k) / 2.0 / (a + tail);
    }
    (-a * a).exp() / ((a + tail) * std::f64::consts::PI.sqrt())
}

/// Inverse error function by Newton's method from a logarithmic start (Winitzki 2008); far from 0 on the complement, of
/// which no digits are lost.
pub fn erfinv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return y * f64::INFINITY;
    }
    let a = y.abs();
    let l = ((1.0 - a) * (1.0 + a)).ln();
    let t = 2.0 / (std::f64::consts::PI * 0.147) + l / 2.0;
    let mut x = if a < 0.1 { a / std::f64::consts::FRAC_2_SQRT_PI } else { ((t * t - l / 0.147).sqrt() - t).sqrt() };
    for _ in 0..6 {
        let off = if x < 1.0 { erf(x) - a } else { (1.0 - a) - complement(x) };
        x -= off / (std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp());
    }
    x.copysign(y)
}

fn float_unary(op: UnaryOp, x: f64) -> f64 {
    use UnaryOp::*;
    match op {
        Negative => -x,
        Abs => x.abs(),
        Sign if x == 0.0 || x.is_nan() => 0.0,
        Sign => x.signum(),
        Square => x * x,
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Exp => x.exp(),
        Expm1 => x.exp_m1(),
        Log => x.ln(),
        Log2 => x.log2(),
        Log10 => x.log10(),
        Log1p => x.ln_1p(),
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Arcsin => x.asin(),
        Arccos => x.acos(),
        Arctan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Tanh => x.tanh(),
        Arcsinh => x.asinh(),
        Arccosh => x.acosh(),
        Arctanh => x.atanh(),
        Erf => erf(x),
        Erfinv => erfinv(x),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Silu => x / (1.0 + (-x).exp()),
        Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        GeluApprox => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Relu => maximum(x, 0.0),
        Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p() + if x.is_nan() { x } else { 0.0 },
        LogicalNot | BitwiseInvert | IsNan | IsInf | IsFinite => unreachable!("not a float function of a float"),
    }
}

fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn int_unary(op: UnaryOp, dtype: DType, x: i64) -> i64 {
    use UnaryOp::*;
    let signed = dtype.is_signed_int();
    match op {
        Negative => x.wrapping_neg(),
        Abs if signed => x.wrapping_abs(),
        Sign if signed => x.signum(),
        Sign => i64::from(x != 0),
        Square => x.wrapping_mul(x),
        Relu if signed => x.max(0),
        LogicalNot => i64::from(x == 0),
        BitwiseInvert => !x,
        IsNan | IsInf => 0,
        IsFinite => 1,
        _ => x,
    }
}

/// One operand; the result has the dtype inference gave.
pub fn unary(op: UnaryOp, x: &Tensor, to: DType, rounds: bool) -> Tensor {
    use UnaryOp::*;
    let data = match &x.data {
        Data::Float(v) => match op {
            IsNan => Data::Int(v.iter().map(|x| i64::from(x.is_nan())).collect()),
            IsInf => Data::Int(v.iter().map(|x| i64::from(x.is_infinite())).collect()),
            IsFinite => Data::Int(v.iter().map(|x| i64::from(x.is_finite())).collect()),
            _ => Data::Float(v.iter().map(|x| rounded(to, float_unary(op, *x), rounds)).collect()),
        },
        Data::Int(v) => Data::Int(v.iter().map(|e| wrap_int(to, int_unary(op, x.dtype, *e))).collect()),
    };
    Tensor { dtype: to, shape: x.shape.clone(), data }
}

fn rounded(dtype: DType, x: f64, rounds: bool) -> f64 {
    if rounds { round_float(dtype, x) } else { x }
}

pub(super) fn float_binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    use BinaryOp::*;
    match op {
        Add => a + b,
        Subtract => a - b,
        Multiply => a * b,
        Divide => a / b,
        FloorDivide => (a / b).floor(),
        Remainder => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        Power => a.powf(b),
        Maximum => maximum(a, b),
        Minimum => minimum(a, b),
        LogAddExp => {
            let (hi, lo) = (maximum(a, b), minimum(a, b));
            if hi == lo { hi + std::f64::consts::LN_2 } else { hi + (lo - hi).exp().ln_1p() }
        }
        Arctan2 => a.atan2(b),
        _ => unreachable!("inference keeps bit operations from floats"),
    }
}

pub(super) fn int_binary(op: BinaryOp, dtype: DType, a: i64, b: i64) -> i64 {
    use BinaryOp::*;
    let signed = dtype.is_signed_int();
    let width = 8 * dtype.bytes() as i64;
    let less = |a: i64, b: i64| if signed { a < b } else { (a as u64) < b as u64 };
    match op {
        Add => a.wrapping_add(b),
        Subtract => a.wrapping_sub(b),
        Multiply => a.wrapping_mul(b),
        FloorDivide | Remainder if b == 0 => 0,
        FloorDivide if signed => {
            let q = a.wrapping_div(b);
            if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
        }
        Remainder if signed => {
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        FloorDivide => (a as u64 / b as u64) as i64,
        Remainder => (a as u64 % b as u64) as i64,
        Power => power(dtype, a, b),
        Maximum => {
            if less(a, b) {
                b
            } else {
                a
            }
        }
        Minimum => {
            if less(b, a) {
                b
            } else {
                a
            }
        }
        LogicalAnd | BitwiseAnd => a & b,
        LogicalOr | BitwiseOr => a | b,
        BitwiseXor => a ^ b,
        LeftShift if b < 0 || b >= width => 0,
        LeftShift => a << b,
        RightShift if b < 0 || b >= width => {
            if signed && a < 0 {
                -1
            } else {
                0
            }
        }
        RightShift if signed => a >> b,
        RightShift => ((a as u64) >> b) as i64,
        Divide | LogAddExp | Arctan2 => unreachable!("inference keeps float functions from integers"),
    }
}

fn power(dtype: DType, a: i64, b: i64) -> i64 {
    if dtype.is_signed_int() && b < 0 {
        return match a {
            1 => 1,
            -1 => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut base, mut left) = (1i64, a, b as u64);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        left >>= 1;
    }
    result
}

/// Two operands of one dtype and shape.
pub fn binary(op: BinaryOp, a: &Tensor, b: &Tensor, rounds: bool) -> Tensor {
    let data = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            Data::Float(x.iter().zip(y).map(|(x, y)| rounded(a.dtype, float_binary(op, *x, *y), rounds)).collect())
        }
        (Data::Int(x), Data::Int(y)) => {
            Data::Int(x.iter().zip(y).map(|(x, y)| wrap_int(a.dtype, int_binary(op, a.dtype, *x, *y))).collect())
        }
        _ => unreachable!("inference wants operands of one dtype"),
    };
    Tensor { dtype: a.dtype, shape: a.shape.clone(), data }
}

/// A comparison of two operands of one dtype and shape.
pub fn compare(op: CompareOp, a: &Tensor, b: &Tensor) -> Tensor {
    let of = |o: Option<std::cmp::Ordering>| {
        use std::cmp::Ordering::*;
        i64::from(match op {
            CompareOp::Equal => o == Some(Equal),
            CompareOp::NotEqual => o != Some(Equal),
            CompareOp::Less => o == Some(Less),
            CompareOp::LessEqual => matches!(o, Some(Less | Equal)),
            CompareOp::Greater => o == Some(Greater),
            CompareOp::GreaterEqual => matches!(o, Some(Greater | Equal)),
        })
    };
    let values = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => x.iter().zip(y).map(|(x, y)| of(x.partial_cmp(y))).collect(),
        (Data::Int(x), Data::Int(y)) if a.dtype == DType::U64 => {
            x.iter().zip(y).map(|(x, y)| of(Some((*x as u64).cmp(&(*y as u64))))).collect()
        }
        (Data::Int(x), Data::Int(y)) => x.iter().zip(y).map(|(x, y)| of(Some(x.cmp(y)))).collect(),
        _ => unreachable!("inference wants operands of one dtype"),
    };
    Tensor { dtype: DType::Bool, shape: a.shape.clone(), data: Data::Int(values) }
}

/// A value cast: to floats nearest even; float to integer truncates, saturates, NaN gives 0.
pub fn cast(x: &Tensor, to: DType, rounds: bool) -> Tensor {
    let data = match (&x.data, to.is_float()) {
        (Data::Float(v), true) => Data::Float(v.iter().map(|e| rounded(to, *e, rounds)).collect()),
        (Data::Float(v), false) if to == DType::Bool => Data::Int(v.iter().map(|e| i64::from(*e != 0.0)).collect()),
        (Data::Float(v), false) => Data::Int(v.iter().map(|e| saturate(to, *e)).collect()),
        (Data::Int(_), true) => Data::Float((0..x.len()).map(|i| rounded(to, x.float(i), rounds)).collect()),
        (Data::Int(v), false) => Data::Int(v.iter().map(|e| wrap_int(to, *e)).collect()),
    };
    Tensor { dtype: to, shape: x.shape.clone(), data }
}

fn saturate(to: DType, x: f64) -> i64 {
    match to {
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::U64 => x as u64 as i64,
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        _ => x as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_function_agrees_with_tables() {
        // Abramowitz and Stegun, table 7.1, and erfc(3) from Wolfram's tables.
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
            (3.0, 0.999_977_909_503),
        ] {
            assert!((erf(x) - y).abs() < 1e-10, "erf({x})");
            assert!((erf(-x) + y).abs() < 1e-10);
            if x < 2.5 {
                assert!((erfinv(erf(x)) - x).abs() < 1e-9, "erfinv(erf({x}))");
            }
        }
    }
}
