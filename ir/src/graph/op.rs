//! The operations of the Graph IR and their attributes.
//!
//! Ops are few and named as MLX names them. Elementwise ops take operands of one shape: the front end
//! writes broadcasts and casts out, so that no pass has to guess at them. Attributes are ground values that
//! hash and compare exactly (floats as bits).

use crate::graph::types::TensorType;
use crate::quantize::Scheme;
use mlxc_package::{DType, Size};
use std::sync::Arc;

/// An f64 that compares and hashes by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Real(u64);

impl Real {
    /// Wraps a value.
    pub fn new(value: f64) -> Self {
        Real(value.to_bits())
    }

    /// The value.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl std::fmt::Debug for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

impl From<f64> for Real {
    fn from(value: f64) -> Self {
        Real::new(value)
    }
}

/// A scalar constant; it is converted to the dtype of the value it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Literal {
    /// A float.
    Float(Real),
    /// An integer, or a bool as 0 or 1.
    Int(i64),
}

impl Literal {
    /// A float literal.
    pub fn float(value: f64) -> Self {
        Literal::Float(Real::new(value))
    }

    /// The value as f64.
    pub fn as_f64(self) -> f64 {
        match self {
            Literal::Float(r) => r.get(),
            Literal::Int(i) => i as f64,
        }
    }

    /// The value as i64, truncated.
    pub fn as_i64(self) -> i64 {
        match self {
            Literal::Float(r) => r.get() as i64,
            Literal::Int(i) => i,
        }
    }
}

/// A dense constant: little-endian elements in row-major order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dense {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<i64>,
    /// `product(shape) * dtype.bytes()` bytes.
    pub bytes: Vec<u8>,
}

macro_rules! named_ops {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name in text forms; it is MLX's.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The op of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|o| o.name() == name)
            }
        }
    };
}

named_ops! {
    /// Elementwise functions of one operand. The result has the operand's dtype, save for the `is*` tests and
    /// `logical_not`, which give bool.
    UnaryOp {
        /// `-x`.
        Negative = "negative",
        /// `|x|`.
        Abs = "abs",
        /// -1, 0 or 1; 0 for NaN.
        Sign = "sign",
        /// `x * x`.
        Square = "square",
        /// Square root, correctly rounded.
        Sqrt = "sqrt",
        /// `1 / sqrt(x)`.
        Rsqrt = "rsqrt",
        /// `1 / x`.
        Reciprocal = "reciprocal",
        /// `e^x`.
        Exp = "exp",
        /// `e^x - 1`.
        Expm1 = "expm1",
        /// Natural logarithm.
        Log = "log",
        /// Base-2 logarithm.
        Log2 = "log2",
        /// Base-10 logarithm.
        Log10 = "log10",
        /// `log(1 + x)`.
        Log1p = "log1p",
        /// Sine of radians.
        Sin = "sin",
        /// Cosine of radians.
        Cos = "cos",
        /// Tangent of radians.
        Tan = "tan",
        /// Inverse sine.
        Arcsin = "arcsin",
        /// Inverse cosine.
        Arccos = "arccos",
        /// Inverse tangent.
        Arctan = "arctan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Inverse hyperbolic sine.
        Arcsinh = "arcsinh",
        /// Inverse hyperbolic cosine.
        Arccosh = "arccosh",
        /// Inverse hyperbolic tangent.
        Arctanh = "arctanh",
        /// Error function.
        Erf = "erf",
        /// Inverse error function.
        Erfinv = "erfinv",
        /// `1 / (1 + e^-x)`.
        Sigmoid = "sigmoid",
        /// Towards minus infinity.
        Floor = "floor",
        /// Towards infinity.
        Ceil = "ceil",
        /// To nearest, ties to even.
        Round = "round",
        /// `!x` on bool.
        LogicalNot = "logical_not",
        /// `~x` on integers.
        BitwiseInvert = "bitwise_invert",
        /// True for NaN.
        IsNan = "isnan",
        /// True for either infinity.
        IsInf = "isinf",
        /// True for neither NaN nor infinity.
        IsFinite = "isfinite",
        /// `x * sigmoid(x)`.
        Silu = "silu",
        /// `x * 0.5 * (1 + erf(x / sqrt 2))`.
        Gelu = "gelu",
        /// The tanh approximation of gelu.
        GeluApprox = "gelu_approx",
        /// `max(x, 0)`.
        Relu = "relu",
        /// `log(1 + e^x)`.
        Softplus = "softplus",
    }
}

