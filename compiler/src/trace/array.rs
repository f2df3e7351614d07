//! Arrays of the tracing front end: operators and methods named as MLX names them.

use super::promote::{promote, weak};
use super::shape::{Dim, IntoAxes, IntoShape};
use super::{Inner, here};
use mlxc_ir::graph::{
    Activation, ArgOp, BinaryOp, CompareOp, Literal, Op, ReduceOp, TensorType, UnaryOp, ValueId, broadcast_shapes,
};
use mlxc_ir::{DType, Diagnostic, Location, Size};
use std::rc::Rc;

/// A value of the function being traced. Cloning copies the handle, not the data.
#[derive(Clone)]
pub struct Array {
    inner: Rc<Inner>,
    /// `None` after an error that was reported already.
    value: Option<ValueId>,
}

/// The second operand of an operator: an array, or a number of weak type.
#[derive(Clone)]
pub enum Operand {
    /// An array.
    Array(Array),
    /// A float; it takes the array's dtype, f32 where that is an integer.
    Float(f64),
    /// An integer; it takes the array's dtype, i32 where that is bool.
    Int(i64),
}

impl From<Array> for Operand {
    fn from(a: Array) -> Self {
        Operand::Array(a)
    }
}

impl From<&Array> for Operand {
    fn from(a: &Array) -> Self {
        Operand::Array(a.clone())
    }
}

impl From<f64> for Operand {
    fn from(x: f64) -> Self {
        Operand::Float(x)
    }
}

impl From<f32> for Operand {
    fn from(x: f32) -> Self {
        Operand::Float(x.into())
    }
}

impl From<i32> for Operand {
    fn from(x: i32) -> Self {
        Operand::Int(x.into())
    }
}

impl From<i64> for Operand {
    fn from(x: i64) -> Self {
        Operand::Int(x)
    }
}

/// A literal that fits a dtype.
pub(super) fn literal(value: f64, dtype: DType) -> Literal {
    if dtype.is_float() { Literal::float(value) } else { Literal::Int(value as i64) }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident,)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(&self) -> Array {
            self.unary(UnaryOp::$op)
        }
    )*};
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident,)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(&self, other: impl Into<Operand>) -> Array {
            self.binary(BinaryOp::$op, other.into())
        }
    )*};
}

macro_rules! compare_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident,)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(&self, other: impl Into<Operand>) -> Array {
            self.compare(CompareOp::$op, other.into())
        }
    )*};
}

macro_rules! reduce_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident,)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
            self.reduce(ReduceOp::$op, axes.into_axes(), keepdims)
        }
    )*};
}

impl Array {
    pub(super) fn new(inner: &Rc<Inner>, value: Option<ValueId>) -> Self {
        Array { inner: inner.clone(), value }
    }

    pub(super) fn value(&self) -> Option<ValueId> {
        self.value
    }

    fn ty(&self) -> Option<TensorType> {
        self.value.map(|v| self.inner.ty(v))
    }

    /// Element type; f32 after an error.
    pub fn dtype(&self) -> DType {
        self.ty().map_or(DType::F32, |t| t.dtype)
    }

    /// Extents; empty after an error.
    pub fn shape(&self) -> Vec<Dim> {
        self.ty().map_or_else(Vec::new, |t| t.shape.into_iter().map(Dim).collect())
    }

    /// The extent of an axis; negative axes count from the end. 1 where there is no such axis.
    pub fn dim(&self, axis: i32) -> Dim {
        let shape = self.shape();
        let i = if axis < 0 { axis + shape.len() as i32 } else { axis };
        usize::try_from(i).ok().and_then(|i| shape.get(i).cloned()).unwrap_or_else(|| Dim::from(1i64))
    }

    /// Number of axes.
    pub fn ndim(&self) -> usize {
        self.ty().map_or(0, |t| t.rank())
    }

    /// Names the value: kernels, buffers and reports call it so.
    pub fn named(&self, name: &str) -> Array {
        if let Some(v) = self.value {
            self.inner.name_value(v, name);
        }
        self.clone()
    }

