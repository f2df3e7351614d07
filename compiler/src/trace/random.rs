//! Random numbers from explicit keys, bit for bit MLX's where bits decide.
//!
//! A key is a value of type `u32[2]`. Every function is a pure one of its key; [`split`] makes new keys of one.

use super::array::{Array, Operand};
use super::shape::{Dim, IntoShape};
use super::{Context, here};
use mlxc_ir::graph::{BinaryOp, Op};
use mlxc_ir::{DType, Diagnostic, Location, Size};

/// Largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

impl Context {
    /// The key of a seed: MLX's `random.key`.
    #[track_caller]
    pub fn random_key(&self, seed: u64) -> Array {
        self.array(&[(seed >> 32) as f64, f64::from(seed as u32)], &[2], DType::U32)
    }
}

fn sizes(shape: impl IntoShape) -> Vec<Size> {
    shape.into_shape().into_iter().map(|d| d.0).collect()
}

fn checked(key: &Array, at: &Location) -> Option<()> {
    let ty = key.ty()?;
    if ty.dtype == DType::U32 && ty.shape == [Size::constant(2)] {
        return Some(());
    }
    let d =
        Diagnostic::new(145, "this is no random key").expected("u32[2]").found(format!("{}{:?}", ty.dtype, ty.shape));
    key.fail(d, at);
    None
}

fn bits_of(key: &Array, shape: Vec<Size>, width: u32, at: &Location) -> Array {
    match checked(key, at) {
        Some(()) => key.make(Op::RandomBits { shape, width }, &[key], at),
        None => Array::new(&key.inner, None),
    }
}

/// Random integers of 1, 2 or 4 bytes (u8, u16, u32): MLX's `random.bits`, the same bits.
///
/// # Errors
/// `MLXC0145` for a key that is not `u32[2]`, `MLXC0113` for another width.
#[track_caller]
pub fn bits(key: &Array, shape: impl IntoShape, width: u32) -> Array {
    bits_of(key, sizes(shape), width, &here())
}

/// `num` keys, `[num, 2]`: MLX's `random.split`, the same bits.
#[track_caller]
pub fn split(key: &Array, num: impl Into<Dim>) -> Array {
    bits_of(key, vec![num.into().0, Size::constant(2)], 4, &here())
}

/// The two keys of a split: MLX's `random.split` by two.
#[track_caller]
pub fn split2(key: &Array) -> (Array, Array) {
    let both = split(key, 2i64);
    let one = |i: i64| both.slice(0, i, i + 1).squeeze(0);
    (one(0), one(1))
}

/// A number or array as an array of `dtype`.
fn limit(key: &Array, value: Operand, dtype: DType, at: &Location) -> Array {
    match value {
        Operand::Array(a) => a.cast_at(dtype, at),
        Operand::Float(x) => key.number(x, dtype, at),
        Operand::Int(i) => key.number(i as f64, dtype, at),
    }
}

/// Samples in `[0, 1)` of a float dtype, in f32 arithmetic as MLX has it.
fn unit(key: &Array, shape: Vec<Size>, dtype: DType, at: &Location) -> Array {
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
        let d =
            Diagnostic::new(155, "random numbers have no such dtype").expected("f16, bf16 or f32").found(dtype.name());
        return key.fail(d, at);
    }
    let below = match dtype {
        DType::F16 => 1.0 - 2f64.powi(-11),
        DType::BF16 => 1.0 - 2f64.powi(-8),
        _ => f64::from(BELOW_ONE),
    };
    let out = bits_of(key, shape, 4, at).cast_at(DType::F32, at);
    (out / f64::from(u32::MAX as f32)).minimum(below).cast_at(dtype, at)
}

/// Uniform samples in `[low, high)`: MLX's `random.uniform`, the same bits.
///
/// # Errors
/// `MLXC0155` for a dtype other than f16, bf16 and f32.
#[track_caller]
pub fn uniform(
    key: &Array,
    low: impl Into<Operand>,
    high: impl Into<Operand>,
    shape: impl IntoShape,
    dtype: DType,
) -> Array {
    let at = here();
    let (low, high) = (limit(key, low.into(), dtype, &at), limit(key, high.into(), dtype, &at));
    let out = unit(key, sizes(shape), dtype, &at);
    between(&out, &low, &high)
}

#[track_caller]
fn between(unit: &Array, low: &Array, high: &Array) -> Array {
    let range = high - low;
    unit.binary(BinaryOp::Multiply, Operand::Array(range)).binary(BinaryOp::Add, Operand::Array(low.clone()))
}

/// Uniform samples in (-1, 1) in f32.
fn symmetric(key: &Array, shape: Vec<Size>, at: &Location) -> Array {
    let (low, high) = (key.number(-f64::from(BELOW_ONE), DType::F32, at), key.number(1.0, DType::F32, at));
    between(&unit(key, shape, DType::F32, at), &low, &high)
}

/// Normal samples: MLX's `random.normal`, within a few ulp (the inverse error function is another polynomial).
///
/// # Errors
/// As [`uniform`].
#[track_caller]
pub fn normal(key: &Array, loc: f64, scale: f64, shape: impl IntoShape, dtype: DType) -> Array {
    let at = here();
    let samples = symmetric(key, sizes(shape), &at).erfinv().cast_at(dtype, &at);
    let factor = key.number(std::f64::consts::SQRT_2, dtype, &at);
    let factor = if scale == 1.0 { factor } else { factor * scale };
    let samples = factor * samples;
    if loc == 0.0 { samples } else { samples + loc }
}

