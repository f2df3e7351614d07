//! Elementwise ops as Kernel IR expressions.
//!
//! Values are held in their compute type: f32 for the half types, their own otherwise.

use mlxc_ir::DType;
use mlxc_ir::graph::{BinaryOp, CompareOp, UnaryOp};
use mlxc_ir::kernel::{KernelBuilder, MathFn, Type, Val};

/// The type a dtype is computed in.
pub fn compute(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        d => d,
    }
}

/// Rough cost of an op in f32 operations, for the cost model.
pub fn unary_flops(op: UnaryOp) -> f64 {
    use UnaryOp::*;
    match op {
        Negative | Abs | Sign | Square | Floor | Ceil | Round | LogicalNot | BitwiseInvert | IsNan | IsInf
        | IsFinite | Relu => 1.0,
        Sqrt | Rsqrt | Reciprocal => 6.0,
        Exp | Expm1 | Log | Log2 | Log10 | Log1p | Sigmoid | Silu => 20.0,
        _ => 40.0,
    }
}

/// Rough cost of an op in f32 operations, for the cost model.
pub fn binary_flops(op: BinaryOp) -> f64 {
    match op {
        BinaryOp::Divide => 6.0,
        BinaryOp::FloorDivide | BinaryOp::Remainder => 12.0,
        BinaryOp::Power | BinaryOp::LogAddExp | BinaryOp::Arctan2 => 60.0,
        _ => 1.0,
    }
}

/// A constant fitted to `like`'s type by the builder where it meets a vector.
fn number<'k>(k: &'k KernelBuilder, like: Val<'k>, value: f64) -> Val<'k> {
    k.constant(value, like.dtype())
}

fn integer<'k>(k: &'k KernelBuilder, like: Val<'k>, value: i64) -> Val<'k> {
    k.int_constant(value, like.dtype())
}

fn splat_to<'k>(v: Val<'k>, like: Type) -> Val<'k> {
    if v.ty().lanes() == like.lanes() { v } else { v.splat(like.lanes()) }
}

/// One operand.
pub fn unary<'k>(k: &'k KernelBuilder, op: UnaryOp, x: Val<'k>) -> Val<'k> {
    use UnaryOp::*;
    let d = x.dtype();
    let c = |v: f64| number(k, x, v);
    let float = d.is_float();
    let math = |f: MathFn| x.math(f);
    match op {
        Negative => -x,
        Abs if d.is_float() || d.is_signed_int() => x.abs(),
        Abs => x,
        Sign if float => {
            let one = x.gt(c(0.0)).select(splat_to(c(1.0), x.ty()), splat_to(c(0.0), x.ty()));
            x.lt(c(0.0)).select(splat_to(c(-1.0), x.ty()), one)
        }
        Sign => {
            let (zero, one) = (splat_to(integer(k, x, 0), x.ty()), splat_to(integer(k, x, 1), x.ty()));
            let sign = x.gt(zero).select(one, zero);
            if d.is_signed_int() { x.lt(zero).select(splat_to(integer(k, x, -1), x.ty()), sign) } else { sign }
        }
        Square => x * x,
        Sqrt => x.sqrt(),
        Rsqrt => x.rsqrt(),
        Reciprocal => c(1.0) / x,
        Exp => x.exp(),
        Expm1 => math(MathFn::Expm1),
        Log => x.log(),
        Log2 => math(MathFn::Log2),
        Log10 => math(MathFn::Log10),
        Log1p => math(MathFn::Log1p),
        Sin => math(MathFn::Sin),
        Cos => math(MathFn::Cos),
        Tan => math(MathFn::Tan),
        Arcsin => math(MathFn::Asin),
        Arccos => math(MathFn::Acos),
        Arctan => math(MathFn::Atan),
        Sinh => math(MathFn::Sinh),
        Cosh => math(MathFn::Cosh),
        Tanh => math(MathFn::Tanh),
        Arcsinh => math(MathFn::Asinh),
        Arccosh => math(MathFn::Acosh),
        Arctanh => math(MathFn::Atanh),
        Erf => math(MathFn::Erf),
        Erfinv => math(MathFn::Erfinv),
        Sigmoid => c(1.0) / ((-x).exp() + 1.0),
        Floor | Ceil | Round if !float => x,
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.rint(),
        LogicalNot | BitwiseInvert => !x,
        IsNan if float => x.ne(x),
        IsInf if float => x.abs().eq(c(f64::INFINITY)),
        IsFinite if float => x.abs().lt(c(f64::INFINITY)),
        IsNan | IsInf => falsehood(x),
        IsFinite => !falsehood(x),
        Silu => x / ((-x).exp() + 1.0),
        Gelu => x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).math(MathFn::Erf) + 1.0),
        GeluApprox => {
            let inner = (x + x * x * x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * 0.5 * (inner.math(MathFn::Tanh) + 1.0)
        }
        Relu => maximum(k, x, if float { c(0.0) } else { integer(k, x, 0) }),
        Softplus => {
            let zero = splat_to(c(0.0), x.ty());
            maximum(k, x, zero) + (-x.abs()).exp().math(MathFn::Log1p)
        }
    }
}