named_ops! {
    /// Elementwise functions of two operands of one dtype and shape; the result has that dtype.
    BinaryOp {
        /// Sum.
        Add = "add",
        /// Difference.
        Subtract = "subtract",
        /// Product.
        Multiply = "multiply",
        /// Quotient of floats.
        Divide = "divide",
        /// Quotient rounded towards minus infinity; an integer divided by 0 gives 0.
        FloorDivide = "floor_divide",
        /// `a - b * floor(a / b)`; an integer by 0 gives 0.
        Remainder = "remainder",
        /// `a^b`.
        Power = "power",
        /// The larger; NaN if either is.
        Maximum = "maximum",
        /// The smaller; NaN if either is.
        Minimum = "minimum",
        /// `log(e^a + e^b)`.
        LogAddExp = "logaddexp",
        /// Angle of the point (b, a).
        Arctan2 = "arctan2",
        /// Conjunction of bools.
        LogicalAnd = "logical_and",
        /// Disjunction of bools.
        LogicalOr = "logical_or",
        /// Bitwise conjunction (integers, bool).
        BitwiseAnd = "bitwise_and",
        /// Bitwise disjunction (integers, bool).
        BitwiseOr = "bitwise_or",
        /// Bitwise exclusive disjunction (integers, bool).
        BitwiseXor = "bitwise_xor",
        /// `a << b`; a count outside the width gives 0.
        LeftShift = "left_shift",
        /// `a >> b`; a count outside the width gives 0, or -1 for negative `a`.
        RightShift = "right_shift",
    }
}

impl BinaryOp {
    /// True if operands may be exchanged without changing a bit of the result.
    pub fn is_commutative(self) -> bool {
        use BinaryOp::*;
        matches!(
            self,
            Add | Multiply
                | Maximum
                | Minimum
                | LogAddExp
                | LogicalAnd
                | LogicalOr
                | BitwiseAnd
                | BitwiseOr
                | BitwiseXor
        )
    }
}

named_ops! {
    /// Elementwise comparisons; the result is bool. All but `not_equal` are false where an operand is NaN.
    CompareOp {
        /// `a == b`.
        Equal = "equal",
        /// `a != b`.
        NotEqual = "not_equal",
        /// `a < b`.
        Less = "less",
        /// `a <= b`.
        LessEqual = "less_equal",
        /// `a > b`.
        Greater = "greater",
        /// `a >= b`.
        GreaterEqual = "greater_equal",
    }
}

named_ops! {
    /// Reductions. Sums and products of half types accumulate in f32.
    ReduceOp {
        /// Sum; 0 of nothing. Of bool: i32.
        Sum = "sum",
        /// Product; 1 of nothing. Of bool: i32.
        Prod = "prod",
        /// Largest element, NaN if any is; of nothing: an error.
        Max = "max",
        /// Smallest element, NaN if any is; of nothing: an error.
        Min = "min",
        /// True if any is true.
        Any = "any",
        /// True if all are true.
        All = "all",
    }
}

named_ops! {
    /// Reductions that give the position (u32) of the first extreme element.
    ArgOp {
        /// Position of the largest.
        Max = "argmax",
        /// Position of the smallest.
        Min = "argmin",
    }
}

named_ops! {
    /// Running folds along an axis. Of half types they accumulate in f32.
    ScanOp {
        /// Running sum. Of bool: i32.
        Sum = "cumsum",
        /// Running product. Of bool: i32.
        Prod = "cumprod",
        /// Largest element so far; NaN from the first NaN on.
        Max = "cummax",
        /// Smallest element so far; NaN from the first NaN on.
        Min = "cummin",
        /// Logarithm of the running sum of exponentials, of floats.
        LogAddExp = "logcumsumexp",
    }
}

named_ops! {
    /// What a scatter does where an element is already.
    ScatterOp {
        /// The update replaces it; the last update wins.
        Set = "set",
        /// Sum; of bool: disjunction.
        Add = "add",
        /// Product; of bool: conjunction.
        Multiply = "multiply",
        /// The larger; NaN if either is.
        Max = "max",
        /// The smaller; NaN if either is.
        Min = "min",
    }
}

impl ScatterOp {
    /// The elementwise op that combines an element with an update; `None` where the update replaces it.
    pub fn binary(self, bools: bool) -> Option<BinaryOp> {
        match self {
            ScatterOp::Set => None,
            ScatterOp::Add if bools => Some(BinaryOp::LogicalOr),
            ScatterOp::Multiply if bools => Some(BinaryOp::LogicalAnd),
            ScatterOp::Add => Some(BinaryOp::Add),
            ScatterOp::Multiply => Some(BinaryOp::Multiply),
            ScatterOp::Max => Some(BinaryOp::Maximum),
            ScatterOp::Min => Some(BinaryOp::Minimum),
        }
    }
}

