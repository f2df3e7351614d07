//! Arrays of the tracing front end: operators and methods named as MLX names them.

use super::promote::{promote, weak};
use super::shape::{Dim, IntoAxes};
use super::{Inner, here};
use mlxc_ir::graph::{
    ArgOp, BinaryOp, CompareOp, Literal, Op, ReduceOp, TensorType, UnaryOp, ValueId, broadcast_shapes,
};
use mlxc_ir::{DType, Diagnostic, Location, Size};
use std::rc::Rc;

/// A value of the function being traced. Cloning copies the handle, not the data.
#[derive(Clone)]
pub struct Array {
    pub(super) inner: Rc<Inner>,
    /// `None` after an error that was reported already.
    pub(super) value: Option<ValueId>,
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

    pub(super) fn ty(&self) -> Option<TensorType> {
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

    pub(super) fn make(&self, op: Op, inputs: &[&Array], at: &Location) -> Array {
        let values: Option<Vec<ValueId>> = inputs.iter().map(|a| a.value).collect();
        Array::new(&self.inner, values.and_then(|v| self.inner.node(op, &v, at)))
    }

    pub(super) fn fail(&self, d: Diagnostic, at: &Location) -> Array {
        if self.value.is_some() {
            self.inner.error(d, at);
        }
        Array::new(&self.inner, None)
    }

    /// Reports a mistake at the caller's line; what follows from it is silent.
    #[track_caller]
    pub(crate) fn refuse(&self, d: Diagnostic) -> Array {
        self.fail(d, &here())
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

    /// Axes counted from the front, in the order given, or an error at `at`.
    pub(super) fn axes(&self, axes: impl IntoAxes, at: &Location) -> Option<Vec<u32>> {
        axes.into_axes().into_iter().map(|a| self.axis(a, at).map(|a| a as u32)).collect()
    }

    /// As [`Array::axes`], ascending and each once.
    pub(super) fn axis_set(&self, axes: impl IntoAxes, at: &Location) -> Option<Vec<u32>> {
        let mut list = self.axes(axes, at)?;
        list.sort_unstable();
        list.dedup();
        Some(list)
    }

    #[track_caller]
    pub(super) fn unary(&self, op: UnaryOp) -> Array {
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

    pub(super) fn cast_at(&self, to: DType, at: &Location) -> Array {
        if self.dtype() == to { self.clone() } else { self.make(Op::Cast(to), &[self], at) }
    }

    /// The value in the dtype that operands meet in. Nobody wrote this cast, so it has a line and no column: that is what
    /// tells it from one that was written.
    pub(super) fn promoted(&self, to: DType, at: &Location) -> Array {
        self.cast_at(to, &Location::new(at.file.clone(), at.line, 0))
    }

    /// Both operands in one dtype and shape.
    pub(super) fn meet(&self, other: Operand, at: &Location, float: bool) -> Option<(Array, Array)> {
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
        let a = self.promoted(dtype, at);
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
        let b = b.promoted(dtype, at);
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

    pub(super) fn stretch(&self, shape: &[Size], at: &Location) -> Array {
        match self.ty() {
            Some(t) if t.shape == shape => self.clone(),
            _ => self.make(Op::Broadcast { shape: shape.to_vec() }, &[self], at),
        }
    }

    #[track_caller]
    pub(super) fn binary(&self, op: BinaryOp, other: Operand) -> Array {
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
    pub(super) fn reversed(&self, op: BinaryOp, number: Operand) -> Array {
        let at = here();
        match self.meet(number, &at, op == BinaryOp::Divide) {
            Some((a, b)) => a.make(Op::Binary(op), &[&b, &a], &at),
            None => Array::new(&self.inner, None),
        }
    }

    #[track_caller]
    pub(super) fn compare(&self, op: CompareOp, other: Operand) -> Array {
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
    pub(super) fn reduce(&self, op: ReduceOp, axes: Vec<i32>, keepdims: bool) -> Array {
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