/// False in every lane, whatever the value.
fn falsehood(x: Val<'_>) -> Val<'_> {
    if x.dtype() == DType::Bool { x & !x } else { x.ne(x) }
}

fn maximum<'k>(k: &'k KernelBuilder, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    binary(k, BinaryOp::Maximum, a, b)
}

/// Two operands of one dtype; a scalar meets a vector in every lane.
pub fn binary<'k>(k: &'k KernelBuilder, op: BinaryOp, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    use BinaryOp::*;
    let ty = if a.ty().lanes() >= b.ty().lanes() { a.ty() } else { b.ty() };
    let (a, b) = (splat_to(a, ty), splat_to(b, ty));
    let d = a.dtype();
    match op {
        Add => a + b,
        Subtract => a - b,
        Multiply => a * b,
        Divide => a / b,
        FloorDivide if d.is_float() => (a / b).floor(),
        Remainder if d.is_float() => {
            // The remainder takes the divisor's sign, as in Python.
            let r = a.math2(MathFn::Fmod, b);
            let zero = splat_to(k.constant(0.0, d), ty);
            let wrong = r.ne(zero) & (r.lt(zero) ^ b.lt(zero));
            wrong.select(r + b, r)
        }
        FloorDivide => {
            let (zero, safe) = guarded(k, a, b);
            let q = a / safe;
            if !d.is_signed_int() {
                return b.eq(zero).select(zero, q);
            }
            let r = a % safe;
            let one = splat_to(k.int_constant(1, d), ty);
            let down = r.ne(zero) & (r.lt(zero) ^ safe.lt(zero));
            b.eq(zero).select(zero, down.select(q - one, q))
        }
        Remainder => {
            let (zero, safe) = guarded(k, a, b);
            let r = a % safe;
            if !d.is_signed_int() {
                return b.eq(zero).select(zero, r);
            }
            let wrong = r.ne(zero) & (r.lt(zero) ^ safe.lt(zero));
            b.eq(zero).select(zero, wrong.select(r + safe, r))
        }
        Power if d.is_float() => a.math2(MathFn::Pow, b),
        Power => integer_power(k, a, b),
        Maximum if d == DType::Bool => a | b,
        Minimum if d == DType::Bool => a & b,
        // NaN in `a` is kept by hand; `max` gives b where either is NaN.
        Maximum if d.is_float() => a.ne(a).select(a, a.max(b)),
        Minimum if d.is_float() => a.ne(a).select(a, a.min(b)),
        Maximum => a.max(b),
        Minimum => a.min(b),
        LogAddExp => {
            let hi = a.ne(a).select(a, a.max(b));
            let lo = a.min(b);
            let sum = hi + (lo - hi).exp().math(MathFn::Log1p);
            // Equal infinities have no finite difference.
            lo.eq(hi).select(hi + std::f64::consts::LN_2, sum)
        }
        Arctan2 => a.math2(MathFn::Atan2, b),
        LogicalAnd | BitwiseAnd => a & b,
        LogicalOr | BitwiseOr => a | b,
        BitwiseXor => a ^ b,
        LeftShift | RightShift => shift(k, op, a, b),
    }
}

/// Zero, and the divisor with 0 (and -1 under the smallest integer, which would overflow) replaced.
fn guarded<'k>(k: &'k KernelBuilder, a: Val<'k>, b: Val<'k>) -> (Val<'k>, Val<'k>) {
    let (d, ty) = (a.dtype(), a.ty());
    let constant = |v: i64| splat_to(k.int_constant(v, d), ty);
    let zero = constant(0);
    let mut safe = b.eq(zero).select(constant(1), b);
    if d.is_signed_int() {
        let lowest = constant(i64::MIN >> (64 - 8 * d.bytes()));
        safe = (a.eq(lowest) & b.eq(constant(-1))).select(constant(1), safe);
    }
    (zero, safe)
}