/// True with probability `p`, which broadcasts to the shape: MLX's `random.bernoulli`, the same bits.
#[track_caller]
pub fn bernoulli(key: &Array, p: impl Into<Operand>, shape: impl IntoShape) -> Array {
    let at = here();
    let p = match p.into() {
        Operand::Array(a) => a.floating(&at),
        number => limit(key, number, DType::F32, &at),
    };
    // The f32 above 2³², so that 1 is always true.
    let upper = f32::from_bits((u32::MAX as f32).to_bits() + 1);
    let upper = key.number(upper.into(), DType::F32, &at);
    bits_of(key, sizes(shape), 4, &at).cast_at(DType::F32, &at).less(p * upper)
}

/// Integers in `[low, high)`: MLX's `random.randint`, the same bits.
#[track_caller]
pub fn randint(
    key: &Array,
    low: impl Into<Operand>,
    high: impl Into<Operand>,
    shape: impl IntoShape,
    dtype: DType,
) -> Array {
    let at = here();
    let (low, high) = (limit(key, low.into(), dtype, &at), limit(key, high.into(), dtype, &at));
    let (a, b) = (low.cast_at(DType::F32, &at), high.cast_at(DType::F32, &at));
    let u = between(&unit(key, sizes(shape), DType::F32, &at), &a, &b);
    // f32 rounds the limits of long integers.
    u.floor().cast_at(dtype, &at).minimum(high - 1).maximum(low)
}

/// Normal samples between two limits: MLX's `random.truncated_normal`, within a few ulp.
///
/// # Errors
/// As [`uniform`].
#[track_caller]
pub fn truncated_normal(
    key: &Array,
    lower: impl Into<Operand>,
    upper: impl Into<Operand>,
    shape: impl IntoShape,
    dtype: DType,
) -> Array {
    let at = here();
    let (lower, upper) = (limit(key, lower.into(), dtype, &at), limit(key, upper.into(), dtype, &at));
    let root = key.number(std::f64::consts::SQRT_2, dtype, &at);
    let (a, b) = ((&lower / &root).erf(), (&upper / &root).erf());
    let u = between(&unit(key, sizes(shape), dtype, &at), &a, &b);
    (root * u.erfinv()).minimum(upper).maximum(lower)
}

/// Standard Gumbel samples: MLX's `random.gumbel`, within a few ulp.
///
/// # Errors
/// As [`uniform`].
#[track_caller]
pub fn gumbel(key: &Array, shape: impl IntoShape, dtype: DType) -> Array {
    let at = here();
    let u = unit(key, sizes(shape), dtype, &at);
    u.log().negative().log().negative()
}

/// Laplace samples: MLX's `random.laplace`, within a few ulp.
///
/// # Errors
/// As [`uniform`].
#[track_caller]
pub fn laplace(key: &Array, loc: f64, scale: f64, shape: impl IntoShape, dtype: DType) -> Array {
    let at = here();
    let samples = symmetric(key, sizes(shape), &at);
    let samples = (samples.sign() * samples.abs().negative().log1p()).cast_at(dtype, &at);
    let samples = if scale == 1.0 { samples } else { samples * scale };
    if loc == 0.0 { samples } else { samples + loc }
}

/// A class for each place but the given axis of `logits`, by the largest of logits and Gumbel samples: MLX's
/// `random.categorical` without a shape. Equal to MLX's where no two candidates lie within a few ulp.
#[track_caller]
pub fn categorical(key: &Array, logits: &Array, axis: i32) -> Array {
    let at = here();
    let Some(_) = logits.axis(axis, &at) else { return Array::new(&key.inner, None) };
    let noise = gumbel(key, logits.shape(), DType::F32);
    (noise + logits).argmax(axis, false)
}

/// `samples` classes for each place but the given axis of `logits`, as a last axis: MLX's `random.categorical` with
/// `num_samples`, by the largest of logits and Gumbel samples.
#[track_caller]
pub fn categorical_samples(key: &Array, logits: &Array, axis: i32, samples: i64) -> Array {
    let at = here();
    let Some(a) = logits.axis(axis, &at) else { return Array::new(&key.inner, None) };
    let wide = logits.expand_dims(-1);
    let mut shape = wide.sizes();
    let last = shape.len() - 1;
    shape[last] = Size::constant(samples);
    let shape: Vec<Dim> = shape.into_iter().map(Dim).collect();
    (gumbel(key, shape, DType::F32) + wide).argmax(a as i32, false)
}

/// 0 to n - 1 in random order (u32): MLX's `random.permutation` of a number, the same order.
#[track_caller]
pub fn permutation(key: &Array, n: impl Into<Dim>) -> Array {
    bits_of(key, vec![n.into().0], 4, &here()).argsort(0)
}

/// Rows of an array in random order along an axis: MLX's `random.permutation` of an array, the same order.
#[track_caller]
pub fn permuted(key: &Array, x: &Array, axis: i32) -> Array {
    let order = permutation(key, x.dim(axis));
    x.take(&order, axis)
}