named_ops! {
    /// Activations a gated product applies to its gate.
    Activation {
        /// SwiGLU.
        Silu = "silu",
        /// GeGLU, exact.
        Gelu = "gelu",
        /// GeGLU, tanh approximation.
        GeluApprox = "gelu_approx",
        /// ReGLU.
        Relu = "relu",
        /// GLU.
        Sigmoid = "sigmoid",
    }
}

impl Activation {
    /// The elementwise op that computes the activation.
    pub fn unary(self) -> UnaryOp {
        match self {
            Activation::Silu => UnaryOp::Silu,
            Activation::Gelu => UnaryOp::Gelu,
            Activation::GeluApprox => UnaryOp::GeluApprox,
            Activation::Relu => UnaryOp::Relu,
            Activation::Sigmoid => UnaryOp::Sigmoid,
        }
    }
}

/// One operation. The doc of each variant lists its operands in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// The function's parameter of that position. No operands.
    Param(u32),
    /// Every element has one value. No operands.
    Full {
        /// The value, converted to `dtype`.
        value: Literal,
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<Size>,
    },
    /// A dense constant. No operands.
    Constant(Arc<Dense>),
    /// Element `i` along `axis` has value `i`. No operands.
    Iota {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<Size>,
        /// The counting axis.
        axis: u32,
    },
    /// A size as a scalar value of shape []. No operands.
    FromSize {
        /// The size.
        size: Size,
        /// Element type.
        dtype: DType,
    },
    /// `x`.
    Unary(UnaryOp),
    /// `a, b`.
    Binary(BinaryOp),
    /// `a, b`.
    Compare(CompareOp),
    /// `condition (bool), a, b`.
    Select,
    /// `x`, converted: to floats nearest even; float to integer truncates, saturates, NaN gives 0.
    Cast(DType),
    /// `x`, its bits read as another dtype of the same width; bool takes part in no bitcast. MLX's `view`.
    Bitcast(DType),
    /// `x`, repeated to `shape` by right-aligned broadcasting.
    Broadcast {
        /// Result shape.
        shape: Vec<Size>,
    },
    /// `x` with the same elements in row-major order.
    Reshape {
        /// Result shape.
        shape: Vec<Size>,
    },
    /// `x`; result axis `i` is operand axis `perm[i]`.
    Transpose {
        /// A permutation of the axes.
        perm: Vec<u32>,
    },
    /// `x`; elements `start, start + step, …` below `stop`, per axis. Steps are at least 1.
    Slice {
        /// First element, per axis.
        start: Vec<Size>,
        /// End, exclusive, per axis.
        stop: Vec<Size>,
        /// Step, per axis.
        step: Vec<i64>,
    },
    /// `x`, back to front along the given axes.
    Reverse {
        /// The reversed axes, ascending.
        axes: Vec<u32>,
    },
    /// `x`; sliding windows over some axes. Each of `axes` keeps the windows' positions and one axis for each is
    /// appended, in order: element `(.., i, .., k)` is `x[.., i * stride + k * dilation, ..]`.
    Windows {
        /// The axes, ascending.
        axes: Vec<u32>,
        /// Extents of the windows, at least 1.
        sizes: Vec<i64>,
        /// Distances between windows, at least 1.
        strides: Vec<i64>,
        /// Distances between elements of a window, at least 1.
        dilations: Vec<i64>,
    },
    /// `x`, with `low` elements before and `high` after, per axis.
    Pad {
        /// Elements before, per axis.
        low: Vec<i64>,
        /// Elements after, per axis.
        high: Vec<i64>,
        /// Their value.
        value: Literal,
    },
    /// One operand or more, joined along `axis`.
    Concat {
        /// The joining axis.
        axis: u32,
    },
    /// `x, indices`: MLX's `take`. Result shape: x's before `axis`, the indices', x's after. Indices are clamped.
    Gather {
        /// The indexed axis of x.
        axis: u32,
    },
    /// `x, indices` of one rank: MLX's `take_along_axis`.
    TakeAlong {
        /// The indexed axis.
        axis: u32,
    },
    /// `x, indices…` of one shape, one for each of `axes`: MLX's `gather`, `x[i, j]`. Result shape: the indices', then x's
    /// without `axes`. Indices are clamped.
    GatherNd {
        /// The indexed axes of x, ascending.
        axes: Vec<u32>,
    },
    /// `x, updates, indices…` of one shape, one for each of `axes`: `x` with updates of shape indices', then x's without
    /// `axes`, applied in row-major order of the indices. MLX's `at[i, j].add` and its like. Indices are clamped.
    Scatter {
        /// The indexed axes of x, ascending.
        axes: Vec<u32>,
        /// What an update does.
        reduce: ScatterOp,
    },
    /// `x, indices, updates` of one rank: `x` with an update for each index along `axis`, in order. MLX's
    /// `put_along_axis` and `scatter_add_axis`. Indices are clamped.
    ScatterAlong {
        /// The indexed axis.
        axis: u32,
        /// What an update does.
        reduce: ScatterOp,
    },
    /// `x, start…` (one i32[] for each of `axes`): a window of run-time position; starts are clamped into range.
    DynamicSlice {
        /// Axes with a run-time start, ascending.
        axes: Vec<u32>,
        /// Result shape.
        sizes: Vec<Size>,
    },
    /// `x, update, start…` (one i32[] for each of `axes`): `x` with a window replaced; starts are clamped into range.
    SliceUpdate {
        /// Axes with a run-time start, ascending; the others start at 0.
        axes: Vec<u32>,
    },
    /// `x`.
    Reduce {
        /// What is computed.
        op: ReduceOp,
        /// Reduced axes, ascending.
        axes: Vec<u32>,
        /// True keeps each reduced axis with extent 1.
        keepdims: bool,
    },
    /// `x`; u32 positions.
    ArgReduce {
        /// What is looked for.
        op: ArgOp,
        /// The reduced axis.
        axis: u32,
        /// True keeps the axis with extent 1.
        keepdims: bool,
    },
    /// `x`; a running fold along an axis.
    Scan {
        /// What is computed.
        op: ScanOp,
        /// The axis.
        axis: u32,
        /// From the last element to the first.
        reverse: bool,
        /// Element `i` leaves itself out; the first is the fold of nothing.
        exclusive: bool,
    },
    /// `x`; u32 positions that sort it along an axis, ascending, stable, NaN last. MLX's `argsort`.
    ArgSort {
        /// The axis.
        axis: u32,
    },
    /// `keys u32[.., 2]`; random integers of `width` bytes by threefry2x32, in MLX's order. Result shape: the keys'
    /// without the last axis, then `shape`. MLX's `random.bits`.
    RandomBits {
        /// Elements for each key.
        shape: Vec<Size>,
        /// Bytes of an element: 1, 2 or 4, which gives u8, u16 or u32.
        width: u32,
    },
    /// `a, b`: products of the last two axes; leading axes are batch axes and equal. Accumulates in f32.
    MatMul {
        /// a is stored [.., K, M].
        transpose_a: bool,
        /// b is stored [.., N, K].
        transpose_b: bool,
    },
    /// `a [.., M, K]`, `b [.., N, K]`: products of their rows as [`Op::MatMul`] has them, each row of a rounded to 8-bit
    /// integers (not of f64) with a scale for every `group` elements first, see [`round_int8`](crate::quantize::round_int8).
    Int8MatMul {
        /// Elements that share a scale, a divisor of K.
        group: u32,
    },
    /// `words u32[.., K * bits / 32]`, `scales [.., K / group]`, then `biases` of the scales' type for schemes that have
    /// them: the values `[.., K]` of quantised rows. Affine: `scale * code + bias`.
    Dequantize {
        /// How the rows are quantised.
        scheme: Scheme,
        /// Element type of the result, a float.
        dtype: DType,
    },
    /// `x [.., N]`, optional `weight [N]`: `x * rsqrt(mean(x²) + eps) * weight`, computed in f32.
    RmsNorm {
        /// Added to the mean of squares.
        eps: Real,
    },
    /// `x [.., N]`, optional `weight [N]`, optional `bias [N]` (only with weight), computed in f32.
    LayerNorm {
        /// Added to the variance.
        eps: Real,
    },
    /// `x`: softmax over the last axis, computed in f32.
    Softmax,
    /// `x [.., S, D]`, `offset i32[]`, optional `inverse frequencies f32[dims/2]`: rotary embedding at positions
    /// `(offset + s) * scale`.
    Rope {
        /// Rotated features, even, at most D.
        dims: u32,
        /// Rotate neighbours (2i, 2i+1) instead of halves (i, i + dims/2).
        traditional: bool,
        /// Base of the frequencies `base^(-2i/dims)`; not used where they are given.
        base: Real,
        /// Factor on positions.
        scale: Real,
    },
    /// `q [B, H, S, D]`, `k [B, Hkv, T, D]`, `v [B, Hkv, T, Dv]`, then `mask` if `mask`, then `offset i32[]` if
    /// `offset`: scaled dot-product attention; H is a multiple of Hkv. A mask broadcasts to [B, H, S, T]; bool keeps
    /// where true, float is added to the scores. Softmax in f32.
    Sdpa {
        /// Factor on the scores.
        scale: Real,
        /// Query `s` sees keys `0..=offset + s`; without an offset operand the offset is `T - S`.
        causal: bool,
        /// A mask operand is given.
        mask: bool,
        /// An offset operand is given: keys from `offset + S` on hold nothing and are not read.
        offset: bool,
        /// Query `s`, at position `p = offset + s`, sees keys from `p - window + 1` on; only with `causal`.
        window: Option<u32>,
        /// Scores become `cap * tanh(scores / cap)` after the scale and before the mask; positive.
        softcap: Option<Real>,
    },
    /// `gate, up`: `activation(gate) * up`.
    Gated(Activation),
    /// The parameters of another function of the module, in order. One result for each of its results, then one
    /// for each of its updates: the next version of the state passed for that parameter.
    Call {
        /// Position in the module's functions.
        function: u32,
        /// Number of results before the updates.
        results: u32,
        /// The callee's updated parameters, in the order of its updates.
        updates: Vec<u32>,
    },
}

