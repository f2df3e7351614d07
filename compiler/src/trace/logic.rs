//! Elementwise methods beyond the primitives: tests, comparisons of whole arrays, rounding, bit patterns.

use super::array::{Array, Operand, literal};
use super::here;
use mlxc_ir::graph::{BinaryOp, CompareOp, Op, UnaryOp};
use mlxc_ir::{DType, Diagnostic, Location, Size};

impl Array {
    /// A scalar of this array's function.
    pub(super) fn number(&self, value: f64, dtype: DType, at: &Location) -> Array {
        self.splat(value, dtype, Vec::new(), at)
    }

    /// One value in every place of a shape.
    pub(super) fn splat(&self, value: f64, dtype: DType, shape: Vec<Size>, at: &Location) -> Array {
        // After an error nothing more is built.
        if self.value.is_none() {
            return self.clone();
        }
        self.make(Op::Full { value: literal(value, dtype), dtype, shape }, &[], at)
    }

    /// An extent as a scalar.
    pub(super) fn extent(&self, size: Size, dtype: DType, at: &Location) -> Array {
        if self.value.is_none() {
            return self.clone();
        }
        self.make(Op::FromSize { size, dtype }, &[], at)
    }

    /// This array in a float dtype: its own, or f32.
    pub(super) fn floating(&self, at: &Location) -> Array {
        if self.dtype().is_float() { self.clone() } else { self.cast_at(DType::F32, at) }
    }

    /// True where both are, or neither: MLX's `logical_xor`.
    #[track_caller]
    pub fn logical_xor(&self, other: impl Into<Operand>) -> Array {
        let at = here();
        let other = match other.into() {
            Operand::Array(b) => b,
            Operand::Float(x) => self.number(x, DType::F32, &at),
            Operand::Int(i) => self.number(i as f64, DType::I32, &at),
        };
        self.cast_at(DType::Bool, &at).compare(CompareOp::NotEqual, Operand::Array(other.cast_at(DType::Bool, &at)))
    }

    /// True for positive infinity: MLX's `isposinf`.
    #[track_caller]
    pub fn isposinf(&self) -> Array {
        self.infinite(CompareOp::Greater)
    }

    /// True for negative infinity: MLX's `isneginf`.
    #[track_caller]
    pub fn isneginf(&self) -> Array {
        self.infinite(CompareOp::Less)
    }

    #[track_caller]
    fn infinite(&self, side: CompareOp) -> Array {
        let at = here();
        if !self.dtype().is_float() {
            return self.splat(0.0, DType::Bool, self.sizes(), &at);
        }
        let limit = if side == CompareOp::Greater { f64::INFINITY } else { f64::NEG_INFINITY };
        self.compare(CompareOp::Equal, Operand::Float(limit))
    }

    pub(super) fn sizes(&self) -> Vec<Size> {
        self.ty().map_or_else(Vec::new, |t| t.shape)
    }

    /// `|a - b| <= atol + rtol * |b|`, equal infinities included: MLX's `isclose`.
    #[track_caller]
    pub fn isclose(&self, other: &Array, rtol: f64, atol: f64, equal_nan: bool) -> Array {
        let at = here();
        let (a, b) = (self.floating(&at), other.floating(&at));
        let Some((a, b)) = a.meet(Operand::Array(b), &at, true) else { return Array::new(&self.inner, None) };
        let close = (&a - &b).abs().less_equal(b.abs() * rtol + atol);
        let finite = a.isinf().logical_or(b.isinf()).logical_not();
        // Infinities of one sign are equal; nothing else with an infinity is close.
        let same = a.isinf().logical_and(a.equal(&b));
        let close = close.logical_and(finite).logical_or(same);
        if equal_nan { close.logical_or(a.isnan().logical_and(b.isnan())) } else { close }
    }

    /// True if every pair of elements is close: MLX's `allclose`. Of shape [].
    #[track_caller]
    pub fn allclose(&self, other: &Array, rtol: f64, atol: f64, equal_nan: bool) -> Array {
        let close = self.isclose(other, rtol, atol, equal_nan);
        close.all(close.all_axes(), false)
    }

    /// True if the shapes and all elements are equal: MLX's `array_equal`. Of shape [].
    #[track_caller]
    pub fn array_equal(&self, other: &Array, equal_nan: bool) -> Array {
        let at = here();
        if self.sizes() != other.sizes() {
            return self.number(0.0, DType::Bool, &at);
        }
        let mut same = self.equal(other);
        if equal_nan && self.dtype().is_float() && other.dtype().is_float() {
            same = same.logical_or(self.isnan().logical_and(other.isnan()));
        }
        same.all(same.all_axes(), false)
    }

    /// Every axis, for reductions of a whole array.
    pub fn all_axes(&self) -> Vec<i32> {
        (0..self.ndim() as i32).collect()
    }

    /// NaN and infinities replaced; without a value, infinities become the dtype's largest finite number. MLX's
    /// `nan_to_num`; integers stay as they are.
    #[track_caller]
    pub fn nan_to_num(&self, nan: f64, posinf: Option<f64>, neginf: Option<f64>) -> Array {
        let largest = match self.dtype() {
            DType::F16 => 65504.0,
            DType::BF16 => half_max(),
            DType::F32 => f64::from(f32::MAX),
            DType::F64 => f64::MAX,
            _ => return self.clone(),
        };
        let number = self.isnan().choose(nan, self);
        let number = self.isposinf().choose(posinf.unwrap_or(largest), &number);
        self.isneginf().choose(neginf.unwrap_or(-largest), &number)
    }