    fn make(&self, op: Op, inputs: &[&Array], at: &Location) -> Array {
        let values: Option<Vec<ValueId>> = inputs.iter().map(|a| a.value).collect();
        Array::new(&self.inner, values.and_then(|v| self.inner.node(op, &v, at)))
    }

    fn fail(&self, d: Diagnostic, at: &Location) -> Array {
        if self.value.is_some() {
            self.inner.error(d, at);
        }
        Array::new(&self.inner, None)
    }

    /// An axis counted from the front, or an error at `at`.
    pub(super) fn axis(&self, axis: i32, at: &Location) -> Option<usize> {
        let rank = self.ndim() as i32;
        let i = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&i) {
            return Some(i as usize);
        }
        let d =
            Diagnostic::new(125, "there is no such axis").expected(format!("-{rank}..{rank}")).found(axis.to_string());
        self.fail(d, at);
        None
    }

    #[track_caller]
    fn unary(&self, op: UnaryOp) -> Array {
        let at = here();
        let exact = matches!(
            op,
            UnaryOp::Negative
                | UnaryOp::Abs
                | UnaryOp::Sign
                | UnaryOp::Square
                | UnaryOp::Relu
                | UnaryOp::Floor
                | UnaryOp::Ceil
                | UnaryOp::Round
                | UnaryOp::IsNan
                | UnaryOp::IsInf
                | UnaryOp::IsFinite
                | UnaryOp::LogicalNot
                | UnaryOp::BitwiseInvert
        );
        // Float functions of integers are computed in f32, as in MLX.
        let x = if !exact && !self.dtype().is_float() { self.cast_at(DType::F32, &at) } else { self.clone() };
        let x = if op == UnaryOp::LogicalNot { x.cast_at(DType::Bool, &at) } else { x };
        x.make(Op::Unary(op), &[&x], &at)
    }

    fn cast_at(&self, to: DType, at: &Location) -> Array {
        if self.dtype() == to { self.clone() } else { self.make(Op::Cast(to), &[self], at) }
    }

    /// Both operands in one dtype and shape.
    fn meet(&self, other: Operand, at: &Location, float: bool) -> Option<(Array, Array)> {
        let mine = self.ty()?;
        let (b, dtype) = match &other {
            Operand::Array(b) => {
                if !Rc::ptr_eq(&self.inner, &b.inner) {
                    self.fail(Diagnostic::new(126, "an array of another function is used here"), at);
                    return None;
                }
                (Some(b.clone()), promote(mine.dtype, b.ty()?.dtype))
            }
            Operand::Float(_) => (None, weak(mine.dtype, true)),
            Operand::Int(_) => (None, weak(mine.dtype, false)),
        };
        let dtype = if float && !dtype.is_float() { DType::F32 } else { dtype };
        let a = self.cast_at(dtype, at);
        let Some(b) = b else {
            let value = match other {
                Operand::Float(x) => Literal::float(x),
                Operand::Int(i) if dtype.is_float() => Literal::float(i as f64),
                Operand::Int(i) => Literal::Int(i),
                Operand::Array(_) => unreachable!("arrays have a value"),
            };
            let full = self.make(Op::Full { value, dtype, shape: mine.shape }, &[], at);
            return Some((a, full));
        };
        let b = b.cast_at(dtype, at);
        let (x, y) = (a.ty()?.shape, b.ty()?.shape);
        let Some(shape) = broadcast_shapes(&x, &y) else {
            let symbols = self.inner.symbol_names();
            let show = |a: &Array| a.ty().map_or_else(String::new, |t| t.display(&symbols).to_string());
            let d = Diagnostic::new(127, "shapes do not broadcast")
                .expected("extents that are equal or 1, aligned at the last axis")
                .found(format!("{} and {}", show(&a), show(&b)));
            self.fail(d, at);
            return None;
        };
        Some((a.stretch(&shape, at), b.stretch(&shape, at)))
    }

    fn stretch(&self, shape: &[Size], at: &Location) -> Array {
        match self.ty() {
            Some(t) if t.shape == shape => self.clone(),
            _ => self.make(Op::Broadcast { shape: shape.to_vec() }, &[self], at),
        }
    }

    #[track_caller]
    fn binary(&self, op: BinaryOp, other: Operand) -> Array {
        let at = here();
        let float = matches!(op, BinaryOp::Divide | BinaryOp::LogAddExp | BinaryOp::Arctan2);
        match self.meet(other, &at, float) {
            Some((a, b)) if matches!(op, BinaryOp::LogicalAnd | BinaryOp::LogicalOr) => {
                let (a, b) = (a.cast_at(DType::Bool, &at), b.cast_at(DType::Bool, &at));
                a.make(Op::Binary(op), &[&a, &b], &at)
            }
            Some((a, b)) => {
                // Arithmetic on bools is done in i32.
                let lift = a.dtype() == DType::Bool
                    && !matches!(
                        op,
                        BinaryOp::BitwiseAnd
                            | BinaryOp::BitwiseOr
                            | BinaryOp::BitwiseXor
                            | BinaryOp::Maximum
                            | BinaryOp::Minimum
                    );
                let to = if lift { DType::I32 } else { a.dtype() };
                let (a, b) = (a.cast_at(to, &at), b.cast_at(to, &at));
                a.make(Op::Binary(op), &[&a, &b], &at)
            }
            None => Array::new(&self.inner, None),
        }
    }

    /// `number op self`.
    #[track_caller]
    fn reversed(&self, op: BinaryOp, number: Operand) -> Array {
        let at = here();
        match self.meet(number, &at, op == BinaryOp::Divide) {
            Some((a, b)) => a.make(Op::Binary(op), &[&b, &a], &at),
            None => Array::new(&self.inner, None),
        }
    }

    #[track_caller]
    fn compare(&self, op: CompareOp, other: Operand) -> Array {
        let at = here();
        match self.meet(other, &at, false) {
            Some((a, b)) => a.make(Op::Compare(op), &[&a, &b], &at),
            None => Array::new(&self.inner, None),
        }
    }

    unary_methods! {
        /// `-x`.
        negative Negative,
        /// `|x|`.
        abs Abs,
        /// -1, 0 or 1.
        sign Sign,
        /// `x * x`.
        square Square,
        /// Square root.
        sqrt Sqrt,
        /// `1 / sqrt(x)`.
        rsqrt Rsqrt,
        /// `1 / x`.
        reciprocal Reciprocal,
        /// `e^x`.
        exp Exp,
        /// `e^x - 1`.
        expm1 Expm1,
        /// Natural logarithm.
        log Log,
        /// Base-2 logarithm.
        log2 Log2,
        /// Base-10 logarithm.
        log10 Log10,
        /// `log(1 + x)`.
        log1p Log1p,
        /// Sine of radians.
        sin Sin,
        /// Cosine of radians.
        cos Cos,
        /// Tangent of radians.
        tan Tan,
        /// Inverse sine.
        arcsin Arcsin,
        /// Inverse cosine.
        arccos Arccos,
        /// Inverse tangent.
        arctan Arctan,
        /// Hyperbolic sine.
        sinh Sinh,
        /// Hyperbolic cosine.
        cosh Cosh,
        /// Hyperbolic tangent.
        tanh Tanh,
        /// Inverse hyperbolic sine.
        arcsinh Arcsinh,
        /// Inverse hyperbolic cosine.
        arccosh Arccosh,
        /// Inverse hyperbolic tangent.
        arctanh Arctanh,
        /// Error function.
        erf Erf,
        /// Inverse error function.
        erfinv Erfinv,
        /// `1 / (1 + e^-x)`.
        sigmoid Sigmoid,
        /// Towards minus infinity.
        floor Floor,
        /// Towards infinity.
        ceil Ceil,
        /// To nearest, ties to even.
        round Round,
        /// `!x`.
        logical_not LogicalNot,
        /// `~x`.
        bitwise_invert BitwiseInvert,
        /// True for NaN.
        isnan IsNan,
        /// True for either infinity.
        isinf IsInf,
        /// True for neither NaN nor infinity.
        isfinite IsFinite,
        /// `x * sigmoid(x)`.
        silu Silu,
        /// Gaussian error linear unit, exact.
        gelu Gelu,
        /// Gaussian error linear unit, tanh approximation.
        gelu_approx GeluApprox,
        /// `max(x, 0)`.
        relu Relu,
        /// `log(1 + e^x)`.
        softplus Softplus,
    }

    binary_methods! {
        /// Quotient rounded towards minus infinity.
        floor_divide FloorDivide,
        /// Remainder with the divisor's sign.
        remainder Remainder,
        /// `self ^ other`.
        power Power,
        /// The larger.
        maximum Maximum,
        /// The smaller.
        minimum Minimum,
        /// `log(e^self + e^other)`.
        logaddexp LogAddExp,
        /// Angle of the point (other, self).
        arctan2 Arctan2,
        /// Conjunction.
        logical_and LogicalAnd,
        /// Disjunction.
        logical_or LogicalOr,
        /// Bitwise conjunction.
        bitwise_and BitwiseAnd,
        /// Bitwise disjunction.
        bitwise_or BitwiseOr,
        /// Bitwise exclusive disjunction.
        bitwise_xor BitwiseXor,
        /// `self << other`.
        left_shift LeftShift,
        /// `self >> other`.
        right_shift RightShift,
    }

    compare_methods! {
        /// `self == other`, elementwise.
        equal Equal,
        /// `self != other`, elementwise.
        not_equal NotEqual,
        /// `self < other`, elementwise.
        less Less,
        /// `self <= other`, elementwise.
        less_equal LessEqual,
        /// `self > other`, elementwise.
        greater Greater,
        /// `self >= other`, elementwise.
        greater_equal GreaterEqual,
    }

    reduce_methods! {
        /// Sum over axes.
        sum Sum,
        /// Product over axes.
        prod Prod,
        /// Largest over axes.
        max Max,
        /// Smallest over axes.
        min Min,
        /// True where any is.
        any Any,
        /// True where all are.
        all All,
    }

    #[track_caller]
    fn reduce(&self, op: ReduceOp, axes: Vec<i32>, keepdims: bool) -> Array {
        let at = here();
        let mut list = Vec::with_capacity(axes.len());
        for a in axes {
            match self.axis(a, &at) {
                Some(a) => list.push(a as u32),
                None => return Array::new(&self.inner, None),
            }
        }
        list.sort_unstable();
        list.dedup();
        let x = if matches!(op, ReduceOp::Any | ReduceOp::All) { self.cast_at(DType::Bool, &at) } else { self.clone() };
        x.make(Op::Reduce { op, axes: list, keepdims }, &[&x], &at)
    }

    /// Mean over axes; of integers in f32.
    #[track_caller]
    pub fn mean(&self, axes: impl IntoAxes, keepdims: bool) -> Array {
        let at = here();
        let x = if self.dtype().is_float() { self.clone() } else { self.cast_at(DType::F32, &at) };
        let axes = axes.into_axes();
        let mut n = Size::constant(1);
        for a in &axes {
            match x.axis(*a, &at) {
                Some(a) => n = n * x.shape()[a].0.clone(),
                None => return Array::new(&self.inner, None),
            }
        }
        let sum = x.reduce(ReduceOp::Sum, axes, keepdims);
        match n.as_const() {
            Some(n) => sum.binary(BinaryOp::Multiply, Operand::Float(1.0 / n.max(1) as f64)),
            None => {
                let n = x.make(Op::FromSize { size: n, dtype: x.dtype() }, &[], &at);
                sum.binary(BinaryOp::Divide, Operand::Array(n))
            }
        }
    }

    /// Variance over axes, with `n - ddof` in the denominator.
    #[track_caller]
    pub fn var(&self, axes: impl IntoAxes, keepdims: bool, ddof: i64) -> Array {
        let axes = axes.into_axes();
        let centred = self.clone() - self.mean(axes.clone(), true);
        let squares = centred.square();
        if ddof == 0 {
            return squares.mean(axes, keepdims);
        }
        let at = here();
        let mut n = Size::constant(1);
        for a in &axes {
            match self.axis(*a, &at) {
                Some(a) => n = n * self.shape()[a].0.clone(),
                None => return Array::new(&self.inner, None),
            }
        }
        let sum = squares.reduce(ReduceOp::Sum, axes, keepdims);
        let n = self.make(Op::FromSize { size: n - Size::constant(ddof), dtype: sum.dtype() }, &[], &at);
        sum.binary(BinaryOp::Divide, Operand::Array(n))
    }

    /// Position (u32) of the first largest element.
    #[track_caller]
    pub fn argmax(&self, axis: i32, keepdims: bool) -> Array {
        self.arg(ArgOp::Max, axis, keepdims)
    }

    /// Position (u32) of the first smallest element.
    #[track_caller]
    pub fn argmin(&self, axis: i32, keepdims: bool) -> Array {
        self.arg(ArgOp::Min, axis, keepdims)
    }

    #[track_caller]
    fn arg(&self, op: ArgOp, axis: i32, keepdims: bool) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::ArgReduce { op, axis: a as u32, keepdims }, &[self], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// The value in another dtype.
    #[track_caller]
    pub fn astype(&self, dtype: DType) -> Array {
        self.cast_at(dtype, &here())
    }

    /// The same elements in another shape; one extent may be -1.
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoShape) -> Array {
        let at = here();
        let Some(ty) = self.ty() else { return self.clone() };
        let mut shape: Vec<Size> = shape.into_shape().into_iter().map(|d| d.0).collect();
        if let Some(open) = shape.iter().position(|d| d.as_const() == Some(-1)) {
            shape[open] = Size::constant(1);
            let known = shape.iter().fold(Size::constant(1), |n, d| n * d.clone());
            match ty.elements().exact_div(&known) {
                Some(n) => shape[open] = n,
                None => {
                    let d = Diagnostic::new(128, "the open extent of a reshape is not a whole number")
                        .expected(format!("a divisor of {}", ty.elements()))
                        .found(known.to_string());
                    return self.fail(d, &at);
                }
            }
        }
        if shape == ty.shape { self.clone() } else { self.make(Op::Reshape { shape }, &[self], &at) }
    }

    /// Axes in another order.
    #[track_caller]
    pub fn transpose(&self, axes: impl IntoAxes) -> Array {
        let at = here();
        let mut perm = Vec::new();
        for a in axes.into_axes() {
            match self.axis(a, &at) {
                Some(a) => perm.push(a as u32),
                None => return Array::new(&self.inner, None),
            }
        }
        self.make(Op::Transpose { perm }, &[self], &at)
    }

    /// The last two axes exchanged; all axes reversed where there are fewer.
    #[track_caller]
    pub fn t(&self) -> Array {
        let rank = self.ndim() as i32;
        let mut axes: Vec<i32> = (0..rank).collect();
        if rank >= 2 {
            axes.swap(rank as usize - 2, rank as usize - 1);
        }
        self.transpose(axes)
    }

    /// Two axes exchanged.
    #[track_caller]
    pub fn swapaxes(&self, a: i32, b: i32) -> Array {
        let at = here();
        let (Some(a), Some(b)) = (self.axis(a, &at), self.axis(b, &at)) else {
            return Array::new(&self.inner, None);
        };
        let mut perm: Vec<u32> = (0..self.ndim() as u32).collect();
        perm.swap(a, b);
        self.make(Op::Transpose { perm }, &[self], &at)
    }

    /// A new axis of extent 1.
    #[track_caller]
    pub fn expand_dims(&self, axis: i32) -> Array {
        let at = here();
        let rank = self.ndim() as i32 + 1;
        let i = if axis < 0 { axis + rank } else { axis };
        let mut shape = self.shape();
        if i < 0 || i > shape.len() as i32 {
            let d = Diagnostic::new(125, "there is no such axis").expected(format!("-{rank}..{rank}"));
            return self.fail(d.found(axis.to_string()), &at);
        }
        shape.insert(i as usize, Dim::from(1i64));
        self.make(Op::Reshape { shape: shape.into_iter().map(|d| d.0).collect() }, &[self], &at)
    }

    /// An axis of extent 1 removed.
    #[track_caller]
    pub fn squeeze(&self, axis: i32) -> Array {
        let at = here();
        let Some(i) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let mut shape: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let removed = shape.remove(i);
        if removed.as_const() != Some(1) {
            let d =
                Diagnostic::new(129, "only an axis of extent 1 is squeezed").expected("1").found(removed.to_string());
            return self.fail(d, &at);
        }
        self.make(Op::Reshape { shape }, &[self], &at)
    }

    /// Repeats to a larger shape by broadcasting.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Array {
        let at = here();
        let shape: Vec<Size> = shape.into_shape().into_iter().map(|d| d.0).collect();
        self.stretch(&shape, &at)
    }

    /// Elements `start..stop` along an axis.
    #[track_caller]
    pub fn slice(&self, axis: i32, start: impl Into<Dim>, stop: impl Into<Dim>) -> Array {
        self.slice_step(axis, start, stop, 1)
    }

    /// Elements `start, start + step, …` below `stop` along an axis.
    #[track_caller]
    pub fn slice_step(&self, axis: i32, start: impl Into<Dim>, stop: impl Into<Dim>, step: i64) -> Array {
        let at = here();
        let Some(axis) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let shape: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let mut from = vec![Size::constant(0); shape.len()];
        let mut to = shape;
        let mut steps = vec![1; from.len()];
        (from[axis], to[axis], steps[axis]) = (start.into().0, stop.into().0, step);
        self.make(Op::Slice { start: from, stop: to, step: steps }, &[self], &at)
    }

    /// Parts of given extents along an axis.
    #[track_caller]
    pub fn split(&self, extents: &[i64], axis: i32) -> Vec<Array> {
        let mut at = 0;
        extents
            .iter()
            .map(|n| {
                let part = self.slice(axis, at, at + n);
                at += n;
                part
            })
            .collect()
    }

    /// A window of run-time position along an axis.
    #[track_caller]
    pub fn dynamic_slice(&self, start: &Array, axis: i32, extent: impl Into<Dim>) -> Array {
        let at = here();
        let Some(axis) = self.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let mut sizes: Vec<Size> = self.shape().into_iter().map(|d| d.0).collect();
        let whole = std::mem::replace(&mut sizes[axis], extent.into().0);
        if let Some(id) = start.value.and_then(|s| self.inner.scalar_symbol(s)) {
            self.inner.require(whole - sizes[axis].clone() - Size::symbol(id));
        }
        self.make(Op::DynamicSlice { axes: vec![axis as u32], sizes }, &[self, start], &at)
    }

    /// Elements in reverse along an axis.
    #[track_caller]
    pub fn reverse(&self, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::Reverse { axes: vec![a as u32] }, &[self], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// `value` before and after, per axis.
    #[track_caller]
    pub fn pad(&self, widths: &[(i64, i64)], value: f64) -> Array {
        let (low, high) = widths.iter().copied().unzip();
        let value = literal(value, self.dtype());
        self.make(Op::Pad { low, high, value }, &[self], &here())
    }

    /// Joins arrays along an axis.
    #[track_caller]
    pub fn concatenate(parts: &[&Array], axis: i32) -> Array {
        let at = here();
        let first = parts.first().expect("concatenate takes at least one array");
        let Some(a) = first.axis(axis, &at) else { return Array::new(&first.inner, None) };
        let dtype = parts.iter().fold(first.dtype(), |d, p| promote(d, p.dtype()));
        let parts: Vec<Array> = parts.iter().map(|p| p.cast_at(dtype, &at)).collect();
        let refs: Vec<&Array> = parts.iter().collect();
        first.make(Op::Concat { axis: a as u32 }, &refs, &at)
    }

    /// Rows picked by integer indices along an axis; negative ones count from the end, others are clamped.
    #[track_caller]
    pub fn take(&self, indices: &Array, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::Gather { axis: a as u32 }, &[self, indices], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// Elements picked by an index for each place along an axis.
    #[track_caller]
    pub fn take_along_axis(&self, indices: &Array, axis: i32) -> Array {
        let at = here();
        match self.axis(axis, &at) {
            Some(a) => self.make(Op::TakeAlong { axis: a as u32 }, &[self, indices], &at),
            None => Array::new(&self.inner, None),
        }
    }

    /// `self` where true, else the operands: `condition.choose(a, b)`, MLX's `where`.
    #[track_caller]
    pub fn choose(&self, a: impl Into<Operand>, b: impl Into<Operand>) -> Array {
        let at = here();
        let condition = self.cast_at(DType::Bool, &at);
        let (a, b) = (a.into(), b.into());
        let scalar = |o: &Operand| match o {
            Operand::Float(x) => Some((*x, DType::F32)),
            Operand::Int(i) => Some((*i as f64, DType::I32)),
            Operand::Array(_) => None,
        };
        // Two numbers make an array of the condition's shape.
        let a = match a {
            Operand::Array(a) => a,
            number => {
                let like = match &b {
                    Operand::Array(b) => b.clone(),
                    other => {
                        let (_, d) = scalar(other).expect("an operand is an array or a number");
                        condition.cast_at(d, &at)
                    }
                };
                match like.meet(number, &at, false) {
                    Some((_, full)) => full,
                    None => return Array::new(&self.inner, None),
                }
            }
        };
        let Some((a, b)) = a.meet(b, &at, false) else { return Array::new(&self.inner, None) };
        let (Some(ca), Some(ta)) = (condition.ty(), a.ty()) else { return Array::new(&self.inner, None) };
        let Some(shape) = broadcast_shapes(&ca.shape, &ta.shape) else {
            let d = Diagnostic::new(127, "shapes do not broadcast").found(format!("{:?} and {:?}", ca.shape, ta.shape));
            return self.fail(d, &at);
        };
        let (c, a, b) = (condition.stretch(&shape, &at), a.stretch(&shape, &at), b.stretch(&shape, &at));
        c.make(Op::Select, &[&c, &a, &b], &at)
    }

    /// Matrix product over the last two axes; leading axes broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Array) -> Array {
        let at = here();
        let (Some(a), Some(b)) = (self.ty(), other.ty()) else { return Array::new(&self.inner, None) };
        if a.rank() < 2 || b.rank() < 2 {
            let d = Diagnostic::new(130, "matmul takes arrays of two axes or more").found(format!(
                "{} and {} axes",
                a.rank(),
                b.rank()
            ));
            return self.fail(d, &at);
        }
        let dtype = promote(a.dtype, b.dtype);
        let dtype = if dtype.is_float() { dtype } else { DType::F32 };
        let (x, y) = (self.cast_at(dtype, &at), other.cast_at(dtype, &at));
        let product = Op::MatMul { transpose_a: false, transpose_b: false };
        if b.rank() == 2 && a.rank() > 2 {
            // Rows of every batch at once: one product with one weight.
            let (lead, k) = (&a.shape[..a.rank() - 1], a.shape[a.rank() - 1].clone());
            let rows = lead.iter().fold(Size::constant(1), |n, d| n * d.clone());
            let flat = x.make(Op::Reshape { shape: vec![rows, k] }, &[&x], &at);
            let y = flat.make(product, &[&flat, &y], &at);
            let mut shape = lead.to_vec();
            shape.push(b.shape[1].clone());
            return y.make(Op::Reshape { shape }, &[&y], &at);
        }
        let batch = broadcast_shapes(&a.shape[..a.rank() - 2], &b.shape[..b.rank() - 2]);
        let Some(batch) = batch else {
            let d = Diagnostic::new(127, "batch axes of a product do not broadcast")
                .found(format!("{:?} and {:?}", a.shape, b.shape));
            return self.fail(d, &at);
        };
        let whole = |t: &TensorType| {
            let mut s = batch.clone();
            s.extend_from_slice(&t.shape[t.rank() - 2..]);
            s
        };
        let (x, y) = (x.stretch(&whole(&a), &at), y.stretch(&whole(&b), &at));
        x.make(product, &[&x, &y], &at)
    }

    /// Softmax over the last axis.
    #[track_caller]
    pub fn softmax(&self) -> Array {
        self.make(Op::Softmax, &[self], &here())
    }

    /// `x * rsqrt(mean(x²) + eps) * weight` over the last axis, in f32.
    #[track_caller]
    pub fn rms_norm(&self, weight: Option<&Array>, eps: f64) -> Array {
        let at = here();
        let weight = weight.map(|w| w.cast_at(self.dtype(), &at));
        let mut inputs = vec![self];
        inputs.extend(weight.as_ref());
        self.make(Op::RmsNorm { eps: eps.into() }, &inputs, &at)
    }

    /// Layer norm over the last axis, in f32.
    #[track_caller]
    pub fn layer_norm(&self, weight: Option<&Array>, bias: Option<&Array>, eps: f64) -> Array {
        let at = here();
        let weight = weight.map(|w| w.cast_at(self.dtype(), &at));
        let bias = bias.map(|w| w.cast_at(self.dtype(), &at));
        let mut inputs = vec![self];
        inputs.extend(weight.as_ref());
        inputs.extend(bias.as_ref());
        self.make(Op::LayerNorm { eps: eps.into() }, &inputs, &at)
    }

    /// Rotary position embedding of `[.., S, D]` at positions `offset + s`, halves rotated (or neighbours, if
    /// `traditional`). `frequencies` replaces `base^(-2i/dims)`.
    #[track_caller]
    pub fn rope(&self, dims: u32, traditional: bool, base: f64, offset: &Array, frequencies: Option<&Array>) -> Array {
        let op = Op::Rope { dims, traditional, base: base.into(), scale: 1.0.into() };
        let mut inputs = vec![self, offset];
        inputs.extend(frequencies);
        self.make(op, &inputs, &here())
    }

    /// Scaled dot-product attention: `self` is q `[B, H, S, D]`, k and v `[B, Hkv, T, D]`. With an offset, query `s` is at
    /// position `offset + s` and keys from `offset + S` on are not read.
    #[track_caller]
    pub fn scaled_dot_product_attention(
        &self,
        k: &Array,
        v: &Array,
        scale: f64,
        causal: bool,
        mask: Option<&Array>,
        offset: Option<&Array>,
    ) -> Array {
        let op = Op::Sdpa { scale: scale.into(), causal, mask: mask.is_some(), offset: offset.is_some() };
        let mut inputs = vec![self, k, v];
        inputs.extend(mask);
        inputs.extend(offset);
        self.make(op, &inputs, &here())
    }

    /// `activation(self) * up`.
    #[track_caller]
    pub fn gated(&self, activation: Activation, up: &Array) -> Array {
        self.make(Op::Gated(activation), &[self, up], &here())
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<T: Into<Operand>> std::ops::$trait<T> for &Array {
            type Output = Array;

            #[track_caller]
            fn $method(self, other: T) -> Array {
                self.binary(BinaryOp::$op, other.into())
            }
        }

        impl<T: Into<Operand>> std::ops::$trait<T> for Array {
            type Output = Array;

            #[track_caller]
            fn $method(self, other: T) -> Array {
                (&self).binary(BinaryOp::$op, other.into())
            }
        }

        impl std::ops::$trait<&Array> for f64 {
            type Output = Array;

            #[track_caller]
            fn $method(self, array: &Array) -> Array {
                array.reversed(BinaryOp::$op, Operand::Float(self))
            }
        }

        impl std::ops::$trait<Array> for f64 {
            type Output = Array;

            #[track_caller]
            fn $method(self, array: Array) -> Array {
                array.reversed(BinaryOp::$op, Operand::Float(self))
            }
        }
    )*};
}

operator!(Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide, Rem rem Remainder);

impl std::ops::Neg for &Array {
    type Output = Array;

    #[track_caller]
    fn neg(self) -> Array {
        self.negative()
    }
}

impl std::ops::Neg for Array {
    type Output = Array;

    #[track_caller]
    fn neg(self) -> Array {
        self.negative()
    }
}