impl Op {
    /// The op's name in text forms and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Param(_) => "param",
            Op::Full { .. } => "full",
            Op::Constant(_) => "constant",
            Op::Iota { .. } => "iota",
            Op::FromSize { .. } => "from_size",
            Op::Unary(o) => o.name(),
            Op::Binary(o) => o.name(),
            Op::Compare(o) => o.name(),
            Op::Select => "select",
            Op::Cast(_) => "cast",
            Op::Bitcast(_) => "bitcast",
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Slice { .. } => "slice",
            Op::Reverse { .. } => "reverse",
            Op::Windows { .. } => "windows",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::Gather { .. } => "take",
            Op::TakeAlong { .. } => "take_along",
            Op::GatherNd { .. } => "gather",
            Op::Scatter { .. } => "scatter",
            Op::ScatterAlong { .. } => "scatter_along",
            Op::DynamicSlice { .. } => "dynamic_slice",
            Op::SliceUpdate { .. } => "slice_update",
            Op::Reduce { op, .. } => op.name(),
            Op::ArgReduce { op, .. } => op.name(),
            Op::Scan { op, .. } => op.name(),
            Op::ArgSort { .. } => "argsort",
            Op::RandomBits { .. } => "random_bits",
            Op::MatMul { .. } => "matmul",
            Op::Int8MatMul { .. } => "int8_matmul",
            Op::Dequantize { .. } => "dequantize",
            Op::RmsNorm { .. } => "rms_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Softmax => "softmax",
            Op::Rope { .. } => "rope",
            Op::Sdpa { .. } => "sdpa",
            Op::Gated(_) => "gated",
            Op::Call { .. } => "call",
        }
    }

    /// True for ops that compute each element from the operands' elements of the same place.
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Compare(_)
                | Op::Select
                | Op::Cast(_)
                | Op::Bitcast(_)
                | Op::Gated(_)
                | Op::Full { .. }
        )
    }

    /// True for ops that only say where an element is found.
    pub fn is_view(&self) -> bool {
        matches!(
            self,
            Op::Broadcast { .. }
                | Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Slice { .. }
                | Op::Reverse { .. }
                | Op::Windows { .. }
                | Op::DynamicSlice { .. }
        )
    }

    /// The result's type, where the op alone gives it.
    pub fn literal_type(&self) -> Option<TensorType> {
        match self {
            Op::Full { dtype, shape, .. } | Op::Iota { dtype, shape, .. } => {
                Some(TensorType { dtype: *dtype, shape: shape.clone() })
            }
            Op::Constant(d) => {
                Some(TensorType { dtype: d.dtype, shape: d.shape.iter().map(|n| Size::constant(*n)).collect() })
            }
            Op::FromSize { dtype, .. } => Some(TensorType { dtype: *dtype, shape: Vec::new() }),
            _ => None,
        }
    }
}