    /// Limited from below, above or both: MLX's `clip`. Limits broadcast and promote like operands.
    #[track_caller]
    pub fn clip(&self, low: Option<Operand>, high: Option<Operand>) -> Array {
        let above = match low {
            Some(low) => self.binary(BinaryOp::Maximum, low),
            None => self.clone(),
        };
        match high {
            Some(high) => above.binary(BinaryOp::Minimum, high),
            None => above,
        }
    }

    /// Radians as degrees: MLX's `degrees`.
    #[track_caller]
    pub fn degrees(&self) -> Array {
        let at = here();
        self.floating(&at).binary(BinaryOp::Multiply, Operand::Float(180.0 / std::f64::consts::PI))
    }

    /// Degrees as radians: MLX's `radians`.
    #[track_caller]
    pub fn radians(&self) -> Array {
        let at = here();
        self.floating(&at).binary(BinaryOp::Multiply, Operand::Float(std::f64::consts::PI / 180.0))
    }

    /// Quotient rounded towards minus infinity (of integers towards 0, as MLX's `divmod` has it) and remainder.
    #[track_caller]
    pub fn divmod(&self, other: impl Into<Operand>) -> (Array, Array) {
        let other = other.into();
        let remainder = self.binary(BinaryOp::Remainder, other.clone());
        (self.floor_divide(other), remainder)
    }

    /// Towards 0: MLX's `trunc`. Integers stay as they are.
    #[track_caller]
    pub fn trunc(&self) -> Array {
        if !self.dtype().is_float() {
            return self.clone();
        }
        self.less(0.0).choose(self.ceil(), self.floor())
    }

    /// To a number of decimals, ties to even: MLX's `round`.
    #[track_caller]
    pub fn round_to(&self, decimals: i32) -> Array {
        let at = here();
        if decimals == 0 {
            return self.unary(UnaryOp::Round);
        }
        // MLX's factors are f32.
        let scale = 10f64.powi(decimals) as f32;
        let scaled = self.floating(&at).binary(BinaryOp::Multiply, Operand::Float(scale.into()));
        let rounded = scaled.round().binary(BinaryOp::Multiply, Operand::Float((1.0 / scale).into()));
        rounded.cast_at(self.dtype(), &at)
    }

    /// The value itself: gradients end here. MLX's `stop_gradient`.
    pub fn stop_gradient(&self) -> Array {
        self.clone()
    }

    /// The bits read as another dtype: MLX's `view`. A wider dtype joins neighbours of the last axis, the first
    /// the lowest; a narrower one splits them. Bool is read as a byte of 0 or 1.
    ///
    /// # Errors
    /// `MLXC0151` where the last axis is no multiple of the ratio, and for bool as the result.
    #[track_caller]
    pub fn view(&self, dtype: DType) -> Array {
        let at = here();
        let from = self.dtype();
        if from == dtype {
            return self.clone();
        }
        if from == DType::Bool {
            return self.cast_at(DType::U8, &at).view(dtype);
        }
        let (old, new) = (from.bytes() as i64, dtype.bytes() as i64);
        let wrong = |what: &str| {
            Diagnostic::new(151, "an array cannot be viewed so")
                .expected(what)
                .found(format!("{from} of {:?} as {dtype}", self.sizes()))
        };
        if dtype == DType::Bool {
            return self.fail(wrong("a dtype other than bool"), &at);
        }
        if old == new {
            return self.make(Op::Bitcast(dtype), &[self], &at);
        }
        let Some(last) = self.sizes().last().cloned() else {
            return self.fail(wrong("a scalar's own width"), &at);
        };
        let (wide, narrow, ratio) = (unsigned(old.max(new)), unsigned(old.min(new)), old.max(new) / old.min(new));
        let bits =
            if from == unsigned(old) { self.clone() } else { self.make(Op::Bitcast(unsigned(old)), &[self], &at) };
        let mut shape = self.sizes();
        let step = 8 * old.min(new);
        let parts = self.make(Op::Iota { dtype: wide, shape: vec![Size::constant(ratio)], axis: 0 }, &[], &at) * step;
        let end = shape.len() - 1;
        let out = if old > new {
            shape[end] = last * Size::constant(ratio);
            let split = bits.expand_dims(-1).right_shift(parts).cast_at(narrow, &at);
            split.make(Op::Reshape { shape }, &[&split], &at)
        } else {
            let Some(n) = last.exact_div(&Size::constant(ratio)) else {
                return self.fail(wrong(&format!("a last axis that is a multiple of {ratio}")), &at);
            };
            shape[end] = n;
            shape.push(Size::constant(ratio));
            let split = bits.make(Op::Reshape { shape }, &[&bits], &at).cast_at(wide, &at);
            split.left_shift(parts).sum(-1, false)
        };
        if dtype == unsigned(new) { out } else { out.make(Op::Bitcast(dtype), &[&out], &at) }
    }
}

fn unsigned(bytes: i64) -> DType {
    match bytes {
        1 => DType::U8,
        2 => DType::U16,
        4 => DType::U32,
        _ => DType::U64,
    }
}

/// Largest finite bf16: 255 · 2¹²⁰.
fn half_max() -> f64 {
    255.0 * 2f64.powi(120)
}