/// Square and multiply over the exponent's bits; negative exponents give 0, save for bases 1 and -1.
fn integer_power<'k>(k: &'k KernelBuilder, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    let (d, ty) = (a.dtype(), a.ty());
    let constant = |v: i64| splat_to(k.int_constant(v, d), ty);
    let bits = (8 * d.bytes()) as i64;
    let result = k.var("power", constant(1));
    let base = k.var("base", a);
    let left = k.var("exponent", b);
    k.for_("bit", k.int(0), k.int(bits), 1, false, |_| {
        let odd = (left.get() & constant(1)).ne(constant(0));
        result.set(odd.select(result.get() * base.get(), result.get()));
        base.set(base.get() * base.get());
        left.set(left.get() >> constant(1));
    });
    let power = result.get();
    if !d.is_signed_int() {
        return power;
    }
    let odd = (b & constant(1)).ne(constant(0));
    let unit = a.eq(constant(-1)).select(odd.select(constant(-1), constant(1)), constant(0));
    let inverse = a.eq(constant(1)).select(constant(1), unit);
    b.lt(constant(0)).select(inverse, power)
}

fn shift<'k>(k: &'k KernelBuilder, op: BinaryOp, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    let (d, ty) = (a.dtype(), a.ty());
    let constant = |v: i64| splat_to(k.int_constant(v, d), ty);
    let width = (8 * d.bytes()) as i64;
    let mut inside = b.lt(constant(width));
    if d.is_signed_int() {
        inside = inside & b.ge(constant(0));
    }
    let count = inside.select(b, constant(0));
    if op == BinaryOp::LeftShift {
        return inside.select(a << count, constant(0));
    }
    let outside = if d.is_signed_int() { a.lt(constant(0)).select(constant(-1), constant(0)) } else { constant(0) };
    inside.select(a >> count, outside)
}

/// A comparison; NaN is unordered.
pub fn compare<'k>(op: CompareOp, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    let ty = if a.ty().lanes() >= b.ty().lanes() { a.ty() } else { b.ty() };
    let (a, b) = (splat_to(a, ty), splat_to(b, ty));
    if a.dtype() == DType::Bool {
        let differ = a ^ b;
        return if op == CompareOp::NotEqual { differ } else { !differ };
    }
    match op {
        CompareOp::Equal => a.eq(b),
        CompareOp::NotEqual => a.ne(b),
        CompareOp::Less => a.lt(b),
        CompareOp::LessEqual => a.le(b),
        CompareOp::Greater => a.gt(b),
        CompareOp::GreaterEqual => a.ge(b),
    }
}

/// `condition ? a : b`.
pub fn select<'k>(condition: Val<'k>, a: Val<'k>, b: Val<'k>) -> Val<'k> {
    let lanes = condition.ty().lanes().max(a.ty().lanes()).max(b.ty().lanes());
    let ty = Type::vector(a.dtype(), lanes);
    let (a, b) = (splat_to(a, ty), splat_to(b, ty));
    let condition = if condition.ty().lanes() == lanes { condition } else { condition.splat(lanes) };
    if a.dtype() == DType::Bool {
        return (condition & a) | (!condition & b);
    }
    condition.select(a, b)
}

/// A value cast of MLX's meaning; a narrower float is rounded even though it is held in f32.
pub fn cast<'k>(k: &'k KernelBuilder, x: Val<'k>, from: DType, to: DType) -> Val<'k> {
    if from == to {
        return x;
    }
    if from == DType::Bool {
        let ty = x.ty().with_dtype(compute(to));
        let (one, zero) =
            (k.int_constant(1, DType::I32).cast(ty.dtype()), k.int_constant(0, DType::I32).cast(ty.dtype()));
        return select(x, splat_to(one, ty), splat_to(zero, ty));
    }
    if to == DType::Bool {
        let zero = k.int_constant(0, DType::I32).cast(x.dtype());
        return x.ne(splat_to(zero, x.ty()));
    }
    let narrows = to.is_float() && to.bytes() == 2 && from != to;
    let y = x.cast(to);
    if narrows { y.cast(DType::F32) } else { y }
}

/// The bits of a value of one dtype as another of the same width.
pub fn bitcast<'k>(x: Val<'k>, from: DType, to: DType) -> Val<'k> {
    let stored = if compute(from) == from { x } else { x.cast(from) };
    let bits = stored.bits(stored.ty().with_dtype(to));
    if compute(to) == to { bits } else { bits.cast(compute(to)) }
}
